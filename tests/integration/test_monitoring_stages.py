"""What real stages count, from training to the champion, against the files that they leave."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from persia_core.cli import build_parser, run
from persia_core.config import parse_config
from persia_core.exit_codes import ExitCode
from persia_core.handoff.layout import version_prefix
from persia_core.handoff.local_store import LocalStore
from persia_core.launch.kept_runs import KEPT
from persia_core.launch.leftovers import find_leftovers
from tests.support.hashed import write_hashed_partition
from tests.support.small_config import small_config, small_rows

pytestmark = pytest.mark.mpi

DS = "2026-01-02"
ROWS, BATCH, EPOCHS, TRAINERS = 64 * 9 + 5, 64, 2, 2
STEPS = 10 * EPOCHS


def persia(config: Path, *words: str) -> int:
    arguments = build_parser().parse_args([*words, "--config", str(config)])
    return run(arguments.run, arguments)


class Textfiles:
    """Values in a directory of files, by name and labels other than model and stage."""

    def __init__(self, folder: Path) -> None:
        self.values = {
            (
                sample.name,
                frozenset((k, v) for k, v in sample.labels.items() if k not in ("model", "stage")),
            ): (sample.value)
            for path in folder.glob("*.prom")
            for family in text_string_to_metric_families(path.read_text())
            for sample in family.samples
            if "stage" not in sample.labels
        }

    def of(self, name: str, **labels: str) -> float:
        return self.values[f"persia_{name}", frozenset(labels.items())]


@pytest.fixture
def document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A configuration, with a hashed partition in its store."""
    monkeypatch.setenv("PERSIA_HOME", str(tmp_path / "home"))
    document: dict[str, Any] = small_config().model_dump(mode="json")
    document["training"] |= {
        "global_batch_size": BATCH, "epochs": EPOCHS, "staleness": 3,
        "model_args": {"bottom_mlp": [8], "top_mlp": [8]}, "tensorboard": True,
    }  # fmt: skip
    document |= {
        "cluster": {"servers": 2, "trainers": TRAINERS},
        "checkpoint": {"every_steps": 7},
        "gates": {"min_rows": 10, "min_auc": 0.0, "calibration": [0, 1e9]},
        "storage": {"url": f"file://{tmp_path}/store"},
        "metrics": {"textfile_dir": str(tmp_path / "textfiles"), "instance": "host-1"},
    }
    (tmp_path / "textfiles").mkdir()
    store = LocalStore(tmp_path / "store")
    write_hashed_partition(parse_config(document, "test"), store, DS, small_rows(ROWS))
    return document


def files_of(run_dir: Path) -> dict[str, bytes]:
    """But for the lock, and what only says for how long they are kept."""
    files = {str(path.relative_to(run_dir)): path for path in run_dir.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if name not in (".lock", KEPT)}


def publish_and_clean_up(config: Path, day: tuple[str, ...], run_dir: Path) -> None:
    """What a run leaves when it is published; and the run is done, whoever asks for it again."""
    result = config.with_name("end.json")
    end = ("job", "end", *day, "--result-file", str(result))
    before = files_of(run_dir)
    assert persia(config, *end) == ExitCode.OK
    assert files_of(run_dir) == before, "it is not published yet"
    assert persia(config, "publish", *day) == ExitCode.OK
    assert persia(config, *end) == ExitCode.OK
    shown = {n: d for n, d in before.items() if n.startswith(("logs/", "processes/", "tensorboard/"))}
    assert {"logs/trainer-0.log", "logs/trainer-1.log", "logs/embedding-server-1.log"} <= shown.keys()
    assert any("tfevents" in name for name in shown)
    shown["metrics.jsonl"] = before["metrics.jsonl"]
    assert files_of(run_dir) == shown
    assert json.loads(result.read_text())["kept"] == [str(run_dir)]
    assert run_dir not in {each.path for each in find_leftovers(run_dir.parents[2])}, "persia clean leaves it"
    assert persia(config, "train", *day, "--cold-start") == ExitCode.OK
    assert persia(config, "publish", *day) == ExitCode.OK
    assert files_of(run_dir) == shown


def test_from_training_to_the_champion(
    document: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "model.yaml"
    config.write_text(yaml.safe_dump(document))
    kept = keep_cuts(monkeypatch)

    day = ("--ds", DS, "--run", "monday")
    assert persia(config, "train", *day, "--cold-start") == ExitCode.OK
    assert persia(config, "train", *day, "--cold-start") == ExitCode.OK  # a finished run is not counted again
    run_dir = next((tmp_path / "home" / "work").glob(f"*/ds={DS}/monday"))
    metrics: dict[str, Any] = json.loads((run_dir / "metrics.json").read_text())
    found = Textfiles(tmp_path / "textfiles")
    assert found.of("training_rows_total") == ROWS
    assert found.of("training_samples_total") == ROWS * EPOCHS
    assert found.of("training_steps_total") == found.of("training_step_seconds_count") == STEPS
    assert found.of("training_seconds_total") == metrics["seconds"]
    assert 0 < found.of("training_step_seconds_sum") <= metrics["seconds"]
    assert found.of("training_staleness_batches_count") == STEPS * TRAINERS
    at_most_3 = [v for (name, labels), v in found.values.items() if name.endswith("staleness_batches_bucket")]
    assert max(at_most_3) == STEPS * TRAINERS
    assert found.of("training_staleness_batches_bucket", le="4.0") == STEPS * TRAINERS
    for table in ("user", "item", "hour", "tag"):
        servers = [server["tables"][table] for server in metrics["servers"]]
        assert found.of("embedding_rows", table=table) == sum(server["rows"] for server in servers) > 0
        assert found.of("embedding_bytes", table=table) == sum(server["bytes"] for server in servers) > 0
    assert found.of("checkpoint_cuts_total", outcome="taken") == 2
    assert found.of("checkpoint_cut_bytes_total") == sum(kept)
    assert found.of("checkpoint_pause_seconds_total") >= found.of("checkpoint_longest_pause_seconds") > 0
    assert found.of("training_rank_failures_total", role="trainer", how="died") == 0

    publish_and_clean_up(config, day, run_dir)
    [version] = [path.name for path in (tmp_path / "store" / "models" / "small" / "versions").iterdir()]
    prefix = tmp_path / "store" / version_prefix("small", version)
    files = [path for path in prefix.rglob("*") if path.is_file() and path.name != "manifest.json"]
    assert Textfiles(tmp_path / "textfiles").of("version_bytes") == sum(p.stat().st_size for p in files)
    assert persia(config, "promote", "--version", version) == ExitCode.PROMOTION_REFUSED  # not validated yet
    assert persia(config, "validate", "model", "--version", version) == ExitCode.OK
    assert persia(config, "promote", "--version", version) == ExitCode.OK
    assert persia(config, "promote", "--version", version) == ExitCode.OK  # nothing moves
    found = Textfiles(tmp_path / "textfiles")
    assert (found.of("gate_verdicts_total", verdict="passed"), found.of("gate_passed")) == (1, 1)
    assert found.of("gate_verdicts_total", verdict="refused") == 0
    assert found.of("model_auc", of="after") == pytest.approx(metrics["after"]["auc"], abs=1e-6)
    assert found.of("promotions_total", outcome="promoted") == 1
    assert found.of("promotions_total", outcome="refused") == 1
    strict = document | {"gates": {"min_rows": ROWS + 1, "tiny_test_set": "refuse"}}
    config.write_text(yaml.safe_dump(strict))
    assert persia(config, "validate", "model", "--version", version) == ExitCode.GATE_REFUSED
    found = Textfiles(tmp_path / "textfiles")
    assert (found.of("gate_verdicts_total", verdict="refused"), found.of("gate_passed")) == (1, 0)


def keep_cuts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the cuts of the next run, measured on disk when it is over, just before they go."""
    from persia_core.launch import train

    sizes: list[int] = []
    finished = train._finished

    def measure(run_dir: Path, *arguments: Any) -> Any:
        for cut in (run_dir / "cuts").glob("*"):
            parts = json.loads((cut / "manifest.json").read_text())["parts"]
            sizes.append(sum((cut / part["path"]).stat().st_size for part in parts))
        return finished(run_dir, *arguments)

    monkeypatch.setattr(train, "_finished", measure)
    return sizes
