"""The dense networks against slow, independent versions of their formulas."""

import itertools
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from persia_core.models.by_path import model_class
from persia_core.models.dcn_v2 import DCNv2
from persia_core.models.deepfm import DeepFM
from persia_core.models.dlrm import DLRM
from persia_core.models.dnn import DNN
from persia_core.models.sequence import Sequence

DIMS = {"user": 4, "item": 4, "genres": 4}
MODELS = [DLRM, DNN, DeepFM, DCNv2]
Model = type[DLRM] | type[DNN] | type[DeepFM] | type[DCNv2]
Array = npt.NDArray[np.float64]


def batch(size: int, dense_dim: int, dims: dict[str, int]) -> tuple[Tensor, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(7)
    dense = torch.randn(size, dense_dim, generator=generator)
    embeddings = {
        name: torch.randn(size, dim, generator=generator).requires_grad_() for name, dim in dims.items()
    }
    return dense, embeddings


def oracle_mlp(layers: nn.Sequential, x: Array, *, activate_last: bool) -> Array:
    """One sample through the Linear layers, in float64, with the ReLUs written out."""
    linears = [layer for layer in layers if isinstance(layer, nn.Linear)]
    for position, linear in enumerate(linears):
        weight = linear.weight.detach().double().numpy()
        x = np.array([row @ x for row in weight]) + linear.bias.detach().double().numpy()
        if activate_last or position < len(linears) - 1:
            x = np.where(x > 0, x, 0.0)
    return x


def rows_of(dense: Tensor, embeddings: dict[str, Tensor]) -> list[tuple[Array, dict[str, Array]]]:
    return [
        (
            dense[b].double().numpy(),
            {name: e[b].detach().double().numpy() for name, e in embeddings.items()},
        )
        for b in range(dense.shape[0])
    ]


def oracle_dlrm(model: DLRM, x: Array, rows: dict[str, Array], order: list[str]) -> float:
    vectors = [rows[name] for name in order]
    top: list[float] = []
    if model.bottom is not None:
        bottom = oracle_mlp(model.bottom, x, activate_last=True)
        vectors = [bottom, *vectors]
        top.extend(bottom)
    for i in range(len(vectors)):
        for j in range(i):
            top.append(sum(float(a) * float(b) for a, b in zip(vectors[i], vectors[j], strict=True)))
    return float(oracle_mlp(model.top, np.array(top), activate_last=False)[0])


def oracle_dnn(model: DNN, x: Array, rows: dict[str, Array], order: list[str]) -> float:
    joined = np.concatenate([x, *(rows[name] for name in order)])
    return float(oracle_mlp(model.layers, joined, activate_last=False)[0])


def oracle_deepfm(model: DeepFM, x: Array, rows: dict[str, Array], order: list[str]) -> float:
    dense_weight = model.dense_weight.detach().double().numpy()
    dense_vectors = model.dense_vectors.detach().double().numpy()
    first = math.fsum(rows[name][0] for name in order) + math.fsum(x * dense_weight)
    latent = [rows[name][1:] for name in order]
    fields = [value * u for value, u in zip(x, dense_vectors, strict=True)] + latent
    second = math.fsum(float(a @ b) for a, b in itertools.combinations(fields, 2))
    deep = oracle_mlp(model.deep, np.concatenate([x, *latent]), activate_last=False)
    return first + second + float(deep[0])


@pytest.mark.parametrize("dense_dim", [0, 3])
def test_dlrm_equals_its_formula(dense_dim: int) -> None:
    torch.manual_seed(1)
    model = DLRM(dense_dim, DIMS, bottom_mlp=(5,), top_mlp=(6, 5))
    dense, embeddings = batch(9, dense_dim, DIMS)
    expected = [oracle_dlrm(model, x, rows, list(DIMS)) for x, rows in rows_of(dense, embeddings)]
    np.testing.assert_allclose(model(dense, embeddings).detach().numpy(), expected, 1e-5, 1e-5)


@pytest.mark.parametrize("dense_dim", [0, 3])
def test_dnn_equals_its_formula(dense_dim: int) -> None:
    torch.manual_seed(1)
    dims = {"user": 2, "item": 5}
    model = DNN(dense_dim, dims, hidden=(6, 5))
    dense, embeddings = batch(9, dense_dim, dims)
    expected = [oracle_dnn(model, x, rows, list(dims)) for x, rows in rows_of(dense, embeddings)]
    np.testing.assert_allclose(model(dense, embeddings).detach().numpy(), expected, 1e-5, 1e-5)


@pytest.mark.parametrize("dense_dim", [0, 3])
def test_deepfm_equals_its_formula(dense_dim: int) -> None:
    torch.manual_seed(1)
    model = DeepFM(dense_dim, DIMS, hidden=(6, 5))
    with torch.no_grad():  # its initial value 0 would hide the first-order dense term
        model.dense_weight.normal_()
        model.dense_vectors.normal_()
    dense, embeddings = batch(9, dense_dim, DIMS)
    expected = [oracle_deepfm(model, x, rows, list(DIMS)) for x, rows in rows_of(dense, embeddings)]
    np.testing.assert_allclose(model(dense, embeddings).detach().numpy(), expected, 1e-5, 1e-5)


def test_dnn_takes_the_five_layers_of_the_paper() -> None:
    """PERSIA (arXiv 2111.05897), section 6: 4096, 2048, 1024, 512 and 256 units."""
    sizes = (4096, 2048, 1024, 512, 256)
    model = DNN(2, {"user": 3}, hidden=sizes)
    linears = [layer for layer in model.layers if isinstance(layer, nn.Linear)]
    assert [layer.out_features for layer in linears] == [*sizes, 1]
    assert model(torch.zeros(1, 2), {"user": torch.zeros(1, 3)}).shape == (1,)


def test_factorization_machine_equals_the_double_sum_in_float64() -> None:
    fields = torch.randn(11, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    expected = [
        math.fsum(float(sample[i] @ sample[j]) for i in range(6) for j in range(i + 1, 6))
        for sample in fields.numpy()
    ]
    np.testing.assert_allclose(DeepFM.pair_sum(fields).numpy(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [0, 1, 5])
@pytest.mark.parametrize("dense_dim", [0, 2])
@pytest.mark.parametrize("model_class", MODELS)
def test_any_batch_size_gives_float32_logits_and_a_gradient_of_every_input(
    model_class: Model, dense_dim: int, size: int
) -> None:
    torch.manual_seed(2)
    model = model_class(dense_dim, DIMS)
    dense, embeddings = batch(size, dense_dim, DIMS)
    logits = model(dense, embeddings)
    assert logits.shape == (size,)
    assert logits.dtype == torch.float32
    logits.sum().backward()
    for embedding in embeddings.values():
        assert embedding.grad is not None
        assert embedding.grad.shape == embedding.shape
        assert bool((embedding.grad.abs().sum(dim=1) > 0).all())
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name


@pytest.mark.parametrize("model_class", MODELS)
def test_order_of_the_callers_dict_does_not_matter(model_class: Model) -> None:
    model = model_class(1, DIMS)
    dense, embeddings = batch(4, 1, DIMS)
    backwards = dict(reversed(embeddings.items()))
    assert torch.equal(model(dense, embeddings), model(dense, backwards))


@pytest.mark.parametrize("model_class", MODELS)
def test_rows_of_a_batch_do_not_see_each_other(model_class: Model) -> None:
    model = model_class(2, DIMS)
    dense, embeddings = batch(6, 2, DIMS)
    one = model(dense[2:3], {name: e[2:3] for name, e in embeddings.items()})
    torch.testing.assert_close(one, model(dense, embeddings)[2:3], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("model_class", MODELS)
def test_dropout_acts_in_training_only(model_class: Model) -> None:
    torch.manual_seed(5)
    model = model_class(2, DIMS, dropout=0.5)
    dense, embeddings = batch(32, 2, DIMS)
    assert not torch.equal(model(dense, embeddings), model(dense, embeddings))
    model.eval()
    assert torch.equal(model(dense, embeddings), model(dense, embeddings))


@pytest.mark.parametrize("model_class", MODELS)
def test_state_dict_holds_parameters_only_and_restores_the_model(model_class: Model) -> None:
    torch.manual_seed(6)
    first, second = model_class(2, DIMS), model_class(2, DIMS)
    assert first.state_dict().keys() == dict(first.named_parameters()).keys()
    second.load_state_dict(first.state_dict())
    dense, embeddings = batch(4, 2, DIMS)
    assert torch.equal(first(dense, embeddings), second(dense, embeddings))


@pytest.mark.parametrize("model_class", [DLRM, DeepFM])
def test_unequal_dims_are_refused(model_class: type[DLRM] | type[DeepFM]) -> None:
    with pytest.raises(ValueError, match=r"equal dim.*'user': 4, 'item': 8"):
        model_class(1, {"user": 4, "item": 8})


def test_dlrm_refuses_a_single_vector() -> None:
    with pytest.raises(ValueError, match="two features"):
        DLRM(0, {"user": 4})
    DLRM(1, {"user": 4})


def test_deepfm_refuses_dim_1() -> None:
    with pytest.raises(ValueError, match="dim 2 or more"):
        DeepFM(0, {"user": 1, "item": 1})


@pytest.mark.parametrize("model_class", MODELS)
def test_bad_arguments_are_refused(model_class: Model) -> None:
    with pytest.raises(ValueError, match="dense_dim must not be negative"):
        model_class(-1, DIMS)
    with pytest.raises(ValueError, match="at least one feature"):
        model_class(1, {})
    with pytest.raises(ValueError, match="feature 'item' must be at least 1, got 0"):
        model_class(1, {"user": 4, "item": 0})
    with pytest.raises(ValueError, match="dropout must be in"):
        model_class(1, DIMS, dropout=1.0)


def test_bad_layer_sizes_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="hidden sizes"):
        DNN(1, DIMS, hidden=(8, 0))
    with pytest.raises(ValueError, match="hidden sizes"):
        DeepFM(1, DIMS, hidden=(-1,))
    with pytest.raises(ValueError, match="bottom_mlp sizes"):
        DLRM(1, DIMS, bottom_mlp=(0,))
    with pytest.raises(ValueError, match="top_mlp sizes"):
        DLRM(1, DIMS, top_mlp=(0,))


@pytest.mark.parametrize("model_class", MODELS)
def test_inputs_that_do_not_match_are_refused(model_class: Model) -> None:
    model = model_class(2, DIMS)
    dense, embeddings = batch(4, 2, DIMS)
    with pytest.raises(ValueError, match=r"dense must be \[B, 2\], got \[4, 3\]"):
        model(torch.zeros(4, 3), embeddings)
    with pytest.raises(ValueError, match=r"dense must be \[B, 2\], got \[2\]"):
        model(torch.zeros(2), embeddings)
    without_item = {name: e for name, e in embeddings.items() if name != "item"}
    with pytest.raises(ValueError, match=r"missing \['item'\], unknown \[\]"):
        model(dense, without_item)
    with pytest.raises(ValueError, match=r"missing \[\], unknown \['zip'\]"):
        model(dense, {**embeddings, "zip": torch.zeros(4, 4)})
    with pytest.raises(ValueError, match=r"'item' must be \[4, 4\], got \[3, 4\]"):
        model(dense, {**embeddings, "item": torch.zeros(3, 4)})
    with pytest.raises(ValueError, match=r"'item' must be \[4, 4\], got \[4, 5\]"):
        model(dense, {**embeddings, "item": torch.zeros(4, 5)})
    sequence: dict[str, Any] = {"item": Sequence(torch.zeros(4, 2, 4), torch.ones(4, 2, dtype=torch.bool))}
    with pytest.raises(ValueError, match="feature 'item' is a sequence here"):
        model(dense, embeddings | sequence)


@pytest.mark.parametrize("dense_dim", [0, 2])
@pytest.mark.parametrize("model_class", MODELS)
def test_an_exported_model_takes_any_batch_size(model_class: Model, dense_dim: int) -> None:
    model = model_class(dense_dim, DIMS).eval()
    rows = {0: torch.export.Dim("batch")}
    shapes = (rows, dict.fromkeys(DIMS, rows))
    exported = torch.export.export(model, batch(4, dense_dim, DIMS), dynamic_shapes=shapes).module()
    for size in (2, 7):
        dense, embeddings = batch(size, dense_dim, DIMS)
        torch.testing.assert_close(exported(dense, embeddings), model(dense, embeddings))


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("persia_core.models.dnn", ValueError),
        ("persia_core.models.dnn:DNN()", ValueError),
        ("persia_core.models.absent:DNN", ImportError),
        ("persia_core.models.dnn:Absent", ImportError),
        ("os:getcwd", TypeError),
        ("collections:OrderedDict", TypeError),
    ],
)
def test_only_a_module_by_a_plain_import_path_is_a_model(path: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        model_class(path)
    assert model_class("persia_core.models.dnn:DNN") is DNN
