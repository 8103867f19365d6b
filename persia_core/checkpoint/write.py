"""A checkpoint on local disk: parts first, the manifest last."""

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import nn

from persia_core import __version__
from persia_core.checkpoint.dense_state import save_dense
from persia_core.checkpoint.layout import DENSE, OPTIMIZER, RUN, STATE, embedding_part, is_embedding_part
from persia_core.checkpoint.part_headers import HEADERS, header_digests
from persia_core.config import ModelConfig
from persia_core.embedding.interface import Tables
from persia_core.errors import DiskFull
from persia_core.handoff.layout import MANIFEST
from persia_core.handoff.manifest import Lineage, Manifest, digest_of, part_of
from persia_core.phases import Phase, begin, hold_at

SaveKind = Literal["full", "base", "delta"]

_DENSE_PARTS = (DENSE, OPTIMIZER, STATE, RUN)
_ASK_EVERY_S = 0.05
_HASHED_AT_ONCE = 4  # files; hashing lets other threads of the process run


@dataclass(frozen=True)
class Contents:
    """What a checkpoint holds of the trainers. `state` is for state.json, beside the optimizer's scalars.

    `run` are tensors of the run: random states of the trainers, rows that were skipped.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    state: dict[str, Any]
    run: dict[str, torch.Tensor] = field(default_factory=dict)


def write_checkpoint(
    config: ModelConfig,
    directory: Path,
    kind: Literal["checkpoint", "cut"],
    lineage: dict[str, str | None],
    worker: Tables,
    contents: Contents,
    details: dict[str, Any],
) -> Manifest:
    """Write `directory`, which is complete if and only if its manifest exists.

    `details` are added to those of the manifest. To be called by one trainer while no gradients are in flight
    (the servers refuse otherwise). Raises DiskFull naming the directory; nothing half-written is left then.
    """
    rows = write_parts(directory, worker, contents)
    return complete(config, directory, kind, lineage, contents.state["step"], rows, details)


def write_parts(directory: Path, worker: Tables, contents: Contents) -> dict[str, int | None]:
    """Everything but the manifest. Returns the name of every part and the number of table rows in it."""
    shutil.rmtree(directory, ignore_errors=True)
    with _whole_or_nothing(directory):
        directory.mkdir(parents=True)
        saved = worker.save(str(directory))
        _write_dense(directory, contents)
    return _rows(saved)


def begin_parts(
    directory: Path, worker: Tables, contents: Contents, kind: SaveKind = "full", cut: int = 0
) -> None:
    """As `write_parts`, but of the tables a snapshot only, so that training may go on.

    `kind` and `cut`, the number of a base or delta, are as Tables.begin_save says.
    """
    shutil.rmtree(directory, ignore_errors=True)
    with _whole_or_nothing(directory):
        directory.mkdir(parents=True)
        worker.begin_save(str(directory), kind, cut)
        _write_dense(directory, contents)


def finish_parts(directory: Path, worker: Tables) -> dict[str, int | None]:
    """Wait until the parts of a snapshot are written; returns what `write_parts` does.

    May be called in a thread of its own, while training goes on.
    """
    with _whole_or_nothing(directory):
        while (saved := worker.finish_save()) is None:
            time.sleep(_ASK_EVERY_S)
    return _rows(saved)


def _write_dense(directory: Path, contents: Contents) -> None:
    save_dense(directory, contents.model, contents.optimizer, contents.state)
    save_file({name: tensor.contiguous() for name, tensor in contents.run.items()}, directory / RUN)
    for name in _DENSE_PARTS:
        with (directory / name).open("rb") as file:
            os.fsync(file.fileno())


def _rows(saved: list[dict[str, object]]) -> dict[str, int | None]:
    names: dict[str, int | None] = dict.fromkeys(_DENSE_PARTS)
    for index, entry in enumerate(saved):
        names[embedding_part(index)] = int(str(entry["rows"]))
    return names


def complete(
    config: ModelConfig,
    directory: Path,
    kind: Literal["checkpoint", "cut"],
    lineage: dict[str, str | None],
    step: int,
    rows: dict[str, int | None],
    details: dict[str, Any],
    metrics: dict[str, Any] | None = None,
) -> Manifest:
    """Read all parts back and write the manifest; `rows` is what `write_parts` returned.

    `step` is that of the model. Raises DiskFull, and leaves nothing then.
    """
    with _whole_or_nothing(directory):
        with ThreadPoolExecutor(_HASHED_AT_ONCE) as pool:
            parts = list(pool.map(lambda name: part_of(directory, directory / name, rows[name]), rows))
        if kind == "cut":  # a checkpoint is never gone on from by servers that have its rows already
            details = {**details, HEADERS: header_digests(directory, filter(is_embedding_part, rows))}
        manifest = Manifest(
            kind=kind,
            digest=digest_of(parts),
            parts=parts,
            schema_fingerprint=config.schema_fingerprint(),
            lineage=Lineage.model_validate(
                {**lineage, "config_digest": config.digest(), "code_version": __version__}
            ),
            metrics=metrics or {},
            details={
                "model": config.name,
                "servers": config.cluster.servers,
                "step": step,
                "tables": {t.name: {"dim": t.dim, "optimizer": t.optimizer.kind} for t in config.tables},
                **details,
            },
        )
        _announce(kind, Phase.MANIFEST)
        _write_durably(directory / MANIFEST, manifest.to_bytes())
        _announce(kind, Phase.SAVED)
    return manifest


def _announce(kind: Literal["checkpoint", "cut"], phase: Phase) -> None:
    """A cut is completed while training goes on: that is its phase still."""
    if kind == "checkpoint":
        begin(phase)
    else:
        hold_at(Phase.CUT_MANIFEST if phase == Phase.MANIFEST else Phase.CUT_SAVED)


@contextlib.contextmanager
def _whole_or_nothing(directory: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        shutil.rmtree(directory, ignore_errors=True)
        if _is_disk_full(error):
            raise DiskFull(
                f"no space left while the checkpoint was written to {directory}",
                "free space or set PERSIA_HOME to a larger disk, then run the task again",
            ) from error
        raise


def _is_disk_full(error: Exception) -> bool:
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or "no space left" in str(error).lower()


def _write_durably(path: Path, data: bytes) -> None:
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
