"""Where Spark runs, and how its executors come to the raw files. See docs/spark-cluster.md."""

import re
from typing import Literal

from pydantic import Field, field_validator

from persia_core.config.base import Section

_MASTER = re.compile(r"local|local-cluster\[\d+,\d+,\d+\]|yarn|(k8s|spark)://.+")
# What Spark itself takes for a secret. Settings stand on the command line of its JVM, which all can read.
_SECRET = re.compile(r"secret|password|token|access[.]?key", re.IGNORECASE)


class SparkSection(Section):
    """Of `persia hash`. Nothing here changes a partition: it is in no digest."""

    # local: all cores of this host. The others as spark-submit takes them, in client mode; PERSIA_HOME must
    # then lie on a file system that driver and executors share. local-cluster[2,1,1024]: two executors in
    # processes of their own on this host, each with one core and 1024 MiB.
    master: str = "local"
    # staged: the driver downloads the raw files to PERSIA_HOME. direct: executors read them where they lie,
    # those of s3:// by s3a://, which needs hadoop-aws on Spark's class path.
    read_from: Literal["staged", "direct"] = "staged"
    # Of Spark, as for --conf: spark.executor.memory, spark.jars.packages and so on. They go before ours.
    settings: dict[str, str] = Field(default_factory=dict)

    @field_validator("master")
    @classmethod
    def _master(cls, master: str) -> str:
        if not _MASTER.fullmatch(master):
            raise ValueError(
                f"{master!r} is none of local, yarn, k8s://…, spark://… and "
                "local-cluster[executors,cores,MiB]"
            )
        return master

    @field_validator("settings")
    @classmethod
    def _settings(cls, settings: dict[str, str]) -> dict[str, str]:
        for key in settings:
            if not key.startswith("spark.") or key == "spark.master":
                raise ValueError(f"{key!r} is no setting of Spark; the master is named by spark.master")
            if _SECRET.search(key):
                raise ValueError(f"{key!r} is a secret: give it as AWS_* environment variables")
        return settings
