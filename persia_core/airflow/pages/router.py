"""The pages behind the buttons of tasks. Every request needs a user that Airflow knows."""

from pathlib import Path

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter
from fastapi.responses import HTMLResponse, PlainTextResponse, Response

from persia_core.airflow.factory.models import ScheduledModel
from persia_core.airflow.models_page.stores import store_of
from persia_core.airflow.pages import addresses
from persia_core.airflow.pages.data_docs import data_docs_page
from persia_core.airflow.pages.ranks import end_of_log, rank_logs
from persia_core.airflow.pages.reading import (
    DATA_POLICY,
    answered,
    model_with_logs,
    readable_model,
    reader_of,
)
from persia_core.airflow.pages.render import page_policy, render
from persia_core.airflow.pages.version import version_page
from persia_core.checkpoint.layout import TENSORBOARD, run_directory
from persia_core.config.home import project_dir, work_dir
from persia_core.handoff.layout import check_ds, check_name

_NOTHING = (
    "the run directory {} is not on this host: the run has not begun, its files were removed, or they lie on "
    "a host whose PERSIA_HOME the API server does not see. The task's own log has every line too."
)


def task_pages() -> APIRouter:
    """Routes of `persia_core.airflow.pages.addresses`, but for those of the page "Models"."""
    router = APIRouter()

    @router.get(addresses.VERSION, response_class=HTMLResponse)
    def version(name: str, version: str, user: GetUserDep) -> HTMLResponse:
        model = readable_model(user, name)
        with answered(f"{name} has no version {version!r}"):
            return _page(version_page(store_of(model.config.storage), name, version))

    @router.get(addresses.DATA_DOCS, response_class=HTMLResponse)
    def data_docs(dataset: str, ds: str, page: str, user: GetUserDep) -> HTMLResponse:
        model = reader_of(user, dataset)
        with answered(f"there is no page {page!r} in the Data Docs of {dataset}, {ds}"):
            html = data_docs_page(store_of(model.config.storage), dataset, ds, page)
        return HTMLResponse(html, headers={"Content-Security-Policy": DATA_POLICY})

    @router.get(addresses.RANKS, response_class=HTMLResponse)
    def ranks(name: str, ds: str, run: str, user: GetUserDep) -> HTMLResponse:
        with answered("no training run has such a name"):
            directory = _run_directory(model_with_logs(user, name), ds, run)
        return _page(
            render(
                "ranks.html.j2",
                model=name,
                ds=ds,
                run=run,
                directory=directory,
                logs=rank_logs(directory),
                nothing=_NOTHING.format(directory),
            )
        )

    @router.get(addresses.RANK_LOG, response_class=PlainTextResponse)
    def rank_log(name: str, ds: str, run: str, log: str, user: GetUserDep) -> Response:
        model = model_with_logs(user, name)
        with answered(f"there is no log {log!r} of {run}"):
            text = end_of_log(_run_directory(model, ds, run), log)
        headers = {"Content-Security-Policy": DATA_POLICY, "X-Content-Type-Options": "nosniff"}
        return Response(text, media_type="text/plain; charset=utf-8", headers=headers)

    @router.get(addresses.TENSORBOARD, response_class=HTMLResponse)
    def tensorboard(name: str, ds: str, run: str, user: GetUserDep) -> HTMLResponse:
        model = readable_model(user, name)
        with answered("no training run has such a name"):
            directory = _run_directory(model, ds, run)
        events = directory / TENSORBOARD
        return _page(
            render(
                "tensorboard.html.j2",
                model=name,
                ds=ds,
                run=run,
                file=model.file,
                wanted=model.config.training.tensorboard,
                events=events,
                there=events.is_dir(),
                of_all_days=directory.parents[1],
                nothing=_NOTHING.format(directory),
            )
        )

    return router


def _run_directory(model: ScheduledModel, ds: str, run: str) -> Path:
    """Raises ValueError for what is no day or no name."""
    return run_directory(work_dir(project_dir()), model.name, check_ds(ds), check_name("run", run))


def _page(html: str) -> HTMLResponse:
    return HTMLResponse(html, headers={"Content-Security-Policy": page_policy(), "Cache-Control": "no-store"})
