"""Where the metrics of the stages go. Without a destination nothing is counted."""

from typing import Annotated

from pydantic import Field

from persia_core.config.base import Section


class Metrics(Section):
    """What belongs to a deployment more than to a model: the environment has the last word (`load.py`)."""

    # Of a Prometheus Pushgateway, without credentials: these come from the environment.
    pushgateway: Annotated[str, Field(pattern=r"^https?://[^/@\s]+(/[^@\s]*)?$")] | None = None
    push_timeout_s: Annotated[float, Field(gt=0, le=60)] = 5.0
    # An absolute directory that the textfile collector of node_exporter reads.
    textfile_dir: Annotated[str, Field(pattern=r"^/")] | None = None
    # Who counts: the host, unless this names something that stays when hosts come and go.
    instance: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")] | None = None
