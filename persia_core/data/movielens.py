"""MovieLens-100K as raw partitions. Its files come out of the PyPI wheel `recbole`; none is kept here.

Harper and Konstan, The MovieLens Datasets, ACM TiiS 5(4), 2015: 100,000 ratings of 1,682 films by 943
users, September 1997 to April 1998.

Partitions are weeks, not days: the log is thin and bursty, its last days have as few as 36 ratings,
on which no metric means anything. The first partition is the bootstrap, all that happened before the
last three weeks; a partition is named by the first day of its (last) week.
"""

import csv
import io
import itertools
import logging
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from persia_core.data.days import DaySummary, raw_day
from persia_core.errors import DataInvalid, EnvironmentProblem
from persia_core.handoff.manifest import sha256_file

log = logging.getLogger(__name__)

REQUIREMENT = "recbole==1.2.1"
FOLDER = "recbole/dataset_example/ml-100k/"
FILES = {  # SHA-256 of the files in that version of the wheel
    "ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
    "ml-100k.user": "4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972",
    "ml-100k.item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
}
BOOTSTRAP = "1998-03-26"
WEEKS = ("1998-04-02", "1998-04-09", "1998-04-16")
ROWS = 100_000
POSITIVE_RATING = 4
COLUMNS = (
    "user_id",
    "item_id",
    "age",
    "gender",
    "occupation",
    "release_year",
    "genres",
    "timestamp",
    "label",
)
Row = tuple[str, ...]


class MovieLensUnreachable(EnvironmentProblem):
    """The package registry did not give the wheel that holds the data."""


def fetch_movielens(cache: Path, timeout_s: float = 180.0) -> Path:
    """The directory under `cache` with the files `ml-100k.{inter,user,item}`, downloaded at most once.

    Raises MovieLensUnreachable when pip cannot get the wheel, DataInvalid when the wheel does not
    hold the files that are expected.
    """
    directory = cache / "ml-100k"
    if all((directory / name).is_file() and sha256_file(directory / name) == FILES[name] for name in FILES):
        return directory
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        wheel = _download(Path(scratch), timeout_s)
        with zipfile.ZipFile(wheel) as archive:
            for name, expected in FILES.items():
                data = _member(archive, FOLDER + name)
                if sha256(data).hexdigest() != expected:
                    raise DataInvalid(
                        f"{name} in {wheel.name} is not the file that is expected (SHA-256 differs)",
                        f"the registry served another {REQUIREMENT}; use the synthetic click log",
                    )
                temporary = directory / f".{name}.part"
                temporary.write_bytes(data)
                temporary.replace(directory / name)
    return directory


def movielens_partitions(source: Path) -> Iterator[tuple[str, list[Row]]]:
    """(ds, rows) of each partition in order; a row is its values as text, in order of COLUMNS.

    Rows are in order of (timestamp, user, item). `label` is 1 for a rating of 4 or better;
    `release_year` is empty where the source has no number (two films); `genres` are separated by spaces.
    Every rating is in exactly one partition. Raises DataInvalid when a file does not hold what it should.
    """
    rows = sorted(_joined(source), key=lambda row: (int(row[7]), int(row[0]), int(row[1])))
    if len(rows) != ROWS:
        raise DataInvalid(
            f"{source}: {len(rows)} ratings, expected {ROWS}", "delete the folder and fetch again"
        )
    if rows and int(rows[-1][7]) >= _second(WEEKS[-1]) + 7 * 86_400:
        raise DataInvalid(f"{source}: ratings after the last week", "delete the folder and fetch again")
    starts = [_second(ds) for ds in WEEKS]

    def partition(row: Row) -> str:
        return (BOOTSTRAP, *WEEKS)[sum(int(row[7]) >= start for start in starts)]

    for ds, group in itertools.groupby(rows, key=partition):
        yield ds, list(group)


def write_movielens(source: Path, out: Path) -> list[DaySummary]:
    """Write each partition to `<out>/ds=<ds>/ratings.csv.gz`, the same bytes every time."""
    summaries = []
    for ds, rows in movielens_partitions(source):
        with raw_day(out, ds, "ratings") as (path, packed):
            text = io.TextIOWrapper(packed, encoding="utf-8", newline="")
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows(rows)
            text.detach()
        summaries.append(DaySummary(ds, path, len(rows), sum(row[8] == "1" for row in rows)))
        log.info("wrote %s: %d rows", path, len(rows))
    return summaries


def _second(ds: str) -> int:
    """Unix seconds of the midnight (UTC) with which the day begins."""
    return int(datetime.fromisoformat(ds).replace(tzinfo=UTC).timestamp())


def _download(directory: Path, timeout_s: float) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--quiet", "--no-input", "--disable-pip-version-check", "--timeout", "15", "--retries", "2"]
    command += [REQUIREMENT, "-d", str(directory)]
    remedy = "check the network and pip's index, or use the synthetic click log (persia data synth)"
    log.info("downloading %s, which carries MovieLens-100K", REQUIREMENT)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise MovieLensUnreachable(
            f"pip download {REQUIREMENT}: no answer in {timeout_s:.0f} s", remedy
        ) from error
    wheels = sorted(directory.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        reason = (done.stderr.strip().splitlines() or ["no wheel came"])[-1]
        raise MovieLensUnreachable(f"pip download {REQUIREMENT}: {reason}", remedy)
    return wheels[0]


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        info = archive.getinfo(name)
    except KeyError as error:
        raise DataInvalid(f"{archive.filename} holds no {name}", "use the synthetic click log") from error
    if info.file_size > 16 << 20:
        raise DataInvalid(f"{name} claims {info.file_size} bytes", "use the synthetic click log")
    return archive.read(info)


def _typed(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The named columns of one of RecBole's files: tab separated, header `name:type`, no quoting.

    Film titles are never looked at, so their spelling cannot do harm.
    """
    with path.open(encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        header = [field.partition(":")[0] for field in file.readline().rstrip("\r\n").split("\t")]
        try:
            places = [header.index(column) for column in columns]
        except ValueError as error:
            raise DataInvalid(f"{path}: {error} in its header", "delete the file and fetch again") from error
        for line in file:
            fields = line.rstrip("\r\n").split("\t")
            if len(fields) != len(header):
                raise DataInvalid(
                    f"{path}: a line of {len(fields)} fields", "delete the file and fetch again"
                )
            yield tuple(fields[place] for place in places)


def _joined(source: Path) -> Iterator[Row]:
    people = {
        user: rest
        for user, *rest in _typed(source / "ml-100k.user", ("user_id", "age", "gender", "occupation"))
    }
    films = {
        item: (year if re.fullmatch(r"\d{4}", year) else "", genres)
        for item, year, genres in _typed(source / "ml-100k.item", ("item_id", "release_year", "class"))
    }
    ratings = _typed(source / "ml-100k.inter", ("user_id", "item_id", "rating", "timestamp"))
    for user, item, rating, timestamp in ratings:
        if user not in people or item not in films:
            raise DataInvalid(
                f"{source}: user {user} or item {item} has no attributes", "delete the folder and fetch again"
            )
        label = "1" if float(rating) >= POSITIVE_RATING else "0"
        yield (user, item, *people[user], *films[item], str(int(float(timestamp))), label)
