"""A checkpoint on local disk: parts first, the manifest last."""

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn

from persia_core import __version__
from persia_core.checkpoint.dense_state import save_dense
from persia_core.checkpoint.layout import CHECKPOINT, DENSE, OPTIMIZER, STATE, embedding_part
from persia_core.config import ModelConfig
from persia_core.embedding.interface import Tables
from persia_core.errors import DiskFull
from persia_core.handoff.layout import MANIFEST
from persia_core.handoff.manifest import Lineage, Manifest, digest_of, part_of


def write_checkpoint(
    config: ModelConfig,
    run_dir: Path,
    lineage: dict[str, str | None],
    worker: Tables,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: dict[str, Any],
) -> Manifest:
    """Write `<run_dir>/checkpoint`; it is complete if and only if its manifest exists.

    To be called by one trainer while no gradients are in flight (the servers refuse otherwise).
    Raises DiskFull naming the directory; nothing half-written is left then.
    """
    directory = run_dir / CHECKPOINT
    shutil.rmtree(directory, ignore_errors=True)
    try:
        directory.mkdir(parents=True)
        saved = worker.save(str(directory))
        save_dense(directory, model, optimizer, state)
        rows = {embedding_part(index): int(str(entry["rows"])) for index, entry in enumerate(saved)}
        names = [DENSE, OPTIMIZER, STATE, *rows]
        parts = [part_of(directory, directory / name, rows.get(name)) for name in names]
        manifest = Manifest(
            kind="checkpoint",
            digest=digest_of(parts),
            parts=parts,
            schema_fingerprint=config.schema_fingerprint(),
            lineage=Lineage.model_validate(
                {**lineage, "config_digest": config.digest(), "code_version": __version__}
            ),
            details={
                "model": config.name,
                "run": run_dir.name,
                "servers": config.cluster.servers,
                "step": state["step"],
                "tables": {t.name: {"dim": t.dim, "optimizer": t.optimizer.kind} for t in config.tables},
            },
        )
        _write_durably(directory / MANIFEST, manifest.to_bytes())
    except Exception as error:
        shutil.rmtree(directory, ignore_errors=True)
        if _is_disk_full(error):
            raise DiskFull(
                f"no space left while the checkpoint was written to {directory}",
                "free space or set PERSIA_HOME to a larger disk, then run the task again",
            ) from error
        raise
    return manifest


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
