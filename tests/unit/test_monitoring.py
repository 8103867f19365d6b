"""Counting the ends of stages: against prometheus_client's own metrics, and at a real HTTP server."""

import json
import logging
import threading
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import yaml
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.parser import text_string_to_metric_families

from persia_core.cli import build_parser, run
from persia_core.errors import ConfigError
from persia_core.exit_codes import ExitCode
from persia_core.monitoring import names
from persia_core.monitoring.ledger import Ledger
from persia_core.monitoring.names import METRICS, STAGES
from persia_core.monitoring.samples import Samples
from persia_core.monitoring.stages import Ended, samples_of
from tests.support.small_config import small_config

Found = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def read(text: str) -> Found:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class Gateway:
    """Takes pushes as a Pushgateway does, or refuses them."""

    def __init__(self) -> None:
        self.pushed: list[tuple[str, str, str | None, Found]] = []  # method, path, authorization, content
        self.status = 200
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                gateway.pushed.append(
                    (self.command, self.path, self.headers.get("Authorization"), read(body))
                )
                self.send_response(gateway.status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    found = Gateway()
    thread = threading.Thread(target=found.server.serve_forever, daemon=True)
    thread.start()
    yield found
    found.server.shutdown()
    found.server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("PERSIA_PUSHGATEWAY", "PERSIA_METRICS_DIR", "PERSIA_PUSHGATEWAY_USER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PERSIA_METRICS_INSTANCE", "host-1")
    monkeypatch.setenv("PERSIA_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration whose store is empty: its partitions are missing."""
    document = small_config(storage={"url": f"file://{tmp_path}/store"}).model_dump(mode="json")
    path = tmp_path / "model.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def retire(config: Path, *more: str) -> int:
    """A stage that succeeds on an empty store."""
    arguments = build_parser().parse_args(["retire", "--config", str(config), *more])
    return run(arguments.run, arguments)


def promote(config: Path) -> int:
    """A stage that fails on an empty store."""
    arguments = build_parser().parse_args(["promote", "--config", str(config), "--version", "2026-11-20-0"])
    return run(arguments.run, arguments)


def runs(stage: str, code: str, model: str = "small") -> tuple[str, tuple[tuple[str, str], ...]]:
    return "persia_stage_runs_total", (("exit_code", code), ("model", model), ("stage", stage))


def test_two_runs_add_up_as_in_one_process_of_prometheus_client() -> None:
    rng = np.random.default_rng(1)
    registry = CollectorRegistry()
    seconds = Histogram(
        names.STAGE_SECONDS.name, "s", ["model", "stage"],
        buckets=names.STAGE_SECONDS.buckets, registry=registry,
    )  # fmt: skip
    rows = Counter(names.HASH_REJECTED_ROWS.name, "s", ["model", "reason"], registry=registry)
    together = Samples("m")
    for _ in range(2):
        one = Samples("m")
        for value in [*rng.exponential(900, 50).tolist(), *names.STAGE_SECONDS.buckets]:
            seconds.labels(model="m", stage="hash").observe(value)
            one.observe(names.STAGE_SECONDS, value, stage="hash")
            rows.labels(model="m", reason='a "quoted" \\ one').inc(value)
            one.add(names.HASH_REJECTED_ROWS, value, reason='a "quoted" \\ one')
        # As the next process finds it.
        together = Samples.from_text("m", together.to_text().decode()).followed_by(one)
    expected = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in registry.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }
    found = read(together.to_text().decode())
    assert found.keys() == expected.keys()
    assert [found[key] for key in expected] == pytest.approx(list(expected.values()))


def test_a_gauge_is_replaced_and_the_newest_partition_never_goes_back() -> None:
    first, late = Samples("m"), Samples("m")
    first.set(names.GATE_PASSED, 1)
    first.set(names.STAGE_PARTITION, 200, stage="train")
    late.set(names.GATE_PASSED, 0)
    late.set(names.STAGE_PARTITION, 100, stage="train")
    found = {name: value for (name, _), value in first.followed_by(late).values.items()}
    assert found == {names.GATE_PASSED.name: 0, names.STAGE_PARTITION.name: 200}


def test_figures_of_another_version_of_the_software_are_left_out() -> None:
    text = (
        '# TYPE persia_no_more_total counter\npersia_no_more_total{model="m"} 3\n'
        "# TYPE persia_stage_seconds histogram\n"  # with other buckets
        'persia_stage_seconds_bucket{le="2.0",model="m",stage="hash"} 1\n'
        'persia_stage_seconds_bucket{le="+Inf",model="m",stage="hash"} 1\n'
        'persia_stage_seconds_sum{model="m",stage="hash"} 1\n'
        'persia_stage_seconds_count{model="m",stage="hash"} 1\n'
        '# TYPE persia_hash_rows_total counter\npersia_hash_rows_total{model="m"} 5\n'
    )
    assert Samples.from_text("m", text).values == {("persia_hash_rows_total", (("model", "m"),)): 5}


def test_names_are_those_that_prometheus_asks_for() -> None:
    for metric in METRICS.values():
        assert metric.name.startswith("persia_")
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert not any(part in metric.name.split("_") for part in ("ms", "minutes", "hours", "mb", "gb"))
        assert bool(metric.buckets) == (metric.kind == "histogram")
        assert list(metric.buckets) == sorted(set(metric.buckets))
        assert not {"ds", "run", "version", "model"} & set(metric.labels), metric.name


def test_every_counted_stage_is_a_command() -> None:
    spelled = {"validate_data": ["validate", "data"], "validate_model": ["validate", "model"]}
    more = {
        "hash": ["--ds", "2026-11-20"], "validate_data": ["--ds", "2026-11-20"],
        "train": ["--ds", "2026-11-20", "--run", "r"], "publish": ["--ds", "2026-11-20", "--run", "r"],
        "validate_model": ["--version", "v"], "promote": ["--version", "v"],
        "rollback": ["--version", "v", "--reason", "r"],
    }  # fmt: skip
    for stage in STAGES:
        words = [*spelled.get(stage, [stage]), "--config", "c.yaml", *more.get(stage, [])]
        assert build_parser().parse_args(words).stage == stage


@pytest.mark.parametrize(
    ("code", "said", "counted"),
    [
        (ExitCode.RANK_FAILED, "embedding server 12", ("embedding_server", "died")),
        (ExitCode.RANK_HUNG, "trainer 0", ("trainer", "hung")),
        (ExitCode.RANK_FAILED, None, None),  # mpiexec itself
        (ExitCode.DIVERGED, "trainer 0", None),
        (ExitCode.OK, None, None),
    ],
)
def test_a_rank_that_ends_a_job_is_counted_by_role(
    code: ExitCode, said: str | None, counted: tuple[str, str] | None
) -> None:
    samples = samples_of("train", "m", None, "2026-11-20", Ended(code, 1.0, None, said), 5.0)
    found = {
        (dict(labels)["role"], dict(labels)["how"]): value
        for (name, labels), value in samples.values.items()
        if name == names.RANK_FAILURES.name
    }
    roles = ("embedding_server", "embedding_worker", "trainer")
    assert found == {(role, how): (role, how) == counted for role in roles for how in ("died", "hung")}


def test_processes_that_end_at_once_are_all_counted(tmp_path: Path) -> None:
    def count(_: int) -> None:
        ledger = Ledger(tmp_path, "m", "hash")
        one = Samples("m")
        one.add(names.HASH_ROWS, 7)
        with ledger.changing():
            ledger.write(ledger.read().followed_by(one))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count, range(40)))
    assert Ledger(tmp_path, "m", "hash").read().values == {("persia_hash_rows_total", (("model", "m"),)): 280}


def test_without_a_destination_nothing_is_written(config: Path, home: Path) -> None:
    assert retire(config) == ExitCode.OK
    assert not home.exists()


def test_stages_are_pushed_in_a_group_each_and_counters_go_on(
    config: Path, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERSIA_PUSHGATEWAY", gateway.url)
    monkeypatch.setenv("PERSIA_PUSHGATEWAY_USER", "ada")
    monkeypatch.setenv("PERSIA_PUSHGATEWAY_PASSWORD", "lovelace")
    assert [retire(config), retire(config)] == [ExitCode.OK, ExitCode.OK]
    assert promote(config) == ExitCode.CORRUPT
    group = "/metrics/job/persia/instance/host-1/model/small/stage/"
    basic = "Basic " + b64encode(b"ada:lovelace").decode()
    assert [push[:3] for push in gateway.pushed] == [
        ("PUT", group + stage, basic) for stage in ("retire", "retire", "promote")
    ]
    counts = [content.get(runs("retire", "OK")) for *_, content in gateway.pushed]
    assert counts == [1, 2, None]
    last = gateway.pushed[-1][3]
    assert last[runs("promote", "CORRUPT")] == 1
    of_stage = (("model", "small"), ("stage", "promote"))
    assert last["persia_stage_last_failure_timestamp_seconds", of_stage] > 1.7e9
    assert ("persia_stage_last_success_timestamp_seconds", of_stage) not in last
    assert last["persia_partition_interval_seconds", of_stage] == 86_400


@pytest.mark.parametrize("gone", [False, True], ids=["refuses", "is gone"])
def test_a_push_that_fails_fails_no_stage_is_said_once_and_counted(
    config: Path,
    gateway: Gateway,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    gone: bool,
) -> None:
    monkeypatch.setenv("PERSIA_PUSHGATEWAY", "http://127.0.0.1:9" if gone else gateway.url)
    gateway.status = 500
    with caplog.at_level(logging.WARNING):
        assert retire(config) == ExitCode.OK
    assert [record.message for record in caplog.records if "Pushgateway" in record.message] != []
    assert len(caplog.records) == 1
    gateway.status = 200
    monkeypatch.setenv("PERSIA_PUSHGATEWAY", gateway.url)
    assert retire(config) == ExitCode.OK
    content = gateway.pushed[-1][3]
    assert content[runs("retire", "OK")] == 2
    key = ("persia_metrics_push_failures_total", (("model", "small"), ("stage", "retire")))
    assert content[key] == 1


def test_the_textfile_is_whole_readable_for_all_and_has_no_lock_beside_it(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "textfiles"
    folder.mkdir()
    monkeypatch.setenv("PERSIA_METRICS_DIR", str(folder))
    for _ in range(3):
        assert retire(config) == ExitCode.OK
    [path] = folder.iterdir()
    assert path.name == "persia-small-retire.prom"
    assert path.stat().st_mode & 0o777 == 0o644
    assert read(path.read_text())[runs("retire", "OK")] == 3


def test_a_directory_that_is_not_there_fails_no_stage(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PERSIA_METRICS_DIR", str(tmp_path / "missing"))
    assert retire(config) == ExitCode.OK
    assert len([record for record in caplog.records if "metrics" in record.message]) == 1


def test_a_damaged_file_is_put_aside_and_counting_begins_anew(
    config: Path, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERSIA_METRICS_DIR", str(tmp_path))
    assert retire(config) == ExitCode.OK
    [ledger] = home.glob("metrics/host-1/*.prom")
    ledger.write_text('persia_stage_runs_total{model="small" 1')
    assert retire(config) == ExitCode.OK
    assert read(ledger.read_text())[runs("retire", "OK")] == 1
    assert ledger.with_suffix(".damaged").read_text().endswith(" 1")


def test_a_configuration_that_cannot_be_read_is_counted_too(
    tmp_path: Path, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERSIA_PUSHGATEWAY", gateway.url)
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("nonsense: 1")
    assert retire(wrong) == ExitCode.CONFIG_INVALID
    assert gateway.pushed[0][3][runs("retire", "CONFIG_INVALID", "unknown")] == 1


def test_metrics_change_no_digest_and_take_no_password() -> None:
    plain = small_config()
    pushed = small_config(metrics={"pushgateway": "http://gateway:9091"})
    assert plain.digest() == pushed.digest()
    assert json.loads(pushed.model_dump_json())["metrics"]["pushgateway"] == "http://gateway:9091"
    for wrong in ({"pushgateway": "http://ada:secret@gateway:9091"}, {"textfile_dir": "relative"}):
        with pytest.raises(ConfigError, match=r"metrics\."):
            small_config(metrics=wrong)
