"""Errors meant for people: what is wrong, where, and what to do about it."""

from persia_core.exit_codes import ExitCode


class PersiaError(Exception):
    """An error with a remedy; the command ends with `exit_code` and prints no traceback.

    `what` names the thing that is wrong (file, key, rank, partition), `remedy` what to do. `result` is what
    the command found out all the same, in the form of its result; None if that is nothing. `role` is that of
    the rank that ended a training job, "trainer 1" say; None where it was none, or no single one.
    """

    exit_code: ExitCode = ExitCode.UNEXPECTED
    role: str | None = None

    def __init__(self, what: str, remedy: str, *, result: object = None) -> None:
        super().__init__(what, remedy)
        self.what = what
        self.remedy = remedy
        self.result = result

    def __str__(self) -> str:
        return f"{self.what}\n  what to do: {self.remedy}"


class ConfigError(PersiaError):
    exit_code = ExitCode.CONFIG_INVALID


class PartitionMissing(PersiaError):
    exit_code = ExitCode.PARTITION_MISSING


class PartitionEmpty(PersiaError):
    exit_code = ExitCode.PARTITION_EMPTY


class DataInvalid(PersiaError):
    exit_code = ExitCode.DATA_INVALID


class DataRefused(PersiaError):
    exit_code = ExitCode.DATA_REFUSED


class StorageUnavailable(PersiaError):
    exit_code = ExitCode.STORAGE_UNAVAILABLE


class StorageConflict(PersiaError):
    exit_code = ExitCode.STORAGE_CONFLICT


class Corrupt(PersiaError):
    exit_code = ExitCode.CORRUPT


class DiskFull(PersiaError):
    exit_code = ExitCode.DISK_FULL


class RankFailed(PersiaError):
    exit_code = ExitCode.RANK_FAILED


class RankHung(PersiaError):
    exit_code = ExitCode.RANK_HUNG


class Diverged(PersiaError):
    exit_code = ExitCode.DIVERGED


class NoParent(PersiaError):
    exit_code = ExitCode.NO_PARENT


class EarlierDayMissing(PersiaError):
    exit_code = ExitCode.EARLIER_DAY_MISSING


class OutOfOrder(PersiaError):
    exit_code = ExitCode.OUT_OF_ORDER


class RunLocked(PersiaError):
    exit_code = ExitCode.RUN_LOCKED


class GateRefused(PersiaError):
    exit_code = ExitCode.GATE_REFUSED


class PromotionRefused(PersiaError):
    exit_code = ExitCode.PROMOTION_REFUSED


class EnvironmentProblem(PersiaError):
    exit_code = ExitCode.ENVIRONMENT
