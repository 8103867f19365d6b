"""The dense network as a torch.export program: loaded without its class, with any number of rows.

graph(dense, *inputs) -> logits [B], with the inputs that `graph_inputs` names, in that order. The archive
holds no pickle, and is checked for that before it is loaded.
"""

import io
import logging
from collections.abc import Sequence as Names
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persia_core.config import ModelConfig
from persia_core.errors import Corrupt, DataInvalid, EnvironmentProblem
from persia_core.handoff.graph_check import check_graph

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

GRAPH = "graph.pt2"
DENSE_INPUT = "dense"
_EXAMPLE_ROWS = 3  # torch.export takes 0 and 1 for constants


def graph_inputs(features: Names[tuple[str, int | None]]) -> list[str]:
    """Names of the graph's inputs, given (name, sequence_length or None) of the id features in order.

    `dense` float32 [B, dense_dim]; a feature float32 [B, dim], or of a sequence [B, length, dim] and then
    `<feature>.mask` bool [B, length].
    """
    names = [DENSE_INPUT]
    for name, length in features:
        names += [name] if length is None else [name, mask_input(name)]
    return names


def mask_input(feature: str) -> str:
    """The input with the mask of a sequence."""
    return f"{feature}.mask"


def write_graph(config: ModelConfig, dense: Path, out: Path) -> "torch.export.ExportedProgram":
    """Export the network of `config` with the weights in `dense` (safetensors) to `out`; returns the program.

    The same network gives the same bytes. Raises Corrupt if the weights do not fit, and DataInvalid if
    torch.export cannot express the network.
    """
    import torch
    from safetensors.torch import load_file

    from persia_core.models.by_path import model_class

    id_features = config.id_features
    dims = {feature.name: config.table(feature.table).dim for feature in id_features}
    try:
        network = model_class(config.training.model)(
            dense_dim=len(config.dense_features), embedding_dims=dims, **dict(config.training.model_args)
        )
    except (ImportError, TypeError, ValueError) as error:
        raise EnvironmentProblem(
            f"{config.training.model} cannot be built here: {error}",
            "publish with the packages and the configuration that the run was trained with",
        ) from error
    try:
        network.load_state_dict(load_file(dense), strict=True)
    except (RuntimeError, OSError, ValueError) as error:
        raise Corrupt(
            f"{dense} does not fit {config.training.model}: {error}", "train the partition again"
        ) from error
    examples = [torch.zeros(_EXAMPLE_ROWS, len(config.dense_features))]
    lengths = [config.sequence_length_of(feature) for feature in id_features]
    for feature, length in zip(id_features, lengths, strict=True):
        if length is None:
            examples.append(torch.zeros(_EXAMPLE_ROWS, dims[feature.name]))
        else:
            examples.append(torch.zeros(_EXAMPLE_ROWS, length, dims[feature.name]))
            examples.append(torch.ones(_EXAMPLE_ROWS, length, dtype=torch.bool))
    names = list(dims)
    sequences = [length is not None for length in lengths]
    program = _export(_flat(network.eval(), names, sequences), tuple(examples), config.training.model)
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    out.write_bytes(buffer.getvalue())
    check_graph(buffer.getvalue(), str(out))
    return program


def load_graph(path: Path) -> Any:
    """The graph as a callable torch.nn.Module. Raises Corrupt if it holds anything but a plain graph."""
    import torch

    data = path.read_bytes()
    check_graph(data, str(path))
    try:
        return torch.export.load(io.BytesIO(data)).module(check_guards=False)
    except Exception as error:  # torch has no error of its own for a damaged archive
        raise Corrupt(
            f"{path} cannot be loaded by torch {torch.__version__}: {error}",
            "load it with the version of torch that schema.json names, or publish the version again",
        ) from error


def _flat(network: "torch.nn.Module", names: list[str], sequences: list[bool]) -> "torch.nn.Module":
    """A module that takes tensors one by one, so that a caller needs none of our types."""
    import torch

    from persia_core.models.sequence import named_embeddings

    class Flat(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, dense: torch.Tensor, *inputs: torch.Tensor) -> torch.Tensor:
            left = list(inputs)
            rows: list[torch.Tensor] = []
            masks: list[torch.Tensor | None] = []
            for sequence in sequences:
                rows.append(left.pop(0))
                masks.append(left.pop(0) if sequence else None)
            logits: torch.Tensor = self.network(dense, named_embeddings(names, rows, masks))
            return logits

    return Flat().eval()


def _export(
    module: "torch.nn.Module", examples: tuple[Any, ...], model: str
) -> "torch.export.ExportedProgram":
    import torch

    batch = torch.export.Dim("batch", min=0)
    shapes = [{0: batch} for _ in examples]
    try:
        with torch.no_grad():
            program = torch.export.export(
                module, examples, dynamic_shapes={"dense": shapes[0], "inputs": tuple(shapes[1:])}
            )
    except Exception as error:  # whatever a user's class and torch's tracer raise
        raise DataInvalid(
            f"torch.export cannot express {model}: {str(error).strip().splitlines()[0]}",
            "write its forward without Python branches on values, or set export.graph: false",
        ) from error
    # Traces of the stack name files of this machine, guards are executed and examples pickled on loading.
    for part in program.graph_module.modules():
        if isinstance(part, torch.fx.GraphModule):
            for node in part.graph.nodes:
                node.meta = {key: value for key, value in node.meta.items() if key == "val"}
    program.example_inputs = None
    program._guards_code = []
    return program
