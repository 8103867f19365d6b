"""The configuration of one model: features, tables, training, cluster, storage, gates."""

import hashlib
import json
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from persia_core.config.base import Section
from persia_core.config.features import (
    ROW_OVERHEAD_BYTES,
    DenseFeature,
    EmbeddingTable,
    Feature,
    IdFeature,
    Name,
)
from persia_core.config.training import Training
from persia_core.handoff.layout import check_name

RESERVED_COLUMNS = ("label", "time", "prediction")


class Dataset(Section):
    """Raw partitions: where the label is, when a sample happened, how values become ids."""

    name: str
    format: Literal["csv", "tsv", "parquet", "jsonl"]
    label: str = "label"
    time_column: str | None = None  # Unix seconds
    salt: str = ""  # of this deployment; changing it changes every id
    prefix_bits: Annotated[int, Field(ge=1, le=16)] = 8

    @field_validator("name")
    @classmethod
    def _name(cls, name: str) -> str:
        return check_name("dataset", name)


class DataChecks(Section):
    """What a hashed partition must hold to be trained on."""

    min_rows: Annotated[int, Field(ge=1)] = 1
    label_rate: tuple[float, float] = (0.001, 0.999)
    max_missing_share: Annotated[float, Field(ge=0, le=1)] = 1.0
    partition_days: Annotated[int, Field(ge=1)] = 1  # that a partition covers, from its ds on


class Cluster(Section):
    """The shape of the MPI job."""

    servers: Annotated[int, Field(ge=1, le=1024)] = 1
    server_threads: Annotated[int, Field(ge=1, le=256)] = 1  # of each server; each owns a part of every table
    trainers: Annotated[int, Field(ge=1, le=1024)] = 1
    # Ranks that read the data and look up for the trainers; 0: each trainer does it in its own process.
    embedding_workers: Annotated[int, Field(ge=0, le=1024)] = 0
    timeout_s: Annotated[float, Field(gt=0)] = 60.0  # of one request to a server
    job_timeout_s: Annotated[float, Field(gt=0)] = 86_400.0
    # Requests and replies that a server keeps on their way. Each native worker that a rank may
    # have gets an equal share for each channel.
    max_buffered_bytes: Annotated[int, Field(lt=2**63)] = 8 << 30

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


class Gates(Section):
    """What a candidate must show to become champion."""

    min_rows: Annotated[int, Field(ge=1)] = 100
    min_auc: Annotated[float, Field(ge=0, le=1)] = 0.5
    max_auc_drop: Annotated[float, Field(ge=0, le=1)] = 0.01  # against the champion, same rows
    max_log_loss_rise: Annotated[float, Field(ge=0)] = 0.02  # against the champion, same rows
    max_prediction_difference: Annotated[float, Field(gt=0)] = 1e-5  # trainer against reloaded export


class ModelConfig(Section):
    """One YAML file."""

    name: str
    dataset: Dataset
    features: Annotated[list[Feature], Field(min_length=1)]
    tables: Annotated[list[EmbeddingTable], Field(min_length=1)]
    data_checks: DataChecks = DataChecks()
    training: Training
    cluster: Cluster = Cluster()
    storage: Storage
    gates: Gates = Gates()

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
        for feature in self.features:
            if feature.name in RESERVED_COLUMNS:
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
        for name in tables - {feature.table for feature in self.id_features}:
            raise ValueError(f"table {name} is used by no feature")
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

    def schema_fingerprint(self) -> str:
        """SHA-256 (hex) over all that decides what a hashed partition holds."""
        return _digest(
            {
                "dataset": self.dataset.model_dump(mode="json"),
                "features": [feature.model_dump(mode="json") for feature in self.features],
                "prefixes": {table.name: table.prefix for table in self.tables},
            }
        )

    def digest(self) -> str:
        """SHA-256 (hex) over the whole configuration except where it is stored."""
        return _digest(self.model_dump(mode="json", exclude={"storage"}))


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, allow_nan=False).encode()).hexdigest()
