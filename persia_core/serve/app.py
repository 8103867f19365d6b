"""The HTTP interface: /predict, /healthz, /metrics, and a page to try one prediction."""

import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib import resources
from typing import Annotated, Any

import anyio
import numpy as np
from fastapi import FastAPI, HTTPException, Response
from fastapi.responses import HTMLResponse, JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ConfigDict, Field

from persia_core.config import ModelConfig
from persia_core.config.features import DenseFeature
from persia_core.data.rows import RawRow, hash_rows
from persia_core.serve.follow import Follower, InUse
from persia_core.serve.metrics import ServeMetrics

log = logging.getLogger(__name__)

MAX_ROWS = 4096  # of one request
PREDICTIONS_AT_ONCE = 1

Value = str | bool | int | float | None
Cell = Value | list[Value]


class PredictRequest(BaseModel):
    """Raw rows as the click log has them, without the label: column name -> value."""

    model_config = ConfigDict(extra="forbid")

    rows: Annotated[list[dict[str, Cell]], Field(min_length=1, max_length=MAX_ROWS)]


class RejectedRow(BaseModel):
    """A row that cannot be read, by its place in the request."""

    row: int
    reason: str


class PredictResponse(BaseModel):
    """`probabilities` has a value for every row of the request, null for a rejected one."""

    model: str
    version: str
    probabilities: list[float | None]
    rejected: list[RejectedRow]


def create_app(config: ModelConfig, follower: Follower, metrics: ServeMetrics) -> FastAPI:
    """The application; it starts and stops `follower`."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        follower.stop()

    app = FastAPI(title=f"persia serve: {config.name}", lifespan=lifespan, docs_url=None, redoc_url=None)

    # Hashing rows is Python: more of them at once only take the interpreter from each other, and from the
    # thread that reads requests and writes answers.
    at_once = anyio.CapacityLimiter(PREDICTIONS_AT_ONCE)

    @app.post("/predict")
    async def predict(request: PredictRequest) -> PredictResponse:
        return await anyio.to_thread.run_sync(answer, request, limiter=at_once)

    def answer(request: PredictRequest) -> PredictResponse:
        in_use = follower.in_use
        if in_use is None:
            metrics.requests.labels("not_ready").inc()
            raise HTTPException(503, "no model is loaded yet")
        started = time.perf_counter()
        try:
            response = _predict(config, in_use, request.rows, metrics)
        except TypeError as error:
            metrics.requests.labels("bad_request").inc()
            raise HTTPException(422, str(error)) from error
        metrics.seconds.observe(time.perf_counter() - started)
        metrics.requests.labels("ok").inc()
        return response

    @app.get("/healthz")
    def healthz() -> JSONResponse:
        in_use = follower.in_use
        document: dict[str, Any] = {"model": config.name, "ready": in_use is not None}
        document["error"] = follower.error
        if in_use is not None:
            document |= {"version": in_use.version, "ds": in_use.ds, "in_use_since": in_use.since}
        return JSONResponse(document, 200 if in_use is not None else 503)

    @app.get("/metrics")
    def prometheus() -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/schema")
    def schema() -> dict[str, Any]:
        return {"model": config.name, "columns": input_columns(config)}

    @app.get("/", response_class=HTMLResponse)
    def page() -> str:
        found = resources.files("persia_core.serve").joinpath("templates/try.html")
        return found.read_text(encoding="utf-8")

    return app


def input_columns(config: ModelConfig) -> list[dict[str, Any]]:
    """Name and kind of every raw column that a row may have, in order of the features."""
    columns: dict[str, dict[str, Any]] = {}
    if config.dataset.time_column is not None:
        columns[config.dataset.time_column] = {"kind": "time", "required": True}
    for feature in config.features:
        if feature.kind in ("cross", "timestamp"):
            continue  # made of other columns
        name = getattr(feature, "column", None) or feature.name
        number = isinstance(feature, DenseFeature) or feature.kind == "bucketised"
        kind = "number" if number else "list" if feature.kind == "multi-categorical" else "value"
        columns.setdefault(name, {"kind": kind, "required": getattr(feature, "missing", None) == "reject"})
    return [{"name": name, **about} for name, about in columns.items()]


def _predict(
    config: ModelConfig, in_use: InUse, rows: Sequence[RawRow], metrics: ServeMetrics
) -> PredictResponse:
    hashed = hash_rows(config, rows, labelled=False)
    rejected = dict(hashed.rejected)
    probabilities: list[float | None] = [None] * len(rows)
    if hashed.table.num_rows:
        scores = in_use.model.predict(hashed.table)
        kept = [place for place in range(len(rows)) if place not in rejected]
        for place, score in zip(kept, np.asarray(scores, np.float64).tolist(), strict=True):
            probabilities[place] = score
    metrics.rows.labels("predicted").inc(hashed.table.num_rows)
    metrics.rows.labels("rejected").inc(len(rejected))
    return PredictResponse(
        model=config.name,
        version=in_use.version,
        probabilities=probabilities,
        rejected=[RejectedRow(row=place, reason=reason) for place, reason in hashed.rejected],
    )
