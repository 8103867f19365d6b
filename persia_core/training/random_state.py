"""The states of the trainers' random generators, as tensors of a checkpoint.

The product draws random numbers from torch's generators only (dropout). What NumPy generates, the order of
samples, is a function of the seed and has no state.
"""

import torch
from torch import Tensor

from persia_core.training.group import TrainerGroup

_CPU, _CUDA = "torch_cpu", "torch_cuda"


def random_states(group: TrainerGroup) -> dict[str, Tensor]:
    """uint8 [n] of each trainer and device, `random.<trainer>.<device>`, on trainer 0; nothing elsewhere.

    Every trainer calls it.
    """
    own = {_CPU: torch.get_rng_state()}
    if group.device.type == "cuda":
        own[_CUDA] = torch.cuda.get_rng_state(group.device)
    found: dict[str, Tensor] = {}
    for device, state in own.items():
        for trainer, each in enumerate(group.gather(state.numpy()) or ()):
            found[_name(trainer, device)] = torch.from_numpy(each)
    return found


def restore_random_state(group: TrainerGroup, states: dict[str, Tensor]) -> bool:
    """Go on from what `random_states` gave, if it is of as many trainers; else nothing changes, and False."""
    trainers = sum(name.endswith(_CPU) for name in states)
    if trainers != group.trainers:
        return False
    torch.set_rng_state(states[_name(group.trainer, _CPU)])
    cuda = states.get(_name(group.trainer, _CUDA))
    if cuda is not None and group.device.type == "cuda":
        torch.cuda.set_rng_state(cuda, group.device)
    return True


def _name(trainer: int, device: str) -> str:
    return f"random.{trainer}.{device}"
