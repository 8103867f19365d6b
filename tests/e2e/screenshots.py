"""Takes the pictures of the Airflow UI that stand in the documentation. Needs a running platform.

persia demo --keep && python -m tests.e2e.screenshots docs/images
"""

import argparse
import json
import logging
import shutil
from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import Browser, Page, sync_playwright

from persia_core.errors import EnvironmentProblem
from persia_core.platform.state import load_state

log = logging.getLogger(__name__)

BROWSER_ARGUMENTS = [
    "--no-sandbox",  # for root in a container; only loopback pages are opened
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SIZES = {"grid": (1440, 720), "graph": (1440, 480)}
PANELS = {"grid": (27, 73), "graph": (66, 34)}  # per cent of the width: left, right


def main() -> None:
    """Save `<dag>_grid.png` (all runs) and `<dag>.png` (graph of the newest good run) in a directory."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--dag", default="daily_retrain_movielens_dlrm")
    arguments = parser.parse_args()
    state = load_state()
    browser_path = shutil.which("chromium") or shutil.which("google-chrome")
    if state is None:
        raise EnvironmentProblem("the platform is not up", "persia platform up, or persia demo --keep")
    if browser_path is None:
        raise EnvironmentProblem("no chromium on the PATH", "install it: apt-get install chromium")
    arguments.out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=BROWSER_ARGUMENTS)
        grid(_page(browser, "grid"), state.airflow_url, arguments.dag, arguments.out)
        graph(_page(browser, "graph"), state.airflow_url, arguments.dag, arguments.out)
        browser.close()


def grid(page: Page, url: str, dag: str, out: Path) -> None:
    """The overview of a DAG: every run and task in the grid, durations beside it."""
    page.goto(f"{url}/dags/{dag}")
    page.get_by_text("Dag Runs").first.wait_for()
    _save(page, out / f"{dag}_grid.png")


def graph(page: Page, url: str, dag: str, out: Path) -> None:
    """The graph of the newest successful run, each task in the colour of its state."""
    page.goto(f"{url}/dags/{dag}")  # logs in
    page.get_by_text("Dag Runs").first.wait_for()
    query = f"{url}/api/v2/dags/{dag}/dagRuns?state=success&order_by=-run_after&limit=1"
    runs = page.request.get(query).json()["dag_runs"]
    if not runs:
        raise EnvironmentProblem(f"no run of {dag} has succeeded yet", "persia demo --keep")
    page.goto(f"{url}/dags/{dag}/runs/{quote(runs[0]['dag_run_id'])}")
    page.locator(".react-flow__node").last.wait_for()
    page.add_style_tag(content=".react-flow__minimap, .react-flow__panel { display: none }")
    _save(page, out / f"{dag}.png")


def _page(browser: Browser, view: str) -> Page:
    width, height = SIZES[view]
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme="light")
    panels = {"details-panel,main-panel": {"expandToSizes": {}, "layout": PANELS[view]}}
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
