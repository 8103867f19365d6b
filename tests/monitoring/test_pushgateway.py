"""Pushing to a real Pushgateway: it takes what is sent, and shows counters that go on."""

import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from persia_core.cli import build_parser, run
from persia_core.exit_codes import ExitCode
from persia_core.platform.ports import free_port
from tests.monitoring.programs import PUSHGATEWAY
from tests.support.small_config import small_config
from tests.support.waiting import wait_for
from tests.unit.test_monitoring import read

pytestmark = pytest.mark.skipif(
    not PUSHGATEWAY.exists(), reason="no Pushgateway: make monitoring-tests unpacks one"
)


def get(url: str) -> str | None:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - a loopback URL of ours
            return str(answer.read().decode())
    except OSError:
        return None


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[str]:
    address = f"127.0.0.1:{free_port(19091)}"
    with (tmp_path / "gateway.log").open("wb") as log:
        process = subprocess.Popen([PUSHGATEWAY, f"--web.listen-address={address}"], stdout=log, stderr=log)
    try:
        wait_for(lambda: get(f"http://{address}/-/ready"), "a Pushgateway", 30.0)
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait()


def test_a_pushgateway_shows_what_the_stages_count(
    gateway: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERSIA_HOME", str(tmp_path / "home"))
    section = {"pushgateway": gateway, "instance": "host-1"}
    document = small_config(storage={"url": f"file://{tmp_path}/store"}, metrics=section).model_dump(
        mode="json"
    )
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(document))
    config = ["--config", str(tmp_path / "model.yaml")]
    for words in (["retire", *config], ["sweep", *config], ["retire", *config]):
        arguments = build_parser().parse_args(words)
        assert run(arguments.run, arguments) == ExitCode.OK
    found = read(get(f"{gateway}/metrics") or "")

    def labels(stage: str, **more: str) -> tuple[tuple[str, str], ...]:
        pairs = {"instance": "host-1", "job": "persia", "model": "small", "stage": stage, **more}
        return tuple(sorted(pairs.items()))

    assert found["persia_stage_runs_total", labels("retire", exit_code="OK")] == 2
    assert found["persia_stage_runs_total", labels("sweep", exit_code="OK")] == 1
    assert found["persia_stage_seconds_count", labels("retire")] == 2
    assert found["push_failure_time_seconds", labels("retire")] == 0
