"""Buttons beside a task in the Airflow UI: where its work can be looked at.

Where a button leads is known when the task runs. The operator keeps the addresses, Airflow stores each in an
XCom of the task, and the UI reads it there; a button without an address is not shown.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from airflow.sdk import BaseOperatorLink, conf

from persia_core.airflow.pages import addresses


class PageLink(BaseOperatorLink):
    """A button whose address is among `addresses` of the operator, under the button's name."""

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Its address; empty if the task has none for it."""
        return str(operator.addresses.get(self.name, ""))


class RunReport(PageLink):
    """report.html of the version."""

    name = "Run report"


class ModelVersion(PageLink):
    """What is known of the version: metrics, lineage, verdict, parts."""

    name = "Model version"


class DataDocs(PageLink):
    """The verdict on the partition, with the pages of Great Expectations behind it."""

    name = "Data Docs"


class RankLogs(PageLink):
    """How each rank of the job is, and what it said."""

    name = "Logs by rank"


class TensorBoard(PageLink):
    """The curves of the run."""

    name = "TensorBoard"


def of_result(model: str, result: Any) -> dict[str, str]:
    """Name of a button -> address, as far as the result of a command tells, of a failed one too."""
    found: dict[str, str] = {}
    if not isinstance(result, Mapping):
        return found
    if model and (version := result.get("version")):
        found[RunReport.name] = _here(addresses.REPORT, name=model, version=version)
        found[ModelVersion.name] = _here(addresses.VERSION, name=model, version=version)
    if key := result.get("data_docs"):
        found[DataDocs.name] = _here(addresses.OF_A_KEY, key=key)
    return found


def of_run(model: str, ds: str, run: str, tensorboard_url: str | None) -> dict[str, str]:
    """The same of a training run. `tensorboard_url`: of a TensorBoard that shows the working directory."""
    place = {"name": model, "ds": ds, "run": run}
    curves = _here(addresses.TENSORBOARD, **place)
    if tensorboard_url:
        curves = f"{tensorboard_url.rstrip('/')}/?runFilter={quote(run, safe='')}#timeseries"
    return {RankLogs.name: _here(addresses.RANKS, **place), TensorBoard.name: curves}


def _here(pattern: str, **values: Any) -> str:
    """Without host: the same server shows it, whichever way a person reaches that."""
    base = urlsplit(conf.get("api", "base_url", fallback="/")).path.rstrip("/")
    return base + addresses.URL_PREFIX + addresses.fill(pattern, **values)
