"""The results of the study, one JSON line per (data set, setting, seed): what is done is not done again."""

import json
import logging
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.study.job import StudyJob, run_study_job
from benchmarks.study.partitions import StudyStore
from benchmarks.study.plan import Setting, StudyData, configured, fingerprint, resolved

log = logging.getLogger(__name__)

Record = dict[str, Any]


class Records:
    """A file of results, to which jobs append."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path.absolute()

    def all(self) -> list[Record]:
        """Every line; one that a killed run left incomplete is dropped from the file."""
        if not self.path.exists():
            return []
        text = self.path.read_text(encoding="utf-8")
        if text and not text.endswith("\n"):
            text = text[: text.rfind("\n") + 1]
            self.path.write_text(text, encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    def of(self, key: str) -> dict[int, Record]:
        """By seed, those whose configuration and partitions are those of `key`."""
        return {record["seed"]: record for record in self.all() if record["key"] == key}


def run_missing(run: Callable[[list[int]], None], missing: Callable[[], list[int]]) -> None:
    """Run the seeds that are missing; those that a job which fails has not left are run once more.

    Raises what the second job fails with.
    """
    if not (seeds := missing()):
        return
    try:
        run(seeds)
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        log.warning("a job has failed, and is run once more: %s", error)
        if left := missing():
            run(left)


def run_setting(
    records: Records,
    store: StudyStore,
    data: StudyData,
    setting: Setting,
    seeds: list[int],
    labels: Record | None = None,
    run: bool = True,
    **changes: dict[str, Any],
) -> dict[int, Record]:
    """The results of all `seeds`, of which those that are not there yet are run now, in one job.

    `changes` replace keys of sections of the configuration. Without `run` missing ones stay missing.
    """
    partitions = store.partitions(data)
    document = configured(data, setting, **changes)
    key = fingerprint(document, partitions.digests)

    def job(missing: list[int]) -> None:
        log.info("%s, %s: %d of %d seeds to run", data.name, setting.name, len(missing), len(seeds))
        study = StudyJob(
            days=list(data.days),
            partitions=partitions.directories,
            seeds=missing,
            results=records.path,
            labels={
                **{"key": key, "data": data.name, "setting": setting.name, "commit": machine.commit()},
                **(labels or {}),
            },
        )
        run_study_job(resolved(document, store.store_path), study)

    if run:
        run_missing(job, lambda: [seed for seed in seeds if seed not in records.of(key)])
    done = records.of(key)
    return {seed: done[seed] for seed in seeds if seed in done}
