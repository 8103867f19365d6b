"""The application behind the page. Every request needs a user that Airflow knows."""

import hashlib
import secrets

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from persia_core.airflow.factory.models import ScheduledModel
from persia_core.airflow.models_page.access import may_read, may_roll_back
from persia_core.airflow.models_page.overview import overview
from persia_core.airflow.models_page.page import Section, models_page
from persia_core.airflow.models_page.stores import store_of
from persia_core.airflow.pages import addresses
from persia_core.airflow.pages.reading import DATA_POLICY, all_models, answered, readable_model
from persia_core.airflow.pages.router import task_pages
from persia_core.errors import Corrupt, PersiaError, StorageUnavailable
from persia_core.handoff.layout import version_prefix
from persia_core.handoff.models import read_version
from persia_core.handoff.object_store import NotFound, ObjectStore
from persia_core.handoff.report import REPORT

_PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; connect-src 'self'; script-src 'nonce-{nonce}'"


def models_app() -> FastAPI:
    """The page "Models", the report of each version, and the pages that tasks have buttons for."""
    app = FastAPI(title="Persia models", openapi_url=None)

    @app.get(addresses.MODELS, response_class=HTMLResponse)
    def models(user: GetUserDep) -> HTMLResponse:
        nonce = secrets.token_urlsafe(16)
        visible = [model for model in all_models() if may_read(user, model.name)]
        page = models_page(_sections(visible), nonce, may_roll_back=may_roll_back(user))
        headers = {"Content-Security-Policy": _PAGE_POLICY.format(nonce=nonce), "Cache-Control": "no-store"}
        return HTMLResponse(page, headers=headers)

    @app.get(addresses.REPORT, response_class=HTMLResponse)
    def report(name: str, version: str, user: GetUserDep) -> HTMLResponse:
        model = readable_model(user, name)
        with answered(f"version {version!r} of {name} has no report"):
            page = verified_report(store_of(model.config.storage), name, version)
        return HTMLResponse(page, headers={"Content-Security-Policy": DATA_POLICY})

    app.include_router(task_pages())
    return app


def verified_report(store: ObjectStore, model: str, version: str) -> bytes:
    """The report of a version, as its manifest describes it. Raises NotFound and Corrupt."""
    manifest = read_version(store, model, version).manifest
    part = next((part for part in manifest.parts if part.path == REPORT), None)
    if part is None:
        raise NotFound(REPORT)
    key = version_prefix(model, version) + REPORT
    data = store.get(key).data
    if len(data) != part.size or hashlib.sha256(data).hexdigest() != part.sha256:
        raise Corrupt(
            f"{store.uri(key)} is not the report that the manifest describes", "publish the version again"
        )
    return data


def _sections(models: list[ScheduledModel]) -> list[Section]:
    """A store that is out of reach is asked once, not once for every model that it holds."""
    unreachable: dict[str, str] = {}
    sections = []
    for model in models:
        url = model.config.storage.url
        try:
            if url in unreachable:
                sections.append(Section(model.name, problem=unreachable[url]))
                continue
            sections.append(Section(model.name, overview(store_of(model.config.storage), model.name)))
        except PersiaError as error:
            if isinstance(error, StorageUnavailable):
                unreachable[url] = str(error)
            sections.append(Section(model.name, problem=str(error)))
    return sections
