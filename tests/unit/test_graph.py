"""The exported graph: equal to the class it came from, any number of rows, and nothing in it that runs."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from persia_core.config import ModelConfig
from persia_core.errors import Corrupt, DataInvalid
from persia_core.handoff.graph import GRAPH, graph_inputs, load_graph, write_graph
from persia_core.handoff.onnx_file import write_onnx
from persia_core.models.by_path import model_class
from persia_core.models.sequence import named_embeddings
from tests.support.runs import DIM, small_config

LENGTH = 6
HIDDEN = {"hidden": [8, 4]}
MODELS: dict[str, dict[str, Any]] = {
    "persia_core.models.dnn:DNN": HIDDEN,
    "persia_core.models.dlrm:DLRM": {"bottom_mlp": [8], "top_mlp": [8], "dropout": 0.5},
    "persia_core.models.deepfm:DeepFM": HIDDEN,
    "persia_core.models.dcn_v2:DCNv2": {"rank": 3, "experts": 2, "hidden": [8]},
    "persia_core.models.din:DIN": {"behaviours": {"history": "item"}, "attention": [4], "hidden": [8]},
}


def config_of(model: str, **args: Any) -> ModelConfig:
    features = [feature.model_dump() for feature in small_config().features]
    if model.endswith(":DIN"):
        history = next(feature for feature in features if feature["name"] == "history")
        history |= {"pooling": "sequence", "sequence_length": LENGTH}
    training = {"model": model, "model_args": MODELS.get(model, {}) | args}
    return small_config(features=features, training=training)


def network_of(config: ModelConfig) -> torch.nn.Module:
    torch.manual_seed(3)
    dims = {feature.name: DIM for feature in config.id_features}
    args = config.training.model_args
    return model_class(config.training.model)(len(config.dense_features), dims, **args).eval()


def written(config: ModelConfig, directory: Path) -> tuple[torch.nn.Module, Path]:
    network = network_of(config)
    save_file(network.state_dict(), directory / "dense.safetensors")
    write_graph(config, directory / "dense.safetensors", directory / GRAPH)
    return network, directory / GRAPH


def inputs_of(config: ModelConfig, rows: int) -> tuple[torch.Tensor, Any, list[torch.Tensor]]:
    """Random rows: dense values and embeddings as the class takes them, and all inputs as a graph does."""
    dense = torch.randn(rows, len(config.dense_features))
    values, masks, inputs = [], [], [dense]
    for feature in config.id_features:
        if config.sequence_length_of(feature) is None:
            values.append(torch.randn(rows, DIM))
            masks.append(None)
            inputs.append(values[-1])
        else:
            masks.append(torch.rand(rows, LENGTH) < 0.6)
            values.append(torch.randn(rows, LENGTH, DIM) * masks[-1].unsqueeze(2))
            inputs += [values[-1], masks[-1]]
    names = [feature.name for feature in config.id_features]
    return dense, named_embeddings(names, values, masks), inputs


@pytest.mark.parametrize("model", MODELS)
def test_the_graph_equals_the_class_for_any_number_of_rows(model: str, tmp_path: Path) -> None:
    config = config_of(model)
    network, path = written(config, tmp_path)
    graph = load_graph(path)
    for rows in (0, 1, 2, 3, 97):
        dense, embeddings, inputs = inputs_of(config, rows)
        with torch.inference_mode():
            expected = network(dense, embeddings)
            found = graph(*inputs)
        assert found.shape == (rows,)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert rows == 97
    assert expected.std() > 0


def test_the_graph_is_loaded_without_the_class_and_without_our_package(tmp_path: Path) -> None:
    import subprocess
    import sys

    written(config_of("persia_core.models.dlrm:DLRM"), tmp_path)
    code = (
        "import sys, torch\n"
        f"graph = torch.export.load({str(tmp_path / GRAPH)!r}).module()\n"
        "out = graph(torch.ones(4, 1), *[torch.ones(4, 4)] * 5)\n"
        "print(list(out.shape), any(name.startswith('persia') for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[4] False"


def test_the_same_network_gives_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    import subprocess
    import sys

    config = config_of("persia_core.models.dlrm:DLRM")
    _, path = written(config, tmp_path)
    names = graph_inputs([(feature.name, None) for feature in config.id_features])
    write_onnx(write_graph(config, tmp_path / "dense.safetensors", path), names, tmp_path / "a.onnx")
    code = (
        "import json, sys; from pathlib import Path\n"
        "from persia_core.config.model import ModelConfig\n"
        "from persia_core.handoff.graph import write_graph\n"
        "from persia_core.handoff.onnx_file import write_onnx\n"
        "config = ModelConfig.model_validate(json.load(sys.stdin))\n"
        f"root = Path({str(tmp_path)!r})\n"
        "program = write_graph(config, root / 'dense.safetensors', root / 'b.pt2')\n"
        f"write_onnx(program, {names!r}, root / 'b.onnx')"
    )
    text = config.model_dump_json()
    subprocess.run([sys.executable, "-c", code], input=text, text=True, check=True, cwd="/")
    assert (tmp_path / "b.pt2").read_bytes() == path.read_bytes()
    assert (tmp_path / "b.onnx").read_bytes() == (tmp_path / "a.onnx").read_bytes()
    for each in (path, tmp_path / "a.onnx"):
        assert b"/" + Path(__file__).parts[1].encode() + b"/" not in each.read_bytes()  # of this machine


class BranchesOnValues(torch.nn.Module):
    """Cannot be a graph: which way it goes depends on the data."""

    def __init__(self, dense_dim: int, embedding_dims: dict[str, int]) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(dense_dim, 1)

    def forward(self, dense: torch.Tensor, embeddings: dict[str, torch.Tensor]) -> torch.Tensor:
        logits = self.linear(dense).squeeze(1)
        return logits * 2 if bool(logits.sum() > 0) else logits


def test_a_network_that_is_no_graph_is_refused_with_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(DataInvalid, match="cannot express") as caught:
        written(config_of(f"{__name__}:BranchesOnValues"), tmp_path)
    assert "export.graph: false" in caught.value.remedy


# What follows are archives that run code, or may, when torch.export.load reads them.

Members = dict[str, bytes]


class Marker:
    """Pickled, it writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.write_text, (self.path, "executed")


def pickled(path: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save(({"a": Marker(path)}, {}), buffer)
    return buffer.getvalue()


def edited(members: Members, name: str, change: Callable[[Any], Any]) -> None:
    document = json.loads(members[name])
    change(document)
    members[name] = json.dumps(document).encode()


PROGRAM, WEIGHTS = "models/model.json", "data/weights/model_weights_config.json"


def _example_inputs(members: Members, mark: Path) -> None:
    members["data/sample_inputs/model.pt"] = pickled(mark)


def _pickled_weight(members: Members, mark: Path) -> None:
    def change(document: Any) -> None:
        entry = next(iter(document["config"].values()))
        entry["use_pickle"] = True
        members[f"data/weights/{entry['path_name']}"] = pickled(mark)

    edited(members, WEIGHTS, change)


def _old_weights(members: Members, mark: Path) -> None:
    members["data/weights/model.pt"] = pickled(mark)


def _guard(members: Members, mark: Path) -> None:
    code = f"__import__('pathlib').Path({str(mark)!r}).write_text('executed') or True"
    edited(members, PROGRAM, lambda document: document.update(guards_code=[code]))


def _size(members: Members, mark: Path) -> None:
    code = f"__import__('pathlib').Path({str(mark)!r}).write_text('executed')"

    def change(document: Any) -> None:
        values = document["graph_module"]["graph"]["tensor_values"]
        values["dense"]["sizes"][0]["as_expr"]["expr_str"] = code

    edited(members, PROGRAM, change)


def _operator(members: Members, mark: Path) -> None:
    def change(document: Any) -> None:
        document["graph_module"]["graph"]["nodes"][0]["target"] = "torch.hub.load"

    edited(members, PROGRAM, change)


def _reads_a_file(members: Members, mark: Path) -> None:
    def change(document: Any) -> None:
        document["graph_module"]["graph"]["nodes"][0]["target"] = "torch.ops.aten.from_file.default"

    edited(members, PROGRAM, change)


def _metadata(members: Members, mark: Path) -> None:
    def change(document: Any) -> None:
        document["graph_module"]["graph"]["nodes"][0]["metadata"] = {"nn_module_stack": "x,y,os.system"}

    edited(members, PROGRAM, change)


def _custom_object(members: Members, mark: Path) -> None:
    def change(document: Any) -> None:
        document["config"]["x"] = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True}

    edited(members, "data/constants/model_constants_config.json", change)
    members["data/constants/opaque_obj_0"] = pickled(mark)


def _library(members: Members, mark: Path) -> None:
    members["data/aotinductor/model/x.so"] = b"\x7fELF"


def _old_format(members: Members, mark: Path) -> None:
    members["version"] = b"8.15"
    members["serialized_example_inputs.pt"] = pickled(mark)


HOSTILE = {
    function.__name__.strip("_"): function
    for function in (
        *(_example_inputs, _pickled_weight, _old_weights, _guard, _size, _operator, _reads_a_file),
        *(_metadata, _custom_object, _library, _old_format),
    )
}
RUN_BY_TORCH = {"example_inputs", "pickled_weight", "size"}  # loaded unchecked, these execute


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(config_of("persia_core.models.dlrm:DLRM"), tmp_path_factory.mktemp("graph"))[1]


def members_of(path: Path) -> tuple[str, Members]:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        root = names[0].partition("/")[0]
        return root, {name.removeprefix(f"{root}/"): archive.read(name) for name in names}


def archive_of(root: str, members: Members, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"{root}/{name}", data)
    return path


def test_an_archive_written_anew_with_the_same_members_is_loaded(good: Path, tmp_path: Path) -> None:
    assert load_graph(archive_of(*members_of(good), tmp_path / "same.pt2"))(
        torch.ones(4, 1), *[torch.ones(4, DIM)] * 5
    ).shape == (4,)


@pytest.mark.parametrize("attack", HOSTILE)
def test_an_archive_that_could_run_code_is_refused_unread(good: Path, tmp_path: Path, attack: str) -> None:
    root, members = members_of(good)
    mark = tmp_path / "mark"
    HOSTILE[attack](members, mark)
    path = archive_of(root, members, tmp_path / "hostile.pt2")
    with pytest.raises(Corrupt, match="no graph that may be loaded"):
        load_graph(path)
    assert not mark.exists()
    if attack in RUN_BY_TORCH:  # the attack is one
        try:
            torch.export.load(path).module()
        except Exception as error:
            assert mark.exists(), error
        assert mark.exists()


@pytest.mark.parametrize("length", [0, 1, 100, 2000])
def test_a_file_that_is_cut_short_or_none_is_refused(good: Path, tmp_path: Path, length: int) -> None:
    for number, data in enumerate((good.read_bytes()[:length], b"PK\x03\x04" + b"\0" * length)):
        path = tmp_path / f"{number}.pt2"
        path.write_bytes(data)
        with pytest.raises(Corrupt):
            load_graph(path)


def test_two_members_of_one_name_are_refused(good: Path, tmp_path: Path) -> None:
    root, members = members_of(good)
    path = archive_of(root, members, tmp_path / "twice.pt2")
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(f"{root}/{PROGRAM}", members[PROGRAM])
    with pytest.raises(Corrupt, match="ambiguous"):
        load_graph(path)
