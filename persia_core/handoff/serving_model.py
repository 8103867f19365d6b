"""A model version in memory: embeddings as sorted ids and rows in NumPy, the dense network in a runtime.

The runtime, torch or ONNX Runtime, is imported by `predict` only: whoever needs just the embeddings does
without it.
"""

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from persia_core.checkpoint.layout import DENSE
from persia_core.errors import Corrupt, DataInvalid, EnvironmentProblem
from persia_core.handoff.embedding_file import EmbeddingFile
from persia_core.handoff.embedding_rows import EmbeddingRows
from persia_core.handoff.graph import DENSE_INPUT, GRAPH, load_graph, mask_input
from persia_core.handoff.inflation import check_header
from persia_core.handoff.onnx_file import ONNX, OnnxNetwork
from persia_core.handoff.serving_schema import SCHEMA_FILE, ServingFeature, ServingSchema, ServingTable

Runtime = Literal["torch", "onnx"]

_BATCH = 4096
_REMEDY = "publish the version again under a new run"


class Table(Protocol):
    """Where rows are looked up: in memory (EmbeddingRows) or in their file (EmbeddingFile)."""

    def lookup(self, ids: NDArray[np.uint64]) -> NDArray[np.float32]:
        """The weights of `ids` [m]; zeros where there is none. float32 [m, dim]."""
        ...

    def holds(self, ids: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Which of `ids` [m] have a row: bool [m]."""
        ...


class ServingModel:
    """Scores hashed rows. Build it with `load_model`, or `open_model`.

    `runtime` computes the dense network; "onnx" only where the schema names an ONNX file.
    """

    def __init__(
        self,
        directory: Path,
        schema: ServingSchema,
        tables: Mapping[str, Table],
        runtime: Runtime = "torch",
    ) -> None:
        self._directory = directory
        self._tables = tables
        self.runtime = runtime
        self.schema = schema

    def under(self, runtime: Runtime) -> "ServingModel":
        """The same model, with the same tables in memory, under another runtime."""
        return ServingModel(self._directory, self.schema, self._tables, runtime)

    @property
    def tables(self) -> dict[str, EmbeddingRows]:
        """The tables that are in memory: all of them, or none if the model was only opened."""
        return {name: table for name, table in self._tables.items() if isinstance(table, EmbeddingRows)}

    @property
    def known(self) -> dict[str, Callable[[NDArray[np.uint64]], NDArray[np.bool_]]]:
        """Table -> which ids have a row in it; for `persia_core.data.rows.hash_rows`."""
        return {name: table.holds for name, table in self._tables.items()}

    def pooled(self, rows: pa.Table) -> dict[str, NDArray[np.float32]]:
        """Feature name -> float32 [B, dim], the bag pooled; of a sequence [B, length, dim], its rows.

        Absent ids and places without an id are zeros.
        """
        return {feature.name: self._pool(feature, rows) for feature in self.schema.id_features}

    def masks(self, rows: pa.Table) -> dict[str, NDArray[np.bool_]]:
        """Name of each sequence feature -> bool [B, length]: which places hold an id."""
        return {
            feature.name: _places(_bags(feature, rows)[1], feature.sequence_length)[1]
            for feature in self.schema.id_features
            if feature.sequence_length is not None
        }

    def dense(self, rows: pa.Table) -> NDArray[np.float32]:
        """The dense features, float32 [B, dense_dim]."""
        columns = [_column(rows, name, pa.float32()) for name in self.schema.dense_features]
        for name, column in zip(self.schema.dense_features, columns, strict=True):
            if column.null_count:
                raise DataInvalid(f"dense feature {name} has null values", "hash the partition again")
        if not columns:
            return np.empty((rows.num_rows, 0), np.float32)
        return np.column_stack([column.to_numpy(zero_copy_only=False) for column in columns])

    def predict(self, rows: pa.Table) -> NDArray[np.float32]:
        """Probabilities float32 [B] of hashed rows (columns of a hashed partition; label is not read).

        Raises DataInvalid naming a feature that is missing or of another type, Corrupt if the
        network does not fit its weights.
        """
        out = np.empty(rows.num_rows, np.float32)
        score = self._by_onnx if self.runtime == "onnx" else self._by_torch
        for start in range(0, rows.num_rows, _BATCH):
            batch = rows.slice(start, _BATCH)
            found = score(self.dense(batch), self.pooled(batch), self.masks(batch))
            out[start : start + batch.num_rows] = found
        return out

    def _by_onnx(
        self, dense: NDArray[np.float32], pooled: dict[str, NDArray[np.float32]], masks: dict[str, Any]
    ) -> NDArray[np.float32]:
        logits = self.onnx(_inputs(dense, pooled, masks))
        with np.errstate(over="ignore"):  # exp of a large number is infinite, and its probability 0
            return np.float32(1.0) / (np.float32(1.0) + np.exp(-logits))

    def _by_torch(
        self, dense: NDArray[np.float32], pooled: dict[str, NDArray[np.float32]], masks: dict[str, Any]
    ) -> Any:
        import torch

        with torch.inference_mode():
            return torch.sigmoid(self._logits(dense, pooled, masks).float()).numpy()

    def _logits(
        self, dense: NDArray[np.float32], pooled: dict[str, NDArray[np.float32]], masks: dict[str, Any]
    ) -> Any:
        import torch

        from persia_core.models.sequence import named_embeddings

        if self.schema.graph is not None:
            inputs = _inputs(dense, pooled, masks)
            return self.graph(*(torch.from_numpy(inputs[name]) for name in self.schema.graph.inputs))
        embeddings = named_embeddings(
            list(pooled),
            [torch.from_numpy(value) for value in pooled.values()],
            [torch.from_numpy(masks[name]) if name in masks else None for name in pooled],
        )
        return self.network(torch.from_numpy(dense), embeddings)

    def prepare(self) -> None:
        """Load the dense network now, not at the first prediction. Raises Corrupt, EnvironmentProblem."""
        if self.runtime == "onnx":
            self.onnx  # noqa: B018 - a property that is kept
        elif self.schema.graph is not None:
            self.graph  # noqa: B018 - a property that is kept
        else:
            self.network  # noqa: B018

    @cached_property
    def onnx(self) -> OnnxNetwork:
        """The dense network under ONNX Runtime. Raises Corrupt if its file is no plain network."""
        return OnnxNetwork(self._directory / ONNX)

    @cached_property
    def graph(self) -> Any:
        """The dense network as it was exported, a callable. Raises Corrupt if it is no plain graph."""
        return load_graph(self._directory / GRAPH)

    @cached_property
    def network(self) -> Any:
        """The dense network by its class, in evaluation mode. Raises Corrupt if it does not fit.

        For versions without a graph, and for whoever wants to go on with the class.
        """
        from safetensors.torch import load_file

        schema = self.schema
        dims = {feature.name: schema.table_of(feature).dim for feature in schema.id_features}
        cls = _network_class(schema.model.import_path)
        check_header(self._directory / DENSE)
        try:
            module = cls(dense_dim=len(schema.dense_features), embedding_dims=dims, **dict(schema.model.args))
            module.load_state_dict(load_file(self._directory / DENSE), strict=True)
        except Exception as error:  # whatever a user's class raises
            raise Corrupt(
                f"{self._directory / DENSE} does not fit {cls.__name__}: {error}", _REMEDY
            ) from error
        return module.eval()

    def _pool(self, feature: ServingFeature, rows: pa.Table) -> NDArray[np.float32]:
        table = self.schema.table_of(feature)
        source = self._tables[table.name]
        if feature.kind != "multi-categorical":
            column = _column(rows, feature.name, pa.int64())
            present = column.is_valid().to_numpy(zero_copy_only=False)
            ids = column.fill_null(0).to_numpy(zero_copy_only=False).view(np.uint64)
            return np.where(present[:, None], source.lookup(ids), np.float32(0.0))
        ids, lengths = _bags(feature, rows)
        if feature.sequence_length is not None:
            positions, mask = _places(lengths, feature.sequence_length)
            sequence = np.zeros((*mask.shape, table.dim), np.float32)
            sequence[mask] = source.lookup(ids[positions])
            return sequence
        out = np.zeros((rows.num_rows, table.dim), np.float32)
        np.add.at(out, np.repeat(np.arange(rows.num_rows), lengths), source.lookup(ids))
        count = np.maximum(lengths, 1)[:, None].astype(np.float32)
        match feature.pooling or table.pooling:
            case "mean":
                out /= count
            case "sqrtn":
                out /= np.sqrt(count)
        return out


def load_model(directory: Path) -> ServingModel:
    """The model version whose verified parts lie in `directory`, its tables in memory.

    Raises Corrupt naming a file.
    """
    schema = _schema(directory)
    tables = {table.name: _read_table(directory, schema, table) for table in schema.tables}
    return ServingModel(directory, schema, tables)


def open_model(directory: Path) -> ServingModel:
    """The same with its tables left on disk: slow to look up in, in bounded memory."""
    schema = _schema(directory)
    return ServingModel(directory, schema, {table.name: _open(directory, table) for table in schema.tables})


def _inputs(
    dense: NDArray[np.float32], pooled: dict[str, NDArray[np.float32]], masks: dict[str, Any]
) -> dict[str, NDArray[Any]]:
    """What the exported network takes, by name."""
    return {DENSE_INPUT: dense, **pooled, **{mask_input(name): mask for name, mask in masks.items()}}


def _schema(directory: Path) -> ServingSchema:
    path = directory / SCHEMA_FILE
    return ServingSchema.from_bytes(path.read_bytes(), str(path))


def _open(directory: Path, table: ServingTable) -> EmbeddingFile:
    return EmbeddingFile(directory / table.file, table.embeddings, table.dim, table.rows)


def _read_table(directory: Path, schema: ServingSchema, table: ServingTable) -> EmbeddingRows:
    rows = _open(directory, table).read()
    if (rows.ids >> np.uint64(64 - schema.id_scheme.prefix_bits) != table.prefix).any():
        raise Corrupt(f"{directory / table.file} holds ids of another prefix than {table.prefix}", _REMEDY)
    return rows


def _bags(feature: ServingFeature, rows: pa.Table) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """The ids of all bags, flat, and how many each bag has."""
    column = _column(rows, feature.name, pa.list_(pa.int64()))
    if column.null_count or column.flatten().null_count:
        raise DataInvalid(f"feature {feature.name} has null bags or ids", "hash the partition again")
    ids = column.flatten().to_numpy(zero_copy_only=False).view(np.uint64)
    return ids, np.diff(column.offsets.to_numpy(zero_copy_only=False)).astype(np.int64)


def _places(lengths: NDArray[np.int64], length: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Which of the flat ids stand in the sequences' places, in order; and the mask, bool [B, length]."""
    kept = np.minimum(lengths, length)
    mask = np.arange(length) < kept[:, None]
    first = np.cumsum(lengths) - kept  # the last ids of a longer bag are kept
    return (first[:, None] + np.arange(length))[mask], mask


def _column(rows: pa.Table, name: str, type_: Any) -> Any:
    """The column as one array; of a list type only the type of its elements counts."""
    if name not in rows.column_names:
        raise DataInvalid(
            f"feature {name} is not among the columns", "give hashed rows of the model's schema"
        )
    column = rows[name]
    both_lists = pa.types.is_list(type_) and pa.types.is_list(column.type)
    if column.type != type_ and not (both_lists and column.type.value_type == type_.value_type):
        raise DataInvalid(f"feature {name} is {column.type}, expected {type_}", "give hashed rows")
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _network_class(import_path: str) -> Any:
    """The torch.nn.Module subclass named by a checked import path; nothing else is ever called."""
    from persia_core.models.by_path import model_class

    try:
        return model_class(import_path)
    except ImportError as error:
        raise EnvironmentProblem(
            f"the model class {import_path} cannot be imported: {error}",
            "install the package it is in beside persia_core",
        ) from error
    except (TypeError, ValueError) as error:
        raise Corrupt(f"{SCHEMA_FILE}: {import_path}: {error}", _REMEDY) from error
