"""MovieLens-100K out of the registry, against the files themselves read by pandas."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from persia_core.config import load_config
from persia_core.data.movielens import (
    COLUMNS,
    FILES,
    MovieLensUnreachable,
    fetch_movielens,
    movielens_partitions,
    write_movielens,
)
from persia_core.errors import DataInvalid
from persia_core.exit_codes import ExitCode

CONFIG = Path(__file__).parents[2] / "configs" / "movielens_dlrm.yaml"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return fetch_movielens(tmp_path_factory.mktemp("cache"))
    except MovieLensUnreachable as error:
        pytest.skip(f"the package registry is out of reach: {error.what}")


@pytest.fixture(scope="module")
def table(source: Path) -> pd.DataFrame:
    """All ratings with their attributes, joined by pandas."""

    def load(name: str) -> pd.DataFrame:
        frame = pd.read_csv(source / name, sep="\t", dtype=str, keep_default_na=False, quoting=3)
        return frame.rename(columns=lambda column: column.split(":")[0])

    ratings = load("ml-100k.inter")
    joined = ratings.merge(load("ml-100k.user"), on="user_id").merge(load("ml-100k.item"), on="item_id")
    assert len(joined) == len(ratings) == 100_000
    assert (joined["user_id"].nunique(), joined["item_id"].nunique()) == (943, 1682)
    joined["label"] = (joined["rating"].astype(float) >= 4).astype(int).astype(str)
    joined["genres"] = joined["class"]
    joined.loc[~joined["release_year"].str.isdigit(), "release_year"] = ""
    return joined


def test_no_rating_is_lost_or_changed(source: Path, table: pd.DataFrame, tmp_path: Path) -> None:
    days = write_movielens(source, tmp_path)
    assert [day.ds for day in days] == ["1998-03-26", "1998-04-02", "1998-04-09", "1998-04-16"]
    frames = [pd.read_csv(day.path, dtype=str, keep_default_na=False) for day in days]
    for day, frame in zip(days, frames, strict=True):
        assert (day.rows, day.positives) == (len(frame), int((frame["label"] == "1").sum()))
    everything = pd.concat(frames)
    assert tuple(everything.columns) == COLUMNS and len(everything) == 100_000
    keys = ["user_id", "item_id", "timestamp"]
    expected = table[list(COLUMNS)].sort_values(keys).reset_index(drop=True)
    assert everything.sort_values(keys).reset_index(drop=True).equals(expected)


def test_a_partition_holds_its_week_in_order_of_time(source: Path) -> None:
    bounds = {
        "1998-03-26": ("1970-01-01", "1998-04-02"),
        "1998-04-02": ("1998-04-02", "1998-04-09"),
        "1998-04-09": ("1998-04-09", "1998-04-16"),
        "1998-04-16": ("1998-04-16", "1998-04-23"),
    }
    days = load_config(CONFIG).data_checks.partition_days
    for ds, rows in movielens_partitions(source):
        times = [int(row[COLUMNS.index("timestamp")]) for row in rows]
        low, high = (datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() for day in bounds[ds])
        assert times == sorted(times) and low <= times[0] and times[-1] < high
        assert high == datetime.fromisoformat(ds).replace(tzinfo=UTC).timestamp() + days * 86_400


def test_features_of_the_configuration_are_columns(source: Path) -> None:
    config = load_config(CONFIG)
    wanted = {
        getattr(feature, "column", None) or feature.name
        for feature in config.features
        if feature.kind != "timestamp"
    }
    assert wanted | {config.dataset.label, config.dataset.time_column} <= set(COLUMNS)
    rows = next(movielens_partitions(source))[1]
    genres = {genre for row in rows for genre in row[COLUMNS.index("genres")].split(" ")}
    assert len(genres) == 19 and all(re.fullmatch(r"[A-Za-z'-]+", genre) for genre in genres)


def test_the_same_files_give_the_same_bytes(source: Path, tmp_path: Path) -> None:
    first = write_movielens(source, tmp_path / "a")
    again = write_movielens(source, tmp_path / "b")
    assert [day.path.read_bytes() for day in first] == [day.path.read_bytes() for day in again]


def test_a_second_fetch_needs_no_registry(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut_off(monkeypatch)
    assert fetch_movielens(source.parent) == source


def test_a_damaged_cache_is_fetched_again_and_without_a_registry_that_is_an_error(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off(monkeypatch)
    (tmp_path / "ml-100k").mkdir()
    for name in FILES:
        (tmp_path / "ml-100k" / name).write_bytes((source / name).read_bytes()[:-1])
    with pytest.raises(MovieLensUnreachable) as caught:
        fetch_movielens(tmp_path)
    assert caught.value.exit_code == ExitCode.ENVIRONMENT
    assert "recbole==1.2.1" in caught.value.what and "synthetic click log" in caught.value.remedy


def test_a_lost_line_or_a_lost_user_is_refused(source: Path, tmp_path: Path) -> None:
    for name in FILES:
        (tmp_path / name).write_bytes((source / name).read_bytes())
    lines = (source / "ml-100k.inter").read_text().splitlines(keepends=True)
    (tmp_path / "ml-100k.inter").write_text("".join(lines[:-1]))
    with pytest.raises(DataInvalid, match="99999 ratings, expected 100000"):
        list(movielens_partitions(tmp_path))
    users = (source / "ml-100k.user").read_text().splitlines(keepends=True)
    (tmp_path / "ml-100k.user").write_text("".join(users[:-1]))
    with pytest.raises(DataInvalid, match="has no attributes"):
        list(movielens_partitions(tmp_path))


def cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Point pip at a port of this host where nothing listens, whatever the machine's settings."""
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
