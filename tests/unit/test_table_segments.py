"""Directories of tables in memory: whose they are, who may remove them, and what a segment's header says."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from persia_core.config import ModelConfig, parse_config
from persia_core.errors import ConfigError, EnvironmentProblem
from persia_core.launch import table_segments
from persia_core.launch.directory_lock import locked
from persia_core.launch.leftovers import TABLES, find_leftovers, remove
from persia_core.launch.table_segments import TableSegments
from tests.support import runs

CHECKSUM = 0x1234_5678_9ABC_DEF0


def config_with(root: Path | None, **checkpoint: Any) -> ModelConfig:
    warm = {"warm_restart": None if root is None else str(root)} | checkpoint
    return runs.small_config(checkpoint=warm, cluster={"servers": 2, "server_threads": 3})


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In place of /dev/shm, which other jobs of this host use."""
    directory = tmp_path / "memory"
    directory.mkdir()
    monkeypatch.setattr(table_segments, "ROOT", directory)
    return directory


def tables_in(work: Path) -> list[Path]:
    return [each.path for each in find_leftovers(work) if each.kind == TABLES]


def write_part(path: Path, checksum: int = CHECKSUM) -> Path:
    header = json.dumps({"__metadata__": {"data_xxh64": f"{checksum:016x}"}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    return path


def write_segment(path: Path, **changes: Any) -> None:
    """The header as docs/formats/table_segment.md has it; checksums are of no matter here."""
    fields = {
        "magic": b"PERSIATS", "version": 1, "state": 1, "server": 1, "servers": 2, "threads": 3, "tables": 4,
        "configuration": 5, "part": CHECKSUM, "step": 6, "cut": 0, "rows": 7, "bytes": 200,
        "front_bytes": 8, "front_xxh64": 9, "header_xxh64": 10,
    } | changes  # fmt: skip
    path.write_bytes(struct.pack("<8sIIIIIIQQQQQQQQQ", *fields.values()).ljust(200, b"\0"))


def test_tables_stay_for_the_next_try_and_go_with_the_run(root: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    run_dir, other = work / "m" / "ds=2026-01-01" / "a", work / "m" / "ds=2026-01-01" / "b"
    segments, others = (TableSegments(config_with(root), each) for each in (run_dir, other))
    for each, directory in ((segments, run_dir), (others, other)):
        directory.mkdir(parents=True)
        each.prepare(keep=False)
    assert segments.directory is not None and others.directory is not None
    assert segments.directory != others.directory
    assert segments.directory.stat().st_mode & 0o777 == 0o700
    (segments.directory / "tables-0.segment").write_bytes(b"rows")
    segments.prepare(keep=True)
    assert (segments.directory / "tables-0.segment").exists()
    segments.prepare(keep=False)
    assert not (segments.directory / "tables-0.segment").exists()
    other.rmdir()
    segments.prepare(keep=True)  # the next job removes what no run can use any more
    assert segments.directory.exists() and not others.directory.exists()
    # A try without the key removes what one with it has left.
    TableSegments(config_with(None), run_dir).prepare(keep=True)
    assert not segments.directory.exists()


def test_clean_finds_tables_that_no_job_trains(root: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    run_dir = work / "m" / "ds=2026-01-01" / "a"
    segments = TableSegments(config_with(root), run_dir)
    with locked(run_dir):
        segments.prepare(keep=False)
        assert segments.directory is not None
        assert tables_in(work) == []
    assert tables_in(work) == [segments.directory]
    assert tables_in(tmp_path / "elsewhere") == [], "another home's run may still be tried again"
    (leftover,) = (each for each in find_leftovers(work) if each.kind == TABLES)
    with locked(run_dir):
        assert not remove(leftover), "a job has begun to use it"
    assert remove(leftover) and not segments.directory.exists()


def test_a_part_is_in_memory_if_a_whole_segment_names_it(root: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    segments = TableSegments(config_with(root), run_dir)
    segments.prepare(keep=False)
    assert segments.directory is not None
    segment, part = segments.directory / "tables-1.segment", write_part(tmp_path / "embedding-1.safetensors")
    assert not segments.have(part)
    write_segment(segment)
    assert segments.have(part)
    for changes in (
        {"magic": b"PERSIATT"}, {"version": 2}, {"state": 0}, {"servers": 3}, {"threads": 2},
        {"part": CHECKSUM + 1}, {"bytes": 201},
    ):  # fmt: skip
        write_segment(segment, **changes)
        assert not segments.have(part), changes
    write_segment(segment)
    assert not segments.have(write_part(tmp_path / "embedding-0.safetensors"))
    assert not segments.have(write_part(part, CHECKSUM + 1))
    part.write_bytes(b"\xff" * 20)
    assert not segments.have(part)
    assert not TableSegments(config_with(None), run_dir).have(part)


def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match=r"warm_restart: the tables cannot be kept in .*/missing"):
        TableSegments(config_with(tmp_path / "missing"), tmp_path / "run").prepare(keep=False)
    for changes, what in (
        ({"warm_restart": "shm"}, "the whole path"),
        ({"snapshot": False}, "needs snapshot"),
        ({"every_seconds": None}, "every_seconds or every_steps"),
    ):
        document = config_with(tmp_path).model_dump(mode="json")
        document["checkpoint"] |= changes
        with pytest.raises(ConfigError, match=what):
            parse_config(document, "test")
