"""schema.json of a model version: what a reader must know to score a row.

See docs/formats/model_version.md.
"""

from importlib.metadata import version
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from persia_core.config import ModelConfig
from persia_core.config.base import Name
from persia_core.config.features import DenseFeature, Feature
from persia_core.errors import Corrupt
from persia_core.handoff.graph import graph_inputs

SCHEMA_FILE = "schema.json"
TABLES = "embeddings/"
DELTA = "delta/"  # the folder of what changed since the parent version

_IMPORT_PATH = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*$"


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class IdScheme(_Frozen):
    """id = prefix << (64 - prefix_bits) | XXH64(seed, utf8(<salt>/<table>/<value>)) >> prefix_bits."""

    hash: Literal["xxh64"] = "xxh64"
    seed: Literal[42] = 42
    prefix_bits: Annotated[int, Field(ge=1, le=16)]
    salt: str
    missing_value: Literal["\0"] = "\0"


class ServingTable(_Frozen):
    """One table of the export; `file` is a part of the manifest."""

    name: Name
    prefix: Annotated[int, Field(ge=1)]
    dim: Annotated[int, Field(ge=1, le=1024)]
    pooling: Literal["sum", "mean", "sqrtn"]
    rows: Annotated[int, Field(ge=0)]
    embeddings: Literal["float32", "float16", "int8"] = "float32"

    @property
    def file(self) -> str:
        """Path of the rows, relative to the version."""
        return embedding_file(self.name)


class ServingFeature(_Frozen):
    """A feature in the order of the configuration; `declaration` is what the configuration says of it.

    `pooling` is None for a dense feature, and in format 1, where every feature has that of its table.
    `sequence_length` is the number of places with pooling `sequence`, else None.
    """

    name: Name
    kind: Literal["dense", "categorical", "multi-categorical", "bucketised", "cross", "timestamp"]
    table: Name | None = None
    pooling: Literal["sum", "mean", "sqrtn", "sequence"] | None = None
    sequence_length: Annotated[int, Field(ge=1, le=4096)] | None = None
    declaration: dict[str, Any]


class ModelClass(_Frozen):
    """The dense network: class(dense_dim, embedding_dims, **args)."""

    import_path: Annotated[str, Field(pattern=_IMPORT_PATH)]
    args: dict[str, Any] = {}


class Graph(_Frozen):
    """The dense network as a torch.export program: graph(*inputs) -> logits [B].

    `torch` is the version that wrote it; a newer one may refuse it.
    """

    file: Literal["graph.pt2"] = "graph.pt2"
    inputs: list[str]
    torch: str


class OnnxFile(_Frozen):
    """The same as an ONNX file: its inputs have these names, its one output is `logits` [B].

    `opset` is the version of ONNX's operators that a runtime must know.
    """

    file: Literal["model.onnx"] = "model.onnx"
    inputs: list[str]
    opset: Annotated[int, Field(ge=1)]


class ServingSchema(_Frozen):
    """The whole of schema.json. `graph` is None in formats 1 and 2 and where none was exported.

    `onnx` is None in formats 1 to 3 and where the network has none.
    """

    format_version: Literal[1, 2, 3, 4] = 4
    name: str
    label: str
    id_scheme: IdScheme
    features: list[ServingFeature]
    dense_features: list[Name]
    tables: list[ServingTable]
    model: ModelClass
    graph: Graph | None = None
    onnx: OnnxFile | None = None
    schema_fingerprint: str
    config_digest: str

    @model_validator(mode="after")
    def _consistent(self) -> "ServingSchema":
        tables = {table.name for table in self.tables}
        if len(tables) != len(self.tables) or len({f.name for f in self.features}) != len(self.features):
            raise ValueError("a feature or table is listed twice")
        for feature in self.features:
            if feature.kind != "dense" and feature.table not in tables:
                raise ValueError(f"feature {feature.name} has no table")
            if (feature.pooling == "sequence") != (feature.sequence_length is not None):
                raise ValueError(f"feature {feature.name}: sequence_length goes with pooling sequence alone")
            if feature.pooling == "sequence" and feature.kind != "multi-categorical":
                raise ValueError(f"feature {feature.name}: only a multi-categorical feature is a sequence")
        if self.dense_features != [f.name for f in self.features if f.kind == "dense"]:
            raise ValueError("dense_features does not name the dense features in order")
        inputs = graph_inputs([(feature.name, feature.sequence_length) for feature in self.id_features])
        if any(each is not None and each.inputs != inputs for each in (self.graph, self.onnx)):
            raise ValueError("the inputs of the graph are not the features in order")
        return self

    @property
    def files(self) -> set[str]:
        """Paths of the tables, the graph and the ONNX file, relative to the version."""
        networks = {each.file for each in (self.graph, self.onnx) if each is not None}
        return networks | {table.file for table in self.tables}

    @property
    def id_features(self) -> list[ServingFeature]:
        """The features that have a table, in order."""
        return [feature for feature in self.features if feature.kind != "dense"]

    def table_of(self, feature: ServingFeature) -> ServingTable:
        """The table of an id feature."""
        return next(table for table in self.tables if table.name == feature.table)

    def to_bytes(self) -> bytes:
        """UTF-8 JSON."""
        return (self.model_dump_json(indent=1) + "\n").encode()

    @staticmethod
    def from_bytes(data: bytes, where: str) -> "ServingSchema":
        """Parse and check; raises Corrupt naming `where`."""
        try:
            return ServingSchema.model_validate_json(data)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(step) for step in first["loc"]) or "document"
            raise Corrupt(
                f"{where}: {place}: {first['msg']}", "publish the version again under a new run"
            ) from error


def embedding_file(table: str) -> str:
    """Path of a table's rows, relative to the version."""
    return f"{TABLES}{table}.parquet"


def changed_file(table: str) -> str:
    """Path of a table's new and changed rows since the parent version, relative to the version."""
    return f"{DELTA}{table}.parquet"


def removed_file(table: str) -> str:
    """Path of the ids that are gone since the parent version, relative to the version."""
    return f"{DELTA}{table}.removed.parquet"


def _of_ids(config: ModelConfig, feature: Feature) -> dict[str, Any]:
    """What the schema says of features that have a table only."""
    if isinstance(feature, DenseFeature):
        return {}
    return {
        "table": feature.table,
        "pooling": config.pooling_of(feature),
        "sequence_length": config.sequence_length_of(feature),
    }


def _graph_of(config: ModelConfig) -> Graph:
    features = [(feature.name, config.sequence_length_of(feature)) for feature in config.id_features]
    return Graph(inputs=graph_inputs(features), torch=version("torch"))


def schema_of(config: ModelConfig, rows: dict[str, int]) -> ServingSchema:
    """The schema of an export of `config` whose tables have `rows` rows."""
    return ServingSchema(
        name=config.name,
        label=config.dataset.label,
        id_scheme=IdScheme(prefix_bits=config.dataset.prefix_bits, salt=config.dataset.salt),
        features=[
            ServingFeature(
                name=feature.name,
                kind=feature.kind,
                declaration=feature.model_dump(mode="json"),
                **_of_ids(config, feature),
            )
            for feature in config.features
        ],
        dense_features=[feature.name for feature in config.dense_features],
        tables=[
            ServingTable(
                name=table.name,
                prefix=table.prefix,
                dim=table.dim,
                pooling=table.pooling,
                rows=rows[table.name],
                embeddings=config.export.embeddings,
            )
            for table in config.tables
        ],
        model=ModelClass(import_path=config.training.model, args=config.training.model_args),
        graph=_graph_of(config) if config.export.graph else None,
        schema_fingerprint=config.schema_fingerprint(),
        config_digest=config.digest(),
    )
