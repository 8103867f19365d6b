"""Reading `s3a://` by Spark: with its classes, and with the endpoint and credentials of this process."""

from typing import Any

from persia_core.errors import EnvironmentProblem

SCHEME = "s3a://"
_HADOOP_AWS, _SDK = "org.apache.hadoop:hadoop-aws", "software.amazon.awssdk:bundle"
_OF_A_ROLE = frozenset({"iam-role", "container-role"})  # every host gets its own, and renews it
_KEYS = {
    "access_key": "fs.s3a.access.key",
    "secret_key": "fs.s3a.secret.key",
    "token": "fs.s3a.session.token",
}


def prepare_s3a(spark: Any, endpoint_url: str | None) -> None:
    """Let Spark read `s3a://` as boto3 reads `s3://` in this process.

    The settings go into the Hadoop configuration of the running driver, which sends it to the executors
    with each job: not into arguments or environment of a process. Raises EnvironmentProblem where Spark has
    no such file system.
    """
    from py4j.protocol import Py4JJavaError

    jvm, hadoop = spark.sparkContext._jvm, spark.sparkContext._jsc.hadoopConfiguration()
    try:
        jvm.org.apache.hadoop.fs.FileSystem.getFileSystemClass(SCHEME.removesuffix("://"), hadoop)
    except Py4JJavaError as error:
        raise no_s3a(jvm.org.apache.hadoop.util.VersionInfo.getVersion()) from error
    import boto3

    for key in _KEYS.values():
        hadoop.unset(key)  # of an earlier day
    for key, value in s3a_settings(boto3.session.Session(), endpoint_url).items():
        hadoop.set(key, value)


def no_s3a(hadoop_version: str) -> EnvironmentProblem:
    """The error of a Spark without the classes of `s3a://`."""
    return EnvironmentProblem(
        f"Spark cannot read {SCHEME}: it has no {_HADOOP_AWS} on its class path (spark.read_from: direct)",
        f"add {_HADOOP_AWS}:{hadoop_version} and the {_SDK} that it wants, in the image, by spark.jars, or "
        f"with spark.settings: {{spark.jars.packages: '{_HADOOP_AWS}:{hadoop_version}'}}; or set "
        "spark.read_from: staged",
    )


def s3a_settings(session: Any, endpoint_url: str | None) -> dict[str, str]:
    """Settings of Hadoop for what a boto3 session reads with.

    Credentials of a role of this host are left out: executors get their own.
    """
    found = {"fs.s3a.endpoint.region": session.region_name or "us-east-1"}
    if endpoint_url is not None:
        found |= {"fs.s3a.endpoint": endpoint_url, "fs.s3a.path.style.access": "true"}
        if endpoint_url.startswith("http://"):
            found["fs.s3a.connection.ssl.enabled"] = "false"
    credentials = session.get_credentials()
    if credentials is not None and credentials.method not in _OF_A_ROLE:
        frozen = credentials.get_frozen_credentials()
        found |= {key: value for name, key in _KEYS.items() if (value := getattr(frozen, name)) is not None}
    return found
