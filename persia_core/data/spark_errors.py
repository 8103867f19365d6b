"""What an error of Spark means to a person."""

import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from persia_core.config.home import persia_home, work_dir
from persia_core.errors import DataInvalid, DiskFull, EnvironmentProblem, PersiaError
from spark_jobs.raw_files import RawFile
from spark_jobs.s3a import no_s3a

_ONE_PROCESS = re.compile(r"local(\[.*\])?")
_NOT_THERE = ("FileNotFoundException", "FILE_NOT_EXIST")


def explained(error: Exception, master: str, files: Sequence[RawFile]) -> PersiaError | None:
    """The error for people behind one of Spark on `master`; None if it is none that is known."""
    text = str(error)
    if "No space left on device" in text:
        return disk_full()
    if "S3AFileSystem not found" in text:  # the driver has it, or it would not have come so far
        return no_s3a("of the executors' version of Hadoop")
    if not _ONE_PROCESS.fullmatch(master) and any(word in text for word in _NOT_THERE):
        return _not_shared(master, "an executor does not find a file", persia_home())
    for file in files:
        name = file.location.rpartition("/")[2]
        if name in text or quote(name) in text:
            first = next((line for line in text.splitlines() if line.strip()), "")
            return DataInvalid(
                f"{file.name} cannot be read to its end: {first}",
                "deliver the file again; it was cut or damaged",
            )
    return None


def check_shared(master: str, rows: int, output: Path) -> list[Path]:
    """The files with `rows` rows that Spark wrote into `output`, in order.

    Raises EnvironmentProblem if executors of a cluster have other files there than this host.
    """
    import pyarrow.parquet as pq

    sources = sorted(output.glob("part-*.parquet"))
    if not _ONE_PROCESS.fullmatch(master):
        found = sum(pq.read_metadata(path).num_rows for path in sources)
        if found != rows:
            raise _not_shared(master, f"executors wrote {rows} rows, and {found} of them are here", output)
    return sources


def _not_shared(master: str, what: str, where: Path) -> EnvironmentProblem:
    return EnvironmentProblem(
        f"{what}: driver and executors of {master} do not share {where}",
        "point PERSIA_HOME (or --output) to a file system that all hosts see under the same path, or set "
        "spark.master: local",
    )


def disk_full() -> DiskFull:
    """The error of a full disk under the working directory."""
    return DiskFull(f"no space left under {work_dir()}", "free space there, or point PERSIA_HOME elsewhere")
