"""Whose pages a user may read, and what a page says when there is nothing to show."""

import contextlib
from collections.abc import Iterator
from typing import Any

from fastapi import HTTPException

from persia_core.airflow.factory.models import ScheduledModel, scheduled_models
from persia_core.airflow.models_page.access import may_read, may_read_logs
from persia_core.config.home import project_dir
from persia_core.errors import PersiaError, StorageUnavailable
from persia_core.handoff.object_store import NotFound

# What was made by a run is data: it may bring its own style and drawings, and nothing else.
DATA_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def all_models() -> list[ScheduledModel]:
    """Those of the project directory that the API server runs in."""
    return scheduled_models(project_dir() / "configs")


def readable_model(user: Any, name: str) -> ScheduledModel:
    """The model of that name; HTTP 404 if there is none that the user may read."""
    for model in all_models():
        if model.name == name and may_read(user, name):
            return model
    raise HTTPException(404, f"there is no model {name!r} that you may read")


def model_with_logs(user: Any, name: str) -> ScheduledModel:
    """The same, for who may read the logs of its tasks, too."""
    model = readable_model(user, name)
    if not may_read_logs(user, name):
        raise HTTPException(403, f"you may not read the logs of {name}")
    return model


def reader_of(user: Any, dataset: str) -> ScheduledModel:
    """A model that reads this dataset; HTTP 404 if there is none that the user may read."""
    for model in all_models():
        if model.config.dataset.name == dataset and may_read(user, model.name):
            return model
    raise HTTPException(404, f"no model that you may read has a dataset {dataset!r}")


@contextlib.contextmanager
def answered(missing: str) -> Iterator[None]:
    """Turn what a store or a name can be wrong in into an HTTP status; `missing` says what is not there."""
    try:
        yield
    except (NotFound, FileNotFoundError, ValueError):
        raise HTTPException(404, missing) from None
    except PersiaError as error:
        raise HTTPException(503 if isinstance(error, StorageUnavailable) else 502, str(error)) from error
