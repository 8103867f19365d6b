"""The group of trainers: who we are in the MPI job, and collectives that do not burn a core."""

import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch._C._distributed_c10d import FileStore

from persia_core.errors import EnvironmentProblem
from persia_core.training.meetings import Plan

Number = TypeVar("Number", np.uint8, np.float32, np.float64, np.int64)


@dataclass(frozen=True)
class TrainerGroup:
    """This trainer's number, how many there are, its device, and the process groups.

    `control` is always gloo on the CPU: flags, counts and predictions go there, so that they never
    wait for a GPU. The default group carries dense gradients (NCCL when every trainer has a GPU).
    """

    trainer: int
    trainers: int
    device: torch.device
    control: Any

    @staticmethod
    def join(
        trainer: int,
        trainers: int,
        device: str,
        rendezvous: Path,
        local_trainers: int,
        timeout_s: float,
        longest_wait_s: float,
    ) -> "TrainerGroup":
        """Meet the other trainers through the file `rendezvous`, which must not exist beforehand.

        A file rather than a TCP store: nothing listens on the network for it. `local_trainers` is the
        number of trainers on this host. Raises EnvironmentProblem when `device` is "cuda" and this host
        has fewer GPUs than trainers. Dense all-reduce gives up after `timeout_s`; `control` waits up to
        `longest_wait_s`, since one trainer saves while the others wait.
        """
        gpus = torch.cuda.device_count()
        if device == "cuda" and gpus < local_trainers:
            raise EnvironmentProblem(
                f"this host has {gpus} GPUs for {local_trainers} trainers",
                "lower cluster.trainers, add hosts, or set training.device: cpu",
            )
        use_gpu = device == "cuda" or (device == "auto" and gpus >= local_trainers)
        chosen = torch.device("cuda", trainer % max(1, gpus)) if use_gpu else torch.device("cpu")
        if use_gpu:
            torch.cuda.set_device(chosen)
        if trainers == local_trainers:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        dist.init_process_group(
            "nccl" if use_gpu else "gloo",
            store=FileStore(str(rendezvous.absolute()), trainers),
            rank=trainer,
            world_size=trainers,
            timeout=timedelta(seconds=timeout_s),
        )
        control = dist.new_group(backend="gloo", timeout=timedelta(seconds=longest_wait_s))
        return TrainerGroup(trainer, trainers, chosen, control)

    def barrier(self) -> None:
        """Wait until every trainer is here."""
        self.all_true(True)

    def all_true(self, flag: bool) -> bool:
        """True if `flag` is true on every trainer."""
        if self.trainers == 1:
            return flag
        value = torch.tensor([1 if flag else 0], dtype=torch.int32)
        dist.all_reduce(value, op=dist.ReduceOp.MIN, group=self.control)
        return bool(value.item())

    def gather(self, values: NDArray[Number]) -> list[NDArray[Number]] | None:
        """The arrays [n_k] of all trainers in their order, on trainer 0; None elsewhere."""
        if self.trainers == 1:
            return [values]
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.trainers)]
        dist.all_gather(sizes, torch.tensor([values.size], dtype=torch.int64), group=self.control)
        longest = max(int(size.item()) for size in sizes)
        own = torch.from_numpy(values)
        padded = torch.zeros(longest, dtype=own.dtype)
        padded[: values.size] = own
        pieces = [torch.zeros_like(padded) for _ in range(self.trainers)] if self.trainer == 0 else None
        dist.gather(padded, pieces, dst=0, group=self.control)
        if pieces is None:
            return None
        return [piece[: int(size.item())].numpy() for piece, size in zip(pieces, sizes, strict=True)]

    def told(self, plan: Plan) -> Plan:
        """The plan of trainer 0, on every trainer."""
        if self.trainers == 1:
            return plan
        values = torch.tensor([int(plan.cut), plan.until], dtype=torch.int64)
        dist.broadcast(values, src=0, group=self.control)
        cut, until = values.tolist()
        return Plan(bool(cut), until)

    def leave(self) -> None:
        """Close the process groups."""
        dist.destroy_process_group()
