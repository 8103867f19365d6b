"""The contract of Sequence: an ordinary module takes it, wrapped, replicated or exported."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import FileStore
from torch.nn.parallel import DistributedDataParallel

from persia_core.models.sequence import Sequence, named_embeddings

Embeddings = dict[str, Tensor | Sequence]


class MaskedMean(nn.Module):
    """One logit of the mean over the places of a sequence that hold an id, and of a pooled embedding."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layer = nn.Linear(2 * dim, 1)

    def forward(self, dense: Tensor, embeddings: Embeddings) -> Tensor:
        history, item = embeddings["history"], embeddings["item"]
        assert isinstance(history, Sequence)
        assert isinstance(item, Tensor)
        present = history.mask.unsqueeze(2).to(history.rows.dtype)
        mean = (history.rows * present).sum(1) / present.sum(1).clamp(min=1.0)
        logits: Tensor = self.layer(torch.cat([mean, item], dim=1))
        return logits.squeeze(1) + dense.sum(1)


def inputs(rows: int, length: int = 3, dim: int = 2) -> tuple[Tensor, Embeddings]:
    generator = torch.Generator().manual_seed(rows)
    ids = torch.arange(rows) % (length + 1)
    mask = torch.arange(length) < ids[:, None]
    values = torch.randn(rows, length, dim, generator=generator)
    embeddings: Embeddings = {
        "history": Sequence(values, mask),
        "item": torch.randn(rows, dim, generator=generator),
    }
    return torch.randn(rows, 1, generator=generator), embeddings


def test_features_with_a_mask_become_sequences_and_the_others_stay_tensors() -> None:
    pooled, rows, mask = torch.zeros(2, 3), torch.ones(2, 4, 3), torch.ones(2, 4, dtype=torch.bool)
    found = named_embeddings(["item", "history"], [pooled, rows], [None, mask])
    assert found["item"] is pooled
    history = found["history"]
    assert isinstance(history, Sequence)
    assert history.rows is rows
    assert history.mask is mask
    with pytest.raises(ValueError, match="argument"):
        named_embeddings(["item"], [pooled, rows], [None, mask])


def test_an_exported_model_takes_sequences_of_any_batch_size() -> None:
    model = MaskedMean(2)
    batch = torch.export.Dim("batch")
    exported = torch.export.export(
        model,
        inputs(4),
        dynamic_shapes=({0: batch}, {"history": Sequence({0: batch}, {0: batch}), "item": {0: batch}}),  # type: ignore[arg-type]
    ).module()
    for rows in (4, 7):
        torch.testing.assert_close(exported(*inputs(rows)), model(*inputs(rows)))


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", store=FileStore(str(tmp_path / "meet"), 1), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("process_group")
def test_a_replicated_model_gives_the_rows_of_a_sequence_their_gradients() -> None:
    model = MaskedMean(2)
    gradients = []
    for module in (model, DistributedDataParallel(model)):
        dense, embeddings = inputs(5)
        history = embeddings["history"]
        assert isinstance(history, Sequence)
        history.rows.requires_grad_(True)
        module(dense, embeddings).square().sum().backward()
        assert history.rows.grad is not None
        assert history.rows.grad[history.mask].abs().sum() > 0
        gradients.append(history.rows.grad)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=0)
