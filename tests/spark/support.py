"""Raw partitions for the tests here, and reading back what was published."""

import csv
import io
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from persia_core.config import ModelConfig, parse_config
from persia_core.handoff.layout import hashed_prefix, raw_prefix, rejected_prefix
from persia_core.handoff.local_store import LocalStore
from persia_core.handoff.manifest import Manifest
from persia_core.handoff.object_store import ObjectStore
from tests.spark.oracle import COLUMNS, DOCUMENT, Row

DS = "2026-11-20"


def config_of(**dataset: object) -> ModelConfig:
    """The oracle's configuration with some keys of `dataset` changed."""
    return parse_config(DOCUMENT | {"dataset": DOCUMENT["dataset"] | dataset}, "the test")  # type: ignore[operator]


def random_rows(count: int, seed: int) -> list[Row]:
    """Rows with every kind of value, several of them in one second, a few equal."""
    rng = random.Random(seed)
    rows: list[Row] = []
    for _ in range(count):
        if rows and rng.random() < 0.05:
            rows.append(dict(rng.choice(rows)))
            continue
        genres = "|".join(rng.choices(["drama", "劇", "sci fi", "", 'quo"te', "a,b"], k=rng.randrange(6)))
        rows.append(
            {
                "User.Id": rng.choice([str(rng.randrange(50)), "", None, "ü ", " 7", "0", "-0.0"]),
                "friend": rng.choice([str(rng.randrange(50)), "", None]),
                "city": rng.choice(["Zürich", "東京", "", None, "New, York"]),
                "genres": rng.choice([genres, "", None]),
                "at": str(rng.choice([0, -1, 86_399, 951_782_400]) + 3600 * rng.randrange(200)),
                "price": rng.choice(
                    [str(round(rng.expovariate(0.1), 3)), "0", "-0.0", "NaN", "", None, "1e3"]
                ),
                "age": rng.choice([str(rng.randrange(1, 99)), " 40 ", "39.999", "nan", None, "+5."]),
                "clicked": rng.choice(["0", "1", "1.0", "0.0"]),
            }
        )
    return rows


def csv_bytes(rows: list[Row], columns: list[str] = COLUMNS) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([row[name] for name in columns] for row in rows)
    return text.getvalue().encode()


def land(store: ObjectStore, files: dict[str, bytes], dataset: str = "clicks") -> None:
    for name, data in files.items():
        store.put(raw_prefix(dataset, DS) + name, data)


def local_store(directory: Path, files: dict[str, bytes]) -> LocalStore:
    store = LocalStore(directory)
    land(store, files)
    return store


def published(store: ObjectStore, scratch: Path, dataset: str = "clicks") -> tuple[Manifest, pa.Table]:
    """The manifest and all rows in partition order."""
    prefix = hashed_prefix(dataset, DS)
    manifest = Manifest.from_bytes(store.get(prefix + "manifest.json").data, "manifest")
    tables = []
    for part in manifest.parts:
        store.download(prefix + part.path, scratch / part.path)
        tables.append(pq.read_table(scratch / part.path))
    return manifest, pa.concat_tables(tables)


def as_rows(table: pa.Table) -> list[tuple[object, ...]]:
    return [
        tuple(tuple(value) if isinstance(value, list) else value for value in row.values())
        for row in table.to_pylist()
    ]


def rejected_rows(store: ObjectStore, scratch: Path) -> tuple[Manifest, list[tuple[str, int, str, str]]]:
    """The manifest of the rejected rows and all of them: file, line, reason, record."""
    prefix = rejected_prefix("clicks", DS)
    manifest = Manifest.from_bytes(store.get(prefix + "manifest.json").data, "manifest")
    rows: list[tuple[str, int, str, str]] = []
    for part in manifest.parts:
        store.download(prefix + part.path, scratch / part.path)
        table = pq.read_table(scratch / part.path)
        assert part.rows == table.num_rows
        rows += [tuple(row.values()) for row in table.to_pylist()]
    return manifest, rows
