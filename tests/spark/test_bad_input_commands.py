"""Bad input as seen at the command line: message, remedy, exit code, and a re-run that works."""

import json
from pathlib import Path
from typing import Any

import pytest

from persia_core.cli import build_parser, run
from persia_core.exit_codes import ExitCode
from persia_core.handoff.layout import hashed_prefix
from persia_core.handoff.s3_store import S3Store
from tests.spark.oracle import COLUMNS, DOCUMENT
from tests.spark.support import DS, csv_bytes, land, random_rows

pytestmark = [pytest.mark.spark, pytest.mark.usefixtures("spark")]

ROWS = random_rows(40, seed=12)
GOOD = csv_bytes(ROWS)
WITHOUT_CITY = csv_bytes(ROWS, [name for name in COLUMNS if name != "city"])
LABEL_TWO = csv_bytes([*ROWS[:5], {**ROWS[5], "clicked": "2"}])


@pytest.fixture
def config(tmp_path: Path, s3_url: str, s3_endpoint: str) -> Path:
    path = tmp_path / "model.yaml"
    path.write_text(json.dumps(DOCUMENT | {"storage": {"url": s3_url, "endpoint_url": s3_endpoint}}))
    return path


def persia(*words: object) -> int:
    arguments = build_parser().parse_args([str(word) for word in words])
    return run(arguments.run, arguments)


BAD: list[tuple[dict[str, bytes], ExitCode, str]] = [
    ({}, ExitCode.PARTITION_MISSING, f"raw/clicks/ds={DS}"),
    ({"a.csv": csv_bytes([])}, ExitCode.PARTITION_EMPTY, "a.csv"),
    ({"a.csv": bytes(range(256)) * 9}, ExitCode.DATA_INVALID, "a.csv"),
    ({"a.csv": WITHOUT_CITY}, ExitCode.DATA_INVALID, "city"),
    ({"a.csv": LABEL_TWO}, ExitCode.DATA_INVALID, "'2'"),
]


def test_bad_partitions_are_named_and_hashing_works_once_they_are_mended(
    config: Path, s3_url: str, s3_endpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = S3Store(s3_url, s3_endpoint)
    for files, code, named in BAD:
        land(store, files)
        assert persia("hash", "--config", config, "--ds", DS) == code, named
        message = capsys.readouterr().err
        assert message.count("error: ") == 1
        assert named in message
        assert "what to do: " in message
        assert "Traceback" not in message
        assert not list(store.list(hashed_prefix("clicks", DS)))

    land(store, {"a.csv": GOOD})
    assert persia("hash", "--config", config, "--ds", DS) == ExitCode.OK
    assert store.get(hashed_prefix("clicks", DS) + "manifest.json").data


def test_an_unreachable_endpoint_is_named(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERSIA_S3_ENDPOINT", "http://127.0.0.1:9")
    assert persia("hash", "--config", config, "--ds", DS) == ExitCode.STORAGE_UNAVAILABLE
    message = capsys.readouterr().err
    assert "http://127.0.0.1:9" in message
    assert "what to do: " in message


def test_a_configuration_with_zero_servers_is_named(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document: dict[str, Any] = json.loads(config.read_text())
    config.write_text(json.dumps(document | {"cluster": {"servers": 0}}))
    assert persia("config", "check", config) == ExitCode.CONFIG_INVALID
    message = capsys.readouterr().err
    assert str(config) in message
    assert "cluster.servers" in message


@pytest.mark.parametrize(
    "words",
    [
        ("train", "--run", "r", "--cold-start"),
        ("validate", "data"),
    ],
)
def test_a_day_that_was_not_hashed_is_named(
    config: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert persia(*words, "--config", config, "--ds", DS) == ExitCode.PARTITION_MISSING
    assert "persia hash" in capsys.readouterr().err
