"""Handing samples on: to a Pushgateway, and to a directory that node_exporter reads."""

import os
from pathlib import Path
from typing import Any

from persia_core.config.metrics import Metrics
from persia_core.monitoring.ledger import file_name, write_whole
from persia_core.monitoring.names import MODEL, STAGE
from persia_core.monitoring.samples import Samples

JOB = "persia"
USER_VARIABLE = "PERSIA_PUSHGATEWAY_USER"
PASSWORD_VARIABLE = "PERSIA_PUSHGATEWAY_PASSWORD"  # noqa: S105 - a name


def push(section: Metrics, instance: str, model: str, stage: str, samples: Samples) -> None:
    """Put `samples` in place of what the gateway has of this instance, model and stage.

    With USER_VARIABLE and PASSWORD_VARIABLE in the environment, by basic authentication. Raises OSError when
    the gateway does not take them.
    """
    if section.pushgateway is None:
        return
    from prometheus_client import push_to_gateway

    registry: Any = samples  # anything with collect()
    push_to_gateway(
        section.pushgateway,
        job=JOB,
        registry=registry,
        grouping_key={"instance": instance, MODEL: model, STAGE: stage},
        timeout=section.push_timeout_s,
        handler=_handler,
    )


def _handler(url: str, method: str, timeout: float | None, headers: Any, data: bytes) -> Any:
    from prometheus_client.exposition import basic_auth_handler, default_handler

    if user := os.environ.get(USER_VARIABLE):
        password = os.environ.get(PASSWORD_VARIABLE, "")
        return basic_auth_handler(url, method, timeout, headers, data, user, password)
    return default_handler(url, method, timeout, headers, data)


def write_textfile(section: Metrics, model: str, stage: str, samples: Samples) -> None:
    """Replace the file of this model and stage in the collector's directory. Raises OSError."""
    if section.textfile_dir is not None:
        write_whole(Path(section.textfile_dir) / file_name(model, stage), samples.to_text())
