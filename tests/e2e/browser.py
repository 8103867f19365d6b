"""What a person does in the Airflow UI, done by a headless Chromium."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

from playwright.sync_api import Browser, FrameLocator, Page, Response, expect, sync_playwright

from persia_core.errors import EnvironmentProblem

ARGUMENTS = [
    "--no-sandbox",  # for root in a container; only loopback pages are opened
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_MS = 60_000  # a busy machine draws a page slowly


def chromium() -> str:
    """Where it is installed. Raises EnvironmentProblem."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        raise EnvironmentProblem("no Chromium on the PATH", "install it: infra/chromium.sh, as root")
    return found


@contextmanager
def headless() -> Iterator[Browser]:
    """A Chromium without a window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


class Person:
    """Somebody at a page of the Airflow at `url`."""

    def __init__(self, page: Page, url: str) -> None:
        page.set_default_timeout(PATIENCE_MS)
        self.page = page
        self.url = url

    def log_in(self, name: str, password: str) -> None:
        """By the form, to which every page leads whoever is not known."""
        self.page.goto(f"{self.url}/dags")
        self.page.locator("input[name=username]").fill(name)
        self.page.locator("input[name=password]").fill(password)
        self.page.get_by_role("button", name="Sign in").click()

    def open_dag(self, dag: str) -> None:
        """From the list of DAGs."""
        self.page.goto(f"{self.url}/dags")
        self.page.get_by_role("link", name=dag, exact=True).first.click()
        expect(self.page.get_by_role("heading", name=dag)).to_be_visible(timeout=PATIENCE_MS)

    def open_run(self, dag: str, run: str) -> None:
        """The page of a run."""
        self.page.goto(f"{self.url}/dags/{dag}/runs/{quote(run)}")
        expect(self.page.get_by_role("heading", name=run)).to_be_visible(timeout=PATIENCE_MS)

    def watch(self, state: str, limit_s: float) -> None:
        """Stay on the page of a run, without loading it again, until it shows that state."""
        badge = self.page.get_by_test_id("state-badge").first
        expect(badge).to_contain_text(re.compile(state, re.IGNORECASE), timeout=limit_s * 1000)

    def press(self, dag: str, run: str, task: str, button: str) -> Response:
        """Press a button of a task, in its details; returns the page that it leads to."""
        self.page.goto(f"{self.url}/dags/{dag}/runs/{quote(run)}/tasks/{task}/details")
        with self.page.expect_navigation() as navigation:
            self.page.get_by_role("link", name=button, exact=True).click()
        return navigation.value

    def open_models(self, theme: str) -> FrameLocator:
        """The page "Models", with Airflow's own switch on light or dark."""
        self.page.goto(f"{self.url}/plugin/models")
        self.page.evaluate(f"localStorage.setItem('theme', '{theme}')")
        self.page.reload()
        frame = self.page.frame_locator("iframe")
        frame.locator("article").first.wait_for()
        return frame

    def roll_back(self, version: str, reason: str) -> None:
        """By the button on the page "Models"; follows the link to the run."""
        frame = self.open_models("light")
        row = frame.locator(f"tr[data-version='{version}']")
        row.get_by_role("button", name="Roll back …").click()
        row.get_by_label("Reason").fill(reason)
        row.get_by_role("button", name="Roll back to this version").click()
        row.get_by_role("link", name="Started: see the run").click()
        self.page.wait_for_url("**/dags/rollback_model/runs/**")
