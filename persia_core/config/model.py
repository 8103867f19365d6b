"""The configuration of one model: features, tables, training, cluster, storage, gates."""

import hashlib
import json
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from persia_core.config.airflow import AirflowSection
from persia_core.config.base import GrownSection, Name, Section
from persia_core.config.checkpointing import Checkpointing
from persia_core.config.data_checks import DataChecks
from persia_core.config.derived_features import CrossFeature
from persia_core.config.export import Export
from persia_core.config.features import (
    ROW_OVERHEAD_BYTES,
    DenseFeature,
    EmbeddingTable,
    Feature,
    IdFeature,
    MultiCategoricalFeature,
)
from persia_core.config.gates import Gates
from persia_core.config.metrics import Metrics
from persia_core.config.retention import Retention
from persia_core.config.spark import SparkSection
from persia_core.config.time_format import check_time_format
from persia_core.config.training import Training
from persia_core.handoff.layout import check_name

RESERVED_COLUMNS = ("label", "time", "prediction")


class Dataset(GrownSection):
    """Raw partitions: where the label is, when a sample happened, how values become ids."""

    later_keys: ClassVar[frozenset[str]] = frozenset(
        {"columns", "trim", "comment", "positive_labels", "negative_labels", "time_format", "weight"}
    )

    name: str
    format: Literal["csv", "tsv", "parquet", "jsonl"]
    columns: Annotated[list[str], Field(min_length=1)] | None = None  # of csv and tsv files without a header
    trim: bool = False  # csv and tsv: drop spaces around values
    comment: Annotated[str, Field(min_length=1, max_length=1)] | None = (
        None  # csv and tsv: starts such a line
    )
    label: str = "label"
    positive_labels: tuple[str, ...] = ()  # raw values that mean 1; with negative_labels, in place of 1 and 0
    negative_labels: tuple[str, ...] = ()
    time_column: str | None = None  # Unix seconds, or as time_format says
    time_format: str | None = None  # of strptime, UTC: digits of %Y or %y, %m, %d, %H, %M, %S
    weight: str | None = None  # column of the samples' weights, finite and not negative
    salt: str = ""  # of this deployment; changing it changes every id
    prefix_bits: Annotated[int, Field(ge=1, le=16)] = 8

    @field_validator("name")
    @classmethod
    def _name(cls, name: str) -> str:
        return check_name("dataset", name)

    @field_validator("time_format")
    @classmethod
    def _time_format(cls, time_format: str | None) -> str | None:
        if time_format is not None:
            check_time_format(time_format)
        return time_format

    @model_validator(mode="after")
    def _options_fit(self) -> "Dataset":
        for key in ("columns", "trim", "comment"):
            if getattr(self, key) and self.format not in ("csv", "tsv"):
                raise ValueError(f"{key} is for the formats csv and tsv")
        if self.columns is not None and len(set(self.columns)) != len(self.columns):
            raise ValueError("columns names a column twice")
        if bool(self.positive_labels) != bool(self.negative_labels):
            raise ValueError("positive_labels and negative_labels come together")
        if both := set(self.positive_labels) & set(self.negative_labels):
            raise ValueError(f"{sorted(both)[0]!r} is a positive and a negative label")
        if self.time_format is not None and self.time_column is None:
            raise ValueError("time_format needs time_column")
        return self


class Cluster(Section):
    """The shape of the MPI job."""

    servers: Annotated[int, Field(ge=1, le=1024)] = 1
    server_threads: Annotated[int, Field(ge=1, le=256)] = 1  # of each server; each owns a part of every table
    trainers: Annotated[int, Field(ge=1, le=1024)] = 1
    # Ranks that read the data and look up for the trainers; 0: each trainer does it in its own process.
    embedding_workers: Annotated[int, Field(ge=0, le=1024)] = 0
    # Of servers, of embedding workers, and of the threads that look up and update in a trainer. idle: they
    # take only cores that the dense network, and whatever else runs on the host, leaves.
    embedding_priority: Literal["normal", "idle"] = "normal"
    timeout_s: Annotated[float, Field(gt=0)] = 60.0  # of one request to a server
    job_timeout_s: Annotated[float, Field(gt=0)] = 86_400.0
    # Between two signs of life of a rank, which come twice a second, and before the first one.
    heartbeat_timeout_s: Annotated[float, Field(ge=2)] = 30.0
    start_timeout_s: Annotated[float, Field(ge=2)] = 120.0
    # In which rows and gradients travel between workers and servers, which compute in float32 all the same.
    # The 16-bit types halve the traffic and round to nearest, float16 with a scale for each row.
    wire_values: Literal["float32", "bfloat16", "float16"] = "float32"
    # For benchmarks only: a worker receives a reply no earlier than this after it sent the request, as if
    # there were a network with that round trip between them.
    simulated_network_delay_ms: Annotated[float, Field(ge=0)] = 0.0
    # Requests and replies that a server keeps on their way. Each native worker that a rank may
    # have gets an equal share for each channel.
    max_buffered_bytes: Annotated[int, Field(lt=2**63)] = 8 << 30

    @model_validator(mode="after")
    def _the_delay_leaves_time_to_answer(self) -> "Cluster":
        if self.simulated_network_delay_ms >= 1000 * self.timeout_s:
            raise ValueError("simulated_network_delay_ms must be below timeout_s, which is in seconds")
        return self

    @property
    def workers_per_rank(self) -> int:
        """Native embedding workers in one rank, at most: one for each trainer that it serves."""
        return -(-self.trainers // self.embedding_workers) if self.embedding_workers else 1

    @model_validator(mode="after")
    def _every_worker_has_a_trainer(self) -> "Cluster":
        if self.embedding_workers > self.trainers:
            raise ValueError(
                f"embedding_workers must be at most the {self.trainers} trainers: each trainer has one"
            )
        return self

    @model_validator(mode="after")
    def _every_rank_has_a_share(self) -> "Cluster":
        others = self.servers + self.embedding_workers + self.trainers - 1
        least = 3 * (1 << 20) * others * self.workers_per_rank
        if self.max_buffered_bytes < least:
            raise ValueError(f"max_buffered_bytes must be at least {least} for so many ranks")
        return self


class Storage(Section):
    """Where partitions, checkpoints and models live. Credentials come from the environment."""

    url: str  # s3://bucket/prefix or file:///directory
    endpoint_url: str | None = None  # of an S3 service other than AWS

    @field_validator("url")
    @classmethod
    def _scheme(cls, url: str) -> str:
        if not url.startswith(("s3://", "file:///")):
            raise ValueError("a storage URL starts with s3:// or file:///")
        return url


class ModelConfig(Section):
    """One YAML file."""

    name: str
    dataset: Dataset
    features: Annotated[list[Feature], Field(min_length=1)]
    tables: Annotated[list[EmbeddingTable], Field(min_length=1)]
    data_checks: DataChecks = DataChecks()
    training: Training
    checkpoint: Checkpointing = Checkpointing()
    cluster: Cluster = Cluster()
    storage: Storage
    gates: Gates = Gates()
    export: Export = Export()
    retention: Retention = Retention()
    spark: SparkSection = SparkSection()
    metrics: Metrics = Metrics()
    airflow: AirflowSection | None = None

    @field_validator("name")
    @classmethod
    def _name(cls, name: str) -> str:
        return check_name("model", name)

    @model_validator(mode="after")
    def _names(self) -> "ModelConfig":
        for kind, names in (
            ("feature", [feature.name for feature in self.features]),
            ("table", [table.name for table in self.tables]),
        ):
            for name in names:
                if names.count(name) > 1:
                    raise ValueError(f"{kind} {name} is declared twice")
        reserved = RESERVED_COLUMNS if self.dataset.weight is None else (*RESERVED_COLUMNS, "weight")
        for feature in self.features:
            if feature.name in reserved:
                raise ValueError(
                    f"a feature cannot be called {feature.name}: hashed partitions use that name"
                )
        return self

    @model_validator(mode="after")
    def _prefixes(self) -> "ModelConfig":
        bits = self.dataset.prefix_bits
        used: dict[int, str] = {}
        for table in self.tables:
            if table.prefix >= 1 << bits:
                raise ValueError(f"table {table.name}: prefix {table.prefix} does not fit in {bits} bits")
            if table.prefix in used:
                raise ValueError(f"tables {used[table.prefix]} and {table.name} have the same prefix")
            used[table.prefix] = table.name
        return self

    @model_validator(mode="after")
    def _references(self) -> "ModelConfig":
        tables = {table.name for table in self.tables}
        for feature in self.id_features:
            if feature.table not in tables:
                raise ValueError(f"feature {feature.name}: no table is called {feature.table}")
            if feature.kind == "timestamp" and self.dataset.time_column is None:
                raise ValueError(f"feature {feature.name} needs dataset.time_column")
        single = {f.name for f in self.id_features if f.kind != "multi-categorical"}
        for name in self.training.metric_slices:
            if name not in single:
                raise ValueError(f"training.metric_slices: no feature called {name} has one id per row")
        for name in tables - {feature.table for feature in self.id_features}:
            raise ValueError(f"table {name} is used by no feature")
        return self

    @model_validator(mode="after")
    def _crosses(self) -> "ModelConfig":
        known = {feature.name: feature for feature in self.features}
        for cross in self.features:
            if not isinstance(cross, CrossFeature):
                continue
            for name in cross.of:
                if name not in known:
                    raise ValueError(f"feature {cross.name}: no feature is called {name}")
                if isinstance(known[name], DenseFeature | MultiCategoricalFeature | CrossFeature):
                    raise ValueError(f"feature {cross.name}: {name} is {known[name].kind}, not a single id")
        return self

    @model_validator(mode="after")
    def _trainers_do_not_race(self) -> "ModelConfig":
        if not self.training.reproducible or self.cluster.trainers == 1:
            return self
        if self.training.mode != "sync":
            raise ValueError(
                f"training.reproducible with {self.cluster.trainers} trainers needs training.mode: sync; in "
                f"mode {self.training.mode} their gradients are applied as they come"
            )
        for table in self.tables:
            option = "capacity_bytes" if table.capacity_bytes is not None else None
            if table.admission.kind == "sightings":
                option = "admission: sightings"
            if option is not None:
                raise ValueError(
                    f"training.reproducible with several trainers: table {table.name} must not have "
                    f"{option}, which depends on whose lookup comes first; use one trainer"
                )
        return self

    @model_validator(mode="after")
    def _every_thread_holds_a_row(self) -> "ModelConfig":
        threads = self.cluster.server_threads
        for table in self.tables:
            row = table.row_bytes + ROW_OVERHEAD_BYTES
            if table.capacity_bytes is not None and table.capacity_bytes // threads < row:
                raise ValueError(
                    f"table {table.name}: capacity_bytes must be at least {threads * row}, "
                    f"a row for each of the {threads} server_threads"
                )
        return self

    @model_validator(mode="after")
    def _narrow_exports_are_judged_so(self) -> "ModelConfig":
        kept = self.export.embeddings
        exact = kept == "float32" or (
            kept == "float16" and all(table.weight_type == "float16" for table in self.tables)
        )
        if not exact and "max_prediction_difference" not in self.gates.model_fields_set:
            raise ValueError(
                f"export.embeddings: {kept} changes predictions: say with gates.max_prediction_difference by "
                "how much they may differ from the trainer's, for instance 0.01"
            )
        return self

    @property
    def id_features(self) -> list[IdFeature]:
        return [feature for feature in self.features if not isinstance(feature, DenseFeature)]

    @property
    def dense_features(self) -> list[DenseFeature]:
        return [feature for feature in self.features if isinstance(feature, DenseFeature)]

    def table(self, name: Name) -> EmbeddingTable:
        """The table called `name`; KeyError if there is none."""
        for table in self.tables:
            if table.name == name:
                return table
        raise KeyError(name)

    def pooling_of(self, feature: IdFeature) -> Literal["sum", "mean", "sqrtn", "sequence"]:
        """What becomes of the rows of the feature's bags: its own pooling, or that of its table."""
        own = feature.pooling if isinstance(feature, MultiCategoricalFeature) else None
        return own or self.table(feature.table).pooling

    def sequence_length_of(self, feature: IdFeature) -> int | None:
        """The places of the feature's Sequence; None with any other pooling."""
        if not isinstance(feature, MultiCategoricalFeature) or feature.pooling != "sequence":
            return None
        return feature.sequence_length or feature.max_length

    def schema_fingerprint(self) -> str:
        """SHA-256 (hex) over all that decides what a hashed partition holds."""
        pooling = {"pooling", "sequence_length"}
        return _digest(
            {
                "dataset": self.dataset.model_dump(mode="json"),
                "features": [feature.model_dump(mode="json", exclude=pooling) for feature in self.features],
                "prefixes": {table.name: table.prefix for table in self.tables},
            }
        )

    def digest(self) -> str:
        """SHA-256 (hex) over all of the configuration but what changes no model: where, when, how watched."""
        unused = {"export"} if self.export == Export() else set()  # added when there were digests already
        changes_nothing = {"storage", "retention", "metrics", "checkpoint", "airflow", "spark"}
        return _digest(self.model_dump(mode="json", exclude=changes_nothing | unused))

    def training_digest(self) -> str:
        """SHA-256 (hex) over what is trained and how; the same for every number of servers and trainers."""
        trains = {"name", "dataset", "features", "tables", "training"}
        return _digest(self.model_dump(mode="json", include=trains))


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, allow_nan=False).encode()).hexdigest()
