"""The Spark session: on one host by default, loopback only, no UI, quick to start."""

import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spark_jobs.java import find_java_home

log = logging.getLogger(__name__)

MAX_CORES = 16
LOCAL = "local"
MEMORY = "2g"  # heap of the driver

Settings = dict[str, bool | float | int | str | None]


@contextmanager
def spark_session(
    scratch: Path,
    *,
    cores: int | None = None,
    memory: str = MEMORY,
    master: str = LOCAL,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Any]:
    """A SparkSession; one that is already there is used and left running, a new one is stopped.

    `scratch` takes shuffle and warehouse files. `cores` defaults to those this process may use, at
    most 16; it is for `master` "local", in which the driver does all the work. `memory` is the heap of the
    driver. `settings` of Spark go before ours. Under spark-submit master, memory and Java options are those
    that were submitted. Raises EnvironmentProblem when there is no Java.
    """
    from pyspark.sql import SparkSession

    existing = SparkSession.getActiveSession()
    if existing is not None:
        yield existing
        return
    start = time.monotonic()
    given: Settings = {**(settings or {})}
    builder = SparkSession.builder.appName("persia").config(map=_settings(scratch) | given)
    if "PYSPARK_GATEWAY_PORT" not in os.environ:  # not under spark-submit: the JVM is ours to start
        os.environ["JAVA_HOME"] = str(find_java_home(scratch / "java"))
        os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
        builder = builder.config(map=_launch_settings(scratch, master, cores, memory) | given)
    logging.getLogger("py4j").setLevel(logging.WARNING)  # it would log on its way out, to closed streams
    session = builder.getOrCreate()
    log.info("Spark %s started in %.1f s", session.version, time.monotonic() - start)
    try:
        yield session
    finally:
        session.stop()


def _settings(scratch: Path) -> Settings:
    return {
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.warehouse.dir": str(scratch / "spark-warehouse"),
        "spark.sql.caseSensitive": "true",  # columns `A` and `a` are two
        "spark.sql.parquet.compression.codec": "snappy",  # of files that are read once and removed
        "spark.sql.ansi.enabled": "true",
        # What follows from a condition for every alias of a column: minutes of planning for some dozens of
        # features, and nothing here to be gained by it.
        "spark.sql.constraintPropagation.enabled": "false",
        # HotSpot interprets larger methods, which dozens of features in one projection make.
        "spark.sql.codegen.hugeMethodLimit": "8000",
        "spark.python.sql.dataFrameDebugging.enabled": "false",  # several calls per expression for a trace
    }


def _launch_settings(scratch: Path, master: str, cores: int | None, memory: str) -> Settings:
    common: Settings = {**_QUIET, "spark.driver.memory": memory}
    one_host = _one_host(scratch) if master.startswith(LOCAL) else {}
    if master != LOCAL:
        return common | one_host | {"spark.master": master, "spark.executor.extraJavaOptions": _UTC}
    if cores is None:
        cores = min(len(os.sched_getaffinity(0)), MAX_CORES)
    return common | one_host | {"spark.master": f"{LOCAL}[{cores}]"}


def submit_settings() -> dict[str, str]:
    """What spark-submit is to be told of our jobs: what counts only when the JVM of the driver starts."""
    return {
        **_QUIET,
        "spark.driver.memory": MEMORY,
        "spark.driver.extraJavaOptions": _UTC,
        "spark.executor.extraJavaOptions": _UTC,
    }


_UTC = "-Duser.timezone=UTC"
_QUIET = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.log.level": "WARN",
}


def _one_host(scratch: Path) -> Settings:
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    return {
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        # A session lives for seconds: the optimising compiler and a parallel collector cost more
        # to start than they give back.
        "spark.driver.extraJavaOptions": f"-XX:TieredStopAtLevel=1 -XX:+UseSerialGC {_UTC}",
        "spark.local.dir": str(scratch / "spark-local"),
    }
