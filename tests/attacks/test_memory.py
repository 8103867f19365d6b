"""Small or sparse files that ask for gigabytes: refused by a process whose memory hardly grows."""

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from persia_core.checkpoint.layout import DENSE
from persia_core.errors import Corrupt
from persia_core.exit_codes import ExitCode
from persia_core.handoff.consume import pick_up_version
from persia_core.handoff.graph import GRAPH
from persia_core.handoff.layout import MANIFEST
from persia_core.validation.measure import not_finite, parity_of
from tests.attacks.victim import Victim
from tests.support.versions import MODEL

PROJECT = Path(__file__).resolve().parents[2]
GROWTH_MIB = 200.0
BOMB_ROWS, BOMB_DIM = 4 << 20, 16  # 288 MiB in memory, more while it is decoded
HEADER = 2 << 30


def plant_bomb(victim: Victim) -> None:
    """A table of four million ascending ids with equal embeddings, in a small file that tells no lies."""
    path = victim.directory / "embeddings" / "user.parquet"
    kind = pa.list_(pa.field("item", pa.float32()), BOMB_DIM)
    rows = 1 << 20
    schema = pa.schema([pa.field("id", pa.uint64()), pa.field("embedding", kind)])
    zeros = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(rows * BOMB_DIM, np.float32)), BOMB_DIM)
    encoding = {"id": "DELTA_BINARY_PACKED"}
    with pq.ParquetWriter(
        path, schema, compression="zstd", use_dictionary=["embedding"], column_encoding=encoding
    ) as writer:
        for start in range(0, BOMB_ROWS, rows):
            ids = pa.array((np.uint64(1) << np.uint64(56)) + np.arange(start, start + rows, dtype=np.uint64))
            writer.write_table(pa.table([ids, zeros.cast(kind)], schema=schema), row_group_size=rows)
    assert path.stat().st_size < 4 << 20

    def larger(schema: Any) -> Any:
        for table in schema["tables"]:
            if table["name"] == "user":
                table |= {"rows": BOMB_ROWS, "dim": BOMB_DIM}
        return schema

    victim.edit("schema.json", larger)
    victim.seal()


def plant_header(victim: Victim, size: int) -> None:
    """A dense network that says its header has `size` bytes; the header is not there."""
    path = victim.directory / DENSE
    path.write_bytes(size.to_bytes(8, "little") + path.read_bytes()[8:])
    victim.seal()


def plant_long_header(victim: Victim) -> None:
    """A sparse file with a header of 2 GiB that is there: spaces, of which the disk holds none."""
    with (victim.directory / DENSE).open("r+b") as file:
        file.write(HEADER.to_bytes(8, "little") + b"{")
        file.truncate(8 + HEADER)
    (victim.root / "fetched").touch()


def plant_deflated_graph(victim: Victim) -> None:
    """The exported graph with 512 MiB of spaces behind its program, which deflate to half a mebibyte."""
    path = victim.directory / GRAPH
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in members.items():
            with archive.open(name, "w") as member:
                member.write(data)
                for _ in range(512 if name.endswith("models/model.json") else 0):
                    member.write(b" " * (1 << 20))
    assert path.stat().st_size < 8 << 20
    victim.seal()


def plant_large_manifest(victim: Victim, size: int) -> None:
    document = victim.document()
    text = json.dumps(document | {"details": {"filler": "x" * size}})
    victim.plant_bytes(text.encode(), document["digest"])


def plant_many_parts(victim: Victim) -> None:
    """As many parts as a manifest can list, none of them there."""
    document = victim.document()
    count = (15 << 20) // 120
    document["parts"] += [
        {"path": f"{number:06d}", "size": 0, "sha256": "0" * 64, "rows": None} for number in range(count)
    ]
    victim.plant(document)


ATTACKS: dict[str, tuple[Callable[[Victim], None], str]] = {
    "a Parquet bomb": (plant_bomb, "user.parquet"),
    "a header of 2 GiB that is not there": (lambda victim: plant_header(victim, HEADER), DENSE),
    "a header of 2^64 - 1 bytes": (lambda victim: plant_header(victim, (1 << 64) - 1), DENSE),
    "a header of 2 GiB": (plant_long_header, DENSE),
    "a graph that is deflated": (plant_deflated_graph, GRAPH),
    "a manifest of 17 MiB": (lambda victim: plant_large_manifest(victim, 17 << 20), "has 178"),
    "a manifest of 65 MiB": (lambda victim: plant_large_manifest(victim, 65 << 20), MANIFEST),
    "a manifest of 130,000 parts": (plant_many_parts, "missing"),
}


def test_what_asks_for_gigabytes_is_refused_in_little_memory(whole_store: Path, tmp_path: Path) -> None:
    """One process for all: memory that an attack has taken would show in all that follow."""
    roots = {"whole": tmp_path / "whole"} | {name: tmp_path / str(i) for i, name in enumerate(ATTACKS)}
    for name, root in roots.items():
        root.mkdir()
        shutil.copytree(whole_store, root / "store")
        victim = Victim(root)
        shutil.copyfile(victim.directory / "parity.parquet", root / "rows.parquet")
        if name != "whole":
            ATTACKS[name][0](victim)
    done = subprocess.run(
        [sys.executable, "-m", "tests.attacks.measured", *map(str, roots.values())],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (whole, *found) = [json.loads(line) for line in done.stdout.splitlines()]
    assert whole["code"] == ExitCode.OK  # and torch is loaded by now
    outcomes = dict(zip(ATTACKS, found, strict=True))
    for name, (_, named) in ATTACKS.items():
        assert outcomes[name]["code"] == ExitCode.CORRUPT, name
        assert named in outcomes[name]["what"], name
    assert sum(each["grown_mib"] for each in found) < GROWTH_MIB, outcomes


def test_validation_refuses_a_dense_network_that_is_none(victim: Victim) -> None:
    picked = pick_up_version(victim.store, MODEL, victim.version, victim.cache)
    path = victim.cache / DENSE
    whole = path.read_bytes()
    for content in (b"", b"\0" * 7, HEADER.to_bytes(8, "little"), whole[:-1], whole[:8] + b"[" + whole[9:]):
        path.write_bytes(content)
        with pytest.raises(Corrupt, match=DENSE):
            not_finite(picked, victim.cache)


def test_validation_refuses_parity_rows_that_would_fill_memory(victim: Victim) -> None:
    picked = pick_up_version(victim.store, MODEL, victim.version, victim.cache)
    path = victim.cache / "parity.parquet"
    many = pa.table({"prediction": pa.array(np.zeros(2049, np.float32))})
    long = pa.table({"prediction": [0.0], "tags": [np.zeros((16 << 20) + 1, np.int64)]})
    for table, word in ((many, "2049 rows"), (long, "values")):
        pq.write_table(table, path, compression="zstd")
        with pytest.raises(Corrupt, match=word):
            parity_of(picked, victim.cache)
