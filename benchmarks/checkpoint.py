"""Saving and restoring tables, beside what the medium allows, and how long training waits for a snapshot.

`make bench-checkpoint` (`SMALL=1` for a size that only shows that the program works). See docs/benchmarks.md.
"""

import argparse
import logging
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import report
from benchmarks.checkpoint_limits import BareS3, credentials, read_files, seconds, write_files
from benchmarks.checkpoint_tables import SERVERS, Snapshot, filled, row_bytes_of_file, snapshot, tables
from benchmarks.checkpoint_warm import WarmTables, warm_round
from benchmarks.harness import QUIET_CORES, Result, until_quiet
from persia_core import _native
from persia_core.handoff.manifest import Lineage, Manifest, Part, digest_of, part_of

log = logging.getLogger("benchmarks.checkpoint")

NAME = "checkpoint"
RESHARDED = 3  # servers
MEDIUM = Path("/dev/shm")  # noqa: S108
_BUCKET = "bench"
_PREFIX = "checkpoint/"


@dataclass(frozen=True)
class Size:
    """Bytes of the table for tmpfs and pause, and for S3; how often and how long."""

    table_bytes: int
    s3_bytes: int
    rounds: int
    tries: int
    training_s: float  # before and after a snapshot


FULL = Size(table_bytes=4 << 30, s3_bytes=512 << 20, rounds=5, tries=2, training_s=3.0)
SMALL = Size(table_bytes=8 << 20, s3_bytes=2 << 20, rounds=2, tries=1, training_s=0.1)

Values = dict[str, float]


def tmpfs_round(worker: _native.EmbeddingWorker, rows: int) -> Values:
    """Seconds of each, one after the other: a neighbour slows all of them alike."""
    with directory() as place:
        values = {"save": seconds(lambda: worker.save(str(place)))}
        parts = sorted(place.iterdir())
        sizes = [path.stat().st_size for path in parts]
        values["digests"] = seconds(lambda: [part_of(place, path) for path in parts])
        for readers, name in ((1, "read"), (SERVERS, "read by all")):
            values[name] = read_files(parts, readers)
        values["restore"] = _restore(parts, rows, SERVERS)
        values["restore resharded"] = _restore(parts, rows, RESHARDED)
    for writers, name in ((1, "write"), (SERVERS, "write by all")):
        with directory() as place:
            values[name] = write_files(place, sizes, writers)
    return values | {"bytes": float(sum(sizes))}


def _restore(parts: list[Path], rows: int, servers: int) -> float:
    worker = tables(rows, servers)
    return seconds(lambda: worker.load([str(path) for path in parts]))


def s3_round(worker: _native.EmbeddingWorker, rows: int, bare: BareS3, endpoint: str, number: int) -> Values:
    """Seconds from the tables into the store and back, as `persia publish` and `persia train` do it."""
    from persia_core.handoff.s3_store import S3Store
    from persia_core.handoff.transfer import download_and_verify, upload_parts

    store = S3Store(f"s3://{_BUCKET}", endpoint)
    prefix = f"{_PREFIX}{number}/"

    def save(place: Path) -> None:
        worker.save(str(place))
        upload_parts(store, prefix, place, _manifest(place))

    def restore(place: Path) -> None:
        download_and_verify(store, prefix, place, "checkpoint")
        tables(rows, SERVERS).load([str(path) for path in sorted(place.glob("embedding-*"))])

    with directory() as place, directory() as copies:
        (mine := place / "parts").mkdir()
        values = {"save": seconds(lambda: save(mine))}
        paths = sorted(mine.iterdir())
        values["upload"] = bare.upload(paths)
        values["download"] = bare.download(paths, copies)
    with directory() as place:
        values["restore"] = seconds(lambda: restore(place))
    bare.clear()
    return values | {"bytes": float(rows * row_bytes_of_file())}


def _manifest(place: Path) -> Manifest:
    parts: list[Part] = [part_of(place, path) for path in sorted(place.iterdir())]
    lineage = Lineage(dataset="bench", ds="2026-01-01", parent=None, config_digest="0" * 64, code_version="0")
    return Manifest(
        kind="checkpoint",
        digest=digest_of(parts),
        parts=parts,
        schema_fingerprint="0" * 64,
        lineage=lineage,
        details={},
    )


@contextmanager
def directory() -> Iterator[Path]:
    """An empty one on tmpfs, that goes away."""
    path = Path(tempfile.mkdtemp(prefix="persia-bench-", dir=MEDIUM))
    try:
        yield path
    finally:
        shutil.rmtree(path)


def figures_of(
    tmpfs: list[Values], s3: list[Values], snapshots: list[Snapshot], warm: list[Values]
) -> dict[str, float]:
    """Medians over rounds; a ratio is of two values of one round."""

    def ratio(rounds: list[Values], limit: str, *ours: str) -> float:
        return statistics.median(each[limit] / sum(each[name] for name in ours) for each in rounds)

    def rate(name: str) -> float:
        return statistics.median(each["bytes"] / each[name] / 1e9 for each in tmpfs)

    return {
        "save_tmpfs_vs_limit": ratio(tmpfs, "write", "save"),
        "save_tmpfs_vs_all_cores": ratio(tmpfs, "write by all", "save"),
        "save_with_digests_tmpfs_vs_limit": ratio(tmpfs, "write", "save", "digests"),
        "restore_tmpfs_vs_limit": ratio(tmpfs, "read", "restore"),
        "restore_tmpfs_vs_all_cores": ratio(tmpfs, "read by all", "restore"),
        "restore_resharded_vs_limit": ratio(tmpfs, "read", "restore resharded"),
        "save_s3_vs_limit": ratio(s3, "upload", "save"),
        "restore_s3_vs_limit": ratio(s3, "download", "restore"),
        "warm_restart_vs_reload": ratio(warm, "disk", "warm"),
        "warm_restart_vs_reload_with_digests": ratio(warm, "disk with digests", "warm"),
        "warm_restart_vs_reload_s3": ratio(warm, "s3", "warm"),
        "warm_restart_s": statistics.median(each["warm"] for each in warm),
        "save_tmpfs_gb_per_s": rate("save"),
        "restore_tmpfs_gb_per_s": rate("restore"),
        "training_pause_s": statistics.median(each.pause_s for each in snapshots),
        "training_during_save_vs_before": statistics.median(each.during / each.before for each in snapshots),
        "training_after_save_vs_before": statistics.median(each.after / each.before for each in snapshots),
    }


def _once(work: Callable[[], Result]) -> Callable[[int], Result]:
    return lambda _: work()


def over_s3(size: Size, rounds: int, others: list[float]) -> tuple[list[Values], list[Values]]:
    """The rounds through a local endpoint, and those of restarts; `others` gets a value for each of them."""
    from persia_core.handoff.s3_store import S3Store
    from tests.support.s3_server import s3_server

    rows = size.s3_bytes // row_bytes_of_file()
    with directory() as logs, credentials(), s3_server(logs / "s3.log") as endpoint, directory() as segments:
        bare = BareS3(endpoint, _BUCKET)
        bare.make_bucket()

        def of_each_round(name: str, work: Callable[[int], Values]) -> list[Values]:
            found = []
            for number in range(rounds):
                there = until_quiet(_once(partial(work, number)), 1)
                found.append(there.result)
                others.append(there.others_cores)
                log.info("%s: round %d of %d: others used %.2f cores", name, number + 1, rounds, others[-1])
                bare.clear()
            return found

        worker = filled(rows)
        s3 = of_each_round("S3", partial(s3_round, worker, rows, bare, endpoint))
        del worker
        warm, store = WarmTables(rows, segments), S3Store(f"s3://{_BUCKET}", endpoint)
        restart = partial(warm_round, warm, store, _manifest)
        return s3, of_each_round("restart", lambda number: restart(f"{_PREFIX}warm-{number}/"))


def main() -> None:
    """Run all, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a tiny table, into build/bench/small")
    parser.add_argument("--rounds", type=int, help="rounds of each kind")
    parser.add_argument("--out", type=Path, help="directory for the result")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    log.setLevel(logging.INFO)
    size = SMALL if arguments.small else FULL
    rounds = arguments.rounds or size.rounds
    out = arguments.out or (report.PROJECT / "build" / "bench" / "small" if arguments.small else None)

    notes: list[str] = []
    tmpfs: list[Values] = []
    snapshots: list[Snapshot] = []
    others: list[float] = []

    rows = size.table_bytes // row_bytes_of_file()
    worker = filled(rows)
    for number in range(rounds):
        quiet = until_quiet(_once(partial(tmpfs_round, worker, rows)), size.tries)
        tmpfs.append(quiet.result)
        others.append(quiet.others_cores)
        log.info("tmpfs: round %d of %d: others used %.2f cores", number + 1, rounds, quiet.others_cores)
    for number in range(rounds):
        with directory() as place:
            snap = partial(snapshot, worker, rows, place, 2 + number, size.training_s)
            snapped = until_quiet(_once(snap), 1)
        snapshots.append(snapped.result)
        others.append(snapped.others_cores)
        log.info("snapshot: round %d of %d: others used %.2f cores", number + 1, rounds, snapped.others_cores)
    del worker

    s3, restarts = over_s3(size, rounds, others)

    if (worst := max(others)) > QUIET_CORES:
        notes.append(f"others used up to {worst:.2f} cores during a round that was kept")
    figures = figures_of(tmpfs, s3, snapshots, restarts)
    samples = {
        "tmpfs": tmpfs,
        "s3": s3,
        "restarts": restarts,
        "snapshots": [vars(each) for each in snapshots],
        "others_cores": others,
    }
    report.print_table("figures", ["", ""], [[name, f"{value:.4g}"] for name, value in figures.items()])
    for note in notes:
        print(f"note: {note}")
    path = (out or report.RESULTS) / f"{NAME}.json"
    report.write(path, figures, samples, notes, report.make_command("bench-checkpoint"))
    print(f"result: {path}")


if __name__ == "__main__":
    main()
