"""Card and report of a version: from the manifest alone, self-contained, and what they show."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from persia_core.config import ModelConfig
from persia_core.handoff.layout import version_prefix
from persia_core.handoff.manifest import Manifest
from persia_core.handoff.publish import publish
from persia_core.handoff.report import write_pages
from persia_core.handoff.s3_store import S3Store
from persia_core.handoff.transfer import read_manifest
from persia_core.training.metrics import summary
from tests.support.runs import Day, make_day, make_run, oracle_predict, small_config

DS = "2026-11-02"


@pytest.fixture
def config() -> ModelConfig:
    return small_config()


@pytest.fixture
def day(config: ModelConfig, s3_store: S3Store) -> Day:
    return make_day(config, s3_store, DS)


@pytest.fixture
def run_dir(config: ModelConfig, day: Day, tmp_path: Path) -> Path:
    return make_run(config, day, tmp_path / "run-1")


class _Resources(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.found += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "data")]


def test_the_pages_are_made_from_the_manifest_alone(
    config: ModelConfig, s3_store: S3Store, run_dir: Path, day: Day, tmp_path: Path
) -> None:
    first = publish(config, s3_store, DS, run_dir)
    next_day = make_day(config, s3_store, "2026-11-03", seed=1)
    run = make_run(config, next_day, tmp_path / "run-2", parent=first.checkpoint, before=day.model)
    second = publish(config, s3_store, "2026-11-03", run)
    for version in (first.version, second.version):
        prefix = version_prefix("small", version)
        manifest = Manifest.from_bytes(s3_store.get(prefix + "manifest.json").data, "m")
        out = tmp_path / version
        out.mkdir()
        write_pages(out, manifest.lineage, manifest.metrics, manifest.details)
        for name in ("MODEL_CARD.md", "report.html"):
            assert (out / name).read_bytes() == s3_store.get(prefix + name).data


def test_the_history_goes_back_along_the_lineage(
    config: ModelConfig, s3_store: S3Store, run_dir: Path, day: Day, tmp_path: Path
) -> None:
    first = publish(config, s3_store, DS, run_dir)
    versions, before, checkpoint = [first.version], day.model, first.checkpoint
    aucs: list[float | None] = [None]
    for number in (3, 4):
        new = make_day(config, s3_store, f"2026-11-0{number}", seed=number)
        run = make_run(config, new, tmp_path / f"run-{number}", parent=checkpoint, before=before)
        result = publish(config, s3_store, new.ds, run)
        aucs.append(summary(new.table["label"].to_numpy(), oracle_predict(config, before, new.table))["auc"])
        versions.append(result.version)
        before, checkpoint = new.model, result.checkpoint
    manifest = read_manifest(s3_store, version_prefix("small", versions[-1])).manifest
    assert [(d["ds"], d["version"], d["auc"]) for d in manifest.details["history"]] == [
        ("2026-11-02", versions[0], None),
        ("2026-11-03", versions[1], aucs[1]),
        ("2026-11-04", None, aucs[2]),
    ]
    page = s3_store.get(version_prefix("small", versions[-1]) + "report.html").data.decode()
    for auc in aucs[1:]:
        assert f"{auc:.4f}</title>" in page


def test_the_report_is_one_page_and_escapes_what_it_shows(
    config: ModelConfig, s3_store: S3Store, run_dir: Path
) -> None:
    result = publish(config, s3_store, DS, run_dir)
    prefix = version_prefix("small", result.version)
    page = s3_store.get(prefix + "report.html").data.decode()
    parser = _Resources()
    parser.feed(page)
    assert parser.found == []
    assert "script" not in parser.tags
    assert "link" not in parser.tags
    assert not re.search(r"url\(|@import", page)
    assert "prefers-color-scheme: dark" in page
    # Loss; calibration after training and its diagonal. A cold start has no AUC before.
    assert parser.tags.count("polyline") == 3
    assert parser.tags.count("svg") == 3
    assert "&lt;not finite&gt;" in page
    assert "<not finite>" not in page
    bars = re.findall(r"<rect[^>]*height=.([0-9.]+).[^>]*><title>([0-9]+): ([0-9]+)</title>", page)
    assert [(int(value), int(count)) for _, value, count in bars if int(count)] == [
        (1, 5),
        (2, 9),
        (3, 1),
        (10, 2),
    ]
    heights = {int(value): float(height) for height, value, _ in bars}
    assert heights[1] / heights[2] == pytest.approx(5 / 9, rel=0.01)
    card = s3_store.get(prefix + "MODEL_CARD.md").data.decode()
    assert "a cold start" in card
    assert f"| user | {len(keys_of_table(run_dir, 'user'))} | 4 | sum | float32 |" in card


def keys_of_table(run_dir: Path, table: str) -> list[int]:
    ids: list[int] = []
    for path in (run_dir / "checkpoint").glob("embedding-*.safetensors"):
        ids += load_file(path)[f"{table}.ids"].tolist()
    return ids
