"""Takes the pictures of the Airflow UI that stand in the documentation, on a platform with the demo's runs.

persia demo --keep && python -m tests.e2e.screenshots docs/images
"""

import argparse
import json
import logging
from pathlib import Path

from playwright.sync_api import Browser, Page

from persia_core.airflow import names
from persia_core.errors import EnvironmentProblem
from persia_core.platform.state import load_state
from tests.e2e.browser import Person, headless

log = logging.getLogger(__name__)

LEFT = {"grid": 27, "graph": 72}  # per cent of the width that the grid or the graph has


def main() -> None:
    """Save a picture of each page that people look at, of the newest good run of a DAG."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="movielens_dlrm")
    parser.add_argument("--url", help="of another API server of the same Airflow")
    arguments = parser.parse_args()
    state = load_state()
    if state is None:
        raise EnvironmentProblem("the platform is not up", "persia platform up, or persia demo --keep")
    arguments.out.mkdir(parents=True, exist_ok=True)
    with headless() as browser:
        pictures(browser, arguments.url or state.airflow_url, arguments.model, arguments.out)


def pictures(browser: Browser, url: str, model: str, out: Path) -> None:
    """Overview and graph of the DAG, a task with its buttons, what they lead to, and the page "Models"."""
    dag = names.daily_retrain(model)
    person = Person(_page(browser, "grid", 1280, 600), url)
    person.open_dag(dag)
    run = _newest_good_run(person.page, url, dag)
    _expand(person.page)
    _save(person.page, out / "daily_retrain_grid.png")
    person.page.goto(f"{url}/dags/{dag}/runs/{run}/tasks/{names.VALIDATE_MODEL}/details")
    person.page.get_by_role("link", name="Run report").wait_for()
    _save(person.page, out / "task_buttons.png")
    person.page.set_viewport_size({"width": 1280, "height": 800})
    for task, button, picture in (
        (names.VALIDATE_PARTITION, "Data Docs", "data_docs.png"),
        (names.PUBLISH, "Run report", "model_report.png"),
    ):
        person.press(dag, run, task, button)
        _save(person.page, out / picture)
    for theme in ("light", "dark"):
        person.open_models(theme)
        _save(person.page, out / f"models_{theme}.png")
    row = person.open_models("light").locator("tr[data-version]").nth(1)
    row.get_by_role("button").first.click()
    row.get_by_label("Reason").fill("clicks fell since Thursday")
    _save(person.page, out / "roll_back.png")
    person = Person(_page(browser, "graph", 1440, 420), url)
    person.open_dag(dag)
    person.open_run(dag, run)
    person.page.add_style_tag(content=".react-flow__minimap, .react-flow__panel { display: none }")
    _expand(person.page)
    _save(person.page, out / "daily_retrain.png")


def _newest_good_run(page: Page, url: str, dag: str) -> str:
    query = f"{url}/api/v2/dags/{dag}/dagRuns?state=success&order_by=-run_after&limit=1"
    runs = page.request.get(query).json()["dag_runs"]
    if not runs:
        raise EnvironmentProblem(f"no run of {dag} has succeeded yet", "persia demo --keep")
    return str(runs[0]["dag_run_id"])


def _expand(page: Page) -> None:
    """Show the tasks inside the groups."""
    page.get_by_test_id("expand-all-button").first.click()


def _page(browser: Browser, view: str, width: int, height: int) -> Page:
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme="light")
    layout = (LEFT[view], 100 - LEFT[view])
    panels = {"details-panel,main-panel": {"expandToSizes": {}, "layout": layout}}
    for key, value in (("default_dag_view", view), (f"react-resizable-panels:{view}-ltr", panels)):
        page.add_init_script(f"localStorage.setItem({json.dumps(key)}, {json.dumps(json.dumps(value))})")
    return page


def _save(page: Page, picture: Path) -> None:
    page.wait_for_timeout(2500)  # for the UI's transitions to come to rest; a picture, not a test
    page.mouse.move(1, 1)
    page.screenshot(path=str(picture))
    log.info("saved %s", picture)


if __name__ == "__main__":
    main()
