"""The ONNX file: equal to the class for every shipped model, and nothing but a network."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from safetensors.torch import save_file

from persia_core.config import ModelConfig
from persia_core.errors import Corrupt
from persia_core.handoff.graph import GRAPH, graph_inputs, write_graph
from persia_core.handoff.onnx_file import ONNX, NotExportable, OnnxNetwork, write_onnx
from tests.unit.test_graph import MODELS, config_of, inputs_of, network_of

DLRM = "persia_core.models.dlrm:DLRM"


def names_of(config: ModelConfig) -> list[str]:
    return graph_inputs([(f.name, config.sequence_length_of(f)) for f in config.id_features])


def export(model: str, directory: Path) -> tuple[ModelConfig, torch.nn.Module, Path]:
    config = config_of(model)
    network = network_of(config)
    save_file(network.state_dict(), directory / "dense.safetensors")
    program = write_graph(config, directory / "dense.safetensors", directory / GRAPH)
    assert write_onnx(program, names_of(config), directory / ONNX) >= 18
    return config, network, directory / ONNX


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(DLRM, tmp_path_factory.mktemp("onnx"))[2]


@pytest.mark.parametrize("model", MODELS)
def test_every_shipped_model_computes_the_same_in_onnx_for_any_number_of_rows(
    model: str, tmp_path: Path
) -> None:
    config, network, path = export(model, tmp_path)
    found = OnnxNetwork(path)
    for rows in (0, 1, 2, 97):
        dense, embeddings, inputs = inputs_of(config, rows)
        with torch.inference_mode():
            expected = network(dense, embeddings).numpy()
        logits = found(dict(zip(names_of(config), (each.numpy() for each in inputs), strict=True)))
        assert logits.shape == (rows,)
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5)
    assert expected.std() > 0


class SortsByAnUnknownOperator(torch.nn.Module):
    """torch.export takes it, ONNX has no such operator."""

    def __init__(self, dense_dim: int, embedding_dims: dict[str, int]) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(dense_dim, 1)

    def forward(self, dense: torch.Tensor, embeddings: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.special.bessel_j0(self.linear(dense)).squeeze(1)


def test_a_network_that_onnx_cannot_express_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(NotExportable) as caught:
        export(f"{__name__}:SortsByAnUnknownOperator", tmp_path)
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / ONNX).exists()


Hostile = Callable[[Any], None]


def _external(model: Any) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/hostname")


def _external_constant(model: Any) -> None:
    value = onnx.TensorProto(name="x", data_type=1, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
    value.external_data.add(key="location", value="../secret")
    model.graph.node.append(helper.make_node("Constant", [], ["x"], value=value))


def _other_domain(model: Any) -> None:
    model.graph.node[0].domain = "com.microsoft"


def _other_operators(model: Any) -> None:
    model.opset_import.add(domain="evil", version=1)


def _loop(model: Any) -> None:
    body = helper.make_graph([], "body", [], [])
    model.graph.node.append(helper.make_node("Loop", [], ["y"], body=body))


def _function(model: Any) -> None:
    model.functions.add(name="f", domain="")


def _no_operators(model: Any) -> None:
    model.graph.ClearField("node")


HOSTILE: dict[str, Hostile] = {
    function.__name__.strip("_"): function
    for function in (
        *(_external, _external_constant, _other_domain, _other_operators, _loop, _function, _no_operators),
    )
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_a_file_that_is_more_than_a_network_is_refused(good: Path, tmp_path: Path, attack: str) -> None:
    model = onnx.ModelProto.FromString(good.read_bytes())
    HOSTILE[attack](model)
    (tmp_path / ONNX).write_bytes(model.SerializeToString())
    with pytest.raises(Corrupt, match=r"model\.onnx is no ONNX file that may be loaded"):
        OnnxNetwork(tmp_path / ONNX)


@pytest.mark.parametrize("length", [0, 1, 100, 2000])
def test_a_file_that_is_cut_short_is_refused(good: Path, tmp_path: Path, length: int) -> None:
    (tmp_path / ONNX).write_bytes(good.read_bytes()[:length])
    with pytest.raises(Corrupt, match=r"model\.onnx"):
        OnnxNetwork(tmp_path / ONNX)
