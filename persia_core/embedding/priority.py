"""At which priority the embedding side of a job runs beside the dense network."""

import os
from typing import Literal

Priority = Literal["normal", "idle"]


def run_at(priority: Priority) -> None:
    """Of the calling thread, and of threads that it starts later.

    `idle`: only on cores that nothing else wants (Linux's SCHED_IDLE). Without it a lookup that arrives takes
    a core from one thread of a parallel region, and all other threads wait at the end of the region. It is a
    lowering that any user may ask for; there is no way back without rights.
    """
    if priority == "idle":
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
