"""Rare values where rows come one by one: hashing a partition counts them, here the rows of a model tell."""

from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from persia_core.config import ModelConfig
from persia_core.config.derived_features import CrossFeature
from persia_core.config.features import CategoricalFeature
from persia_core.ids import MISSING, RARE, feature_id, feature_salt

# Name of a table -> which of the ids given, uint64 [n], have a row in it: bool [n].
Known = Mapping[str, Callable[[NDArray[np.uint64]], NDArray[np.bool_]]]


def fold_unknown(config: ModelConfig, rows: pa.Table, known: Known) -> pa.Table:
    """Hashed rows with the rare id for every id without a row, in features with a min_count above 1.

    What has no row was never frequent in what the model was trained on: hashing would have folded it. The
    missing value stays what it is, as do null and every other feature. KeyError for a table not in `known`.
    """
    for feature in config.features:
        if not isinstance(feature, CategoricalFeature | CrossFeature) or feature.min_count == 1:
            continue
        column = rows[feature.name].combine_chunks()
        absent = column.is_null().to_numpy(zero_copy_only=False)
        ids = column.fill_null(0).to_numpy(zero_copy_only=False).view(np.uint64)
        stays = known[feature.table](ids) | (ids == np.uint64(_id(config, feature, MISSING)))
        folded = np.where(stays, ids, np.uint64(_id(config, feature, RARE))).view(np.int64)
        place = rows.column_names.index(feature.name)
        rows = rows.set_column(place, rows.schema.field(place), pa.array(folded, pa.int64(), mask=absent))
    return rows


def _id(config: ModelConfig, feature: CategoricalFeature | CrossFeature, text: str) -> int:
    salt = feature_salt(config.dataset.salt, feature.table)
    return feature_id(config.table(feature.table).prefix, config.dataset.prefix_bits, salt, text)
