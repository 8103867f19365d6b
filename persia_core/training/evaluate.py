"""Predictions of the model as it stands. Evaluation creates no rows and takes no permits."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from persia_core.config import ModelConfig
from persia_core.data.batch import to_arrays
from persia_core.data.partition import LocalPartition
from persia_core.models.sequence import named_embeddings
from persia_core.training.embeddings import Embeddings
from persia_core.training.group import TrainerGroup
from persia_core.training.progress import Progress


class Evaluator:
    """Predicts rows of a partition, each trainer its share."""

    def __init__(
        self, config: ModelConfig, group: TrainerGroup, worker: Embeddings, model: nn.Module
    ) -> None:
        self._config = config
        self._group = group
        self._worker = worker
        self._model = model

    def predict(self, partition: LocalPartition, rows: int) -> NDArray[np.float32] | None:
        """Probabilities of the first `rows` rows, float32 [rows], on trainer 0; None elsewhere."""
        trainer, trainers = self._group.trainer, self._group.trainers
        start, stop = rows * trainer // trainers, rows * (trainer + 1) // trainers
        batch = max(1, self._config.training.global_batch_size)
        progress = Progress("evaluating", stop - start, "rows", quiet=trainer != 0)
        pieces = []
        for low in range(start, stop, batch):
            high = min(low + batch, stop)
            pieces.append(self._predict_range(partition, low, high))
            progress.advance(high - low)
        own = np.concatenate(pieces) if pieces else np.empty(0, dtype=np.float32)
        gathered = self._group.gather(own)
        return None if gathered is None else np.concatenate(gathered)

    def _predict_range(self, partition: LocalPartition, low: int, high: int) -> NDArray[np.float32]:
        data = to_arrays(self._config, partition.read(low, high))
        activations = self._worker.read(data.ids, data.offsets)
        device = self._group.device
        embeddings = named_embeddings(
            [feature.name for feature in self._config.id_features],
            [torch.from_numpy(pooled).to(device) for pooled in activations.pooled],
            [None if mask is None else torch.from_numpy(mask).to(device) for mask in activations.masks],
        )
        was_training = self._model.training
        self._model.eval()
        try:
            with torch.inference_mode():
                logits = self._model(torch.from_numpy(data.dense).to(device), embeddings)
                probabilities: NDArray[np.float32] = torch.sigmoid(logits).float().cpu().numpy()
        finally:
            self._model.train(was_training)
        return probabilities
