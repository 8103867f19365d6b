"""The whole transform of a text partition in plain Python, written from docs/formats, row by row."""

import math
import struct
from datetime import UTC, datetime

import numpy as np
import xxhash

Row = dict[str, str | None]

PREFIXES = {"user": 1, "genre": 2, "city": 3, "hour": 4, "weekday": 5}
BITS = 12
SALT = "test"

DOCUMENT = {
    "name": "oracle",
    "dataset": {
        "name": "clicks",
        "format": "csv",
        "label": "clicked",
        "time_column": "at",
        "salt": SALT,
        "prefix_bits": BITS,
    },
    "features": [
        {"name": "user", "kind": "categorical", "column": "User.Id", "table": "user"},
        {"name": "friend", "kind": "categorical", "table": "user"},
        {"name": "city", "kind": "categorical", "table": "city", "missing": "zero"},
        {"name": "genres", "kind": "multi-categorical", "table": "genre", "delimiter": "|", "max_length": 3},
        {"name": "hour", "kind": "timestamp", "part": "hour", "table": "hour"},
        {"name": "weekday", "kind": "timestamp", "part": "weekday", "table": "weekday"},
        {"name": "price", "kind": "dense", "transform": "log1p", "mean": 1.5, "std": 2.0, "missing": -7.0},
        {"name": "age", "kind": "dense", "mean": 40.0, "std": 10.0, "clip": [-1.0, 2.0]},
    ],
    "tables": [
        {"name": name, "prefix": prefix, "dim": 4, "optimizer": {"kind": "sgd", "learning_rate": 0.1}}
        for name, prefix in PREFIXES.items()
    ],
    "training": {"model": "persia_core.models.dlrm:DLRM"},
    "storage": {"url": "file:///unused"},
}
COLUMNS = ["User.Id", "friend", "city", "genres", "at", "price", "age", "clicked"]


def signed_id(table: str, value: str) -> int:
    """The id as the int64 with the same bits."""
    hashed = xxhash.xxh64_intdigest(f"{SALT}/{table}/{value}".encode(), seed=42)
    bits = (PREFIXES[table] << (64 - BITS)) + hashed // 2**BITS
    return struct.unpack("<q", struct.pack("<Q", bits))[0]  # type: ignore[no-any-return]


def hashed_row(row: Row) -> tuple[object, ...]:
    """The columns of the hashed partition, in order."""
    moment = datetime.fromtimestamp(int(row["at"] or ""), UTC)
    city = row["city"]
    return (
        float(row["clicked"] or ""),
        int(row["at"] or ""),
        signed_id("user", row["User.Id"] or "\0"),
        signed_id("user", row["friend"] or "\0"),
        signed_id("city", city) if city else None,
        tuple([signed_id("genre", genre) for genre in (row["genres"] or "").split("|") if genre][:3]),
        signed_id("hour", str(moment.hour)),
        signed_id("weekday", str(moment.weekday())),
        _float32(-7.0 if _no_number(row["price"]) else (math.log1p(float(row["price"] or "")) - 1.5) / 2.0),
        _float32(0.0 if _no_number(row["age"]) else min(max((float(row["age"] or "") - 40) / 10, -1.0), 2.0)),
    )


def _no_number(text: str | None) -> bool:
    return text is None or text.strip().lower() in ("", "nan")


def _float32(value: float) -> float:
    return float(np.float32(value))
