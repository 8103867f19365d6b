"""`training.reproducible`: two runs of the same thing give the same bits."""

import os

import torch

_CUBLAS = "CUBLAS_WORKSPACE_CONFIG"


def compute_reproducibly() -> None:
    """Make torch compute the same in every run of this process's program; to be called before it computes.

    One thread, since sums depend on how they are shared out; deterministic algorithms, where torch raises
    RuntimeError for operations that have none. What else it takes, the configuration asks for: mode sync
    (servers apply the gradients of a step in the order of the trainers) and staleness 1.
    """
    os.environ.setdefault(_CUBLAS, ":4096:8")  # see torch.use_deterministic_algorithms
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
