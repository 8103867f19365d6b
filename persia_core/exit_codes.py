"""Exit codes of every `persia` command and of the ranks of a training job.

An orchestrator decides by the code alone whether to run a task again: see `is_retryable`.
The table in docs/operations.md is checked against this file by a test.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """What a process says when it ends. The comment of a code is its meaning."""

    OK = 0  # everything asked for was done
    UNEXPECTED = 1  # a defect of ours: the log holds a traceback
    USAGE = 2  # the command line is wrong
    CONFIG_INVALID = 10  # the YAML file is wrong
    PARTITION_MISSING = 11  # no such partition yet: it may still arrive
    PARTITION_EMPTY = 12  # the partition is there and holds no rows
    DATA_INVALID = 13  # a file, column or label is not what the schema says
    DATA_REFUSED = 14  # validation of the hashed partition failed
    STORAGE_UNAVAILABLE = 20  # the object store cannot be reached
    STORAGE_CONFLICT = 21  # something else is already stored under that name
    CORRUPT = 22  # a part is missing, cut short or has another checksum
    DISK_FULL = 23  # no space left where the stage writes
    RANK_FAILED = 30  # a rank of the training job died
    RANK_HUNG = 31  # a rank of the training job stopped answering
    DIVERGED = 32  # too many batches had non-finite losses or gradients
    NO_PARENT = 33  # no earlier checkpoint to start from, and a cold start was not asked for
    EARLIER_DAY_MISSING = 34  # an earlier day has landed and is not trained yet: it may still be
    OUT_OF_ORDER = 35  # a later day is trained already
    RUN_LOCKED = 36  # another job is training this very run
    GATE_REFUSED = 40  # the model gate said no: the champion stays
    PROMOTION_REFUSED = 41  # the champion pointer is ahead, or moved meanwhile
    ENVIRONMENT = 50  # a program that is needed (Java, mpiexec, the native module) is not there
    INTERRUPTED = 130  # stopped by SIGINT
    TERMINATED = 143  # stopped by SIGTERM


_RETRYABLE = frozenset(
    {
        ExitCode.UNEXPECTED,
        ExitCode.PARTITION_MISSING,
        ExitCode.STORAGE_UNAVAILABLE,
        ExitCode.DISK_FULL,
        ExitCode.RANK_FAILED,
        ExitCode.RANK_HUNG,
        ExitCode.EARLIER_DAY_MISSING,
        ExitCode.RUN_LOCKED,
        ExitCode.INTERRUPTED,
        ExitCode.TERMINATED,
    }
)


def is_retryable(code: int) -> bool:
    """True if running the same command again, with nothing changed by hand, can succeed.

    Codes not listed in `ExitCode` (a signal, say) are retryable: nothing is known against it.
    """
    try:
        return ExitCode(code) in _RETRYABLE
    except ValueError:
        return True
