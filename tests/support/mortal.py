"""A dense network that kills a rank of its job once; the trainers of a test job import it by path."""

import os
import signal
import time
from pathlib import Path

import torch.distributed as dist
from torch import Tensor

from persia_core.launch.rank_process import rank_processes
from persia_core.models.dlrm import DLRM
from persia_core.phases import RUN_DIR_VARIABLE


class Mortal(DLRM):
    """At its training batch number `batch` (from 1) in `trainer`, `victim` is killed, and `file` tells that.

    It waits for the cut at step `cut` to be complete before. With `file` there already nothing happens, so a
    retry with the same configuration goes well. `victim` is a word of the command of a rank of the job, or
    empty for the trainer itself.
    """

    def __init__(
        self,
        dense_dim: int,
        embedding_dims: dict[str, int],
        *,
        file: str,
        batch: int = 1,
        cut: int = 0,
        trainer: int = 0,
        victim: str = "",
        dropout: float = 0.2,
    ) -> None:
        super().__init__(dense_dim, embedding_dims, bottom_mlp=(8,), top_mlp=(8,), dropout=dropout)
        self.file = Path(file)
        self.left = batch
        self.cut = cut
        self.trainer = trainer
        self.victim = victim

    def forward(self, dense: Tensor, embeddings: dict[str, Tensor]) -> Tensor:
        if self.training:
            self.left -= 1
            if self.left == 0 and dist.get_rank() == self.trainer and not self.file.exists():
                self._kill()
        logits: Tensor = super().forward(dense, embeddings)
        return logits

    def _kill(self) -> None:
        run_dir = Path(os.environ[RUN_DIR_VARIABLE])
        while self.cut and not (run_dir / "cuts" / str(self.cut) / "manifest.json").exists():
            time.sleep(0.01)
        self.file.touch()
        if not self.victim:
            os.kill(os.getpid(), signal.SIGKILL)
        for process in rank_processes(run_dir):
            pid = process.pid
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if Path(command[0].decode()).name == self.victim or self.victim.encode() in command[1:]:
                os.kill(pid, signal.SIGKILL)
        time.sleep(3600)  # the job ends before
