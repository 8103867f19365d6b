"""What registers our pages and timetable with Airflow: an entry point of the group `airflow.plugins`."""

from collections.abc import MutableMapping
from typing import Any

from airflow.plugins_manager import AirflowPlugin

from persia_core.airflow.pages.addresses import MODELS, URL_PREFIX
from persia_core.airflow.timetable import BackfillOnlyTimetable


class LazyApp:
    """The ASGI application, imported at its first request.

    Every process of Airflow loads every plugin; only the API server ever serves these pages.
    """

    def __init__(self) -> None:
        self._app: Any = None

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        """Serve one request."""
        if self._app is None:
            from persia_core.airflow.models_page.app import models_app

            self._app = models_app()
        await self._app(scope, receive, send)


class ModelsPlugin(AirflowPlugin):
    """An entry of the navigation, the application behind it, and the timetable of DAGs without a clock."""

    name = "persia_models"
    timetables = [BackfillOnlyTimetable]  # noqa: RUF012  (Airflow's own declaration)
    fastapi_apps = [{"app": LazyApp(), "url_prefix": URL_PREFIX, "name": "Persia models"}]  # noqa: RUF012
    external_views = [  # noqa: RUF012  (Airflow's own declaration)
        {
            "name": "Models",
            "href": f"{URL_PREFIX}{MODELS}",
            "destination": "nav",
            "url_route": "models",
            "nav_top_level": True,
        }
    ]
