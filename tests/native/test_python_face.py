"""Configuration to worker arguments, and the servers' errors as errors for people."""

from pathlib import Path

import numpy as np
import pytest
from conftest import MakeWorker
from reference import id_of, make_table

from persia_core import _native
from persia_core.config import load_config
from persia_core.embedding.errors import as_persia_error, server_error_code
from persia_core.embedding.tables import feature_specs, table_specs
from persia_core.errors import Corrupt, DiskFull, PersiaError, RankFailed, RankHung

CONFIG = Path(__file__).parents[2] / "configs" / "movielens_dlrm.yaml"


def test_the_tables_of_a_configuration_are_understood(make_worker: MakeWorker) -> None:
    config = load_config(CONFIG)
    worker = make_worker(tables=table_specs(config), features=feature_specs(config))
    ids, offsets = [], []
    for feature in config.id_features:
        table = config.table(feature.table)
        one = _native.make_id(table.prefix, config.dataset.prefix_bits, feature.name.encode())
        ids.append(np.array([one], dtype=np.uint64))
        offsets.append(np.array([0, 1], dtype=np.int64))
    found = worker.lookup(0, ids, offsets, training=True)
    assert [p.shape[1] for p in found.pooled] == [config.table(f.table).dim for f in config.id_features]
    assert set(worker.stats()[0]["tables"]) == {table.name for table in config.tables}  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (_native.ServerError("server rank 0: SAVE: NO_SPACE: /x: cannot write: no space left"), DiskFull),
        (_native.ServerError("server rank 3: LOAD: CORRUPT_PART: /x: the file ends too early"), Corrupt),
        (_native.ServerError("server rank 3: LOAD: PART_MISMATCH: /x: has no tensor t.ids"), Corrupt),
        (_native.ServerError("server rank 0: UPDATE: NOT_FINITE: nan"), RankFailed),
        (_native.TransportError("server rank 0: LOOKUP: no answer within 1 s"), RankHung),
        (_native.TransportError("server rank 0: LOOKUP: the server has ended"), RankFailed),
    ],
)
def test_errors_get_their_exit_code(error: RuntimeError, kind: type[PersiaError]) -> None:
    translated = as_persia_error(error)
    assert type(translated) is kind
    assert str(error) in translated.what


def test_a_real_error_carries_its_code(make_worker: MakeWorker, tmp_path: Path) -> None:
    table = make_table("t", 1, 2)
    worker = make_worker(tables=[table])
    with pytest.raises(_native.ServerError) as caught:
        worker.load([str(tmp_path / "missing")])
    assert server_error_code(caught.value) == "IO_ERROR"
    worker.lookup(0, [np.array([id_of(table, 1)], np.uint64)], [np.array([0, 1], np.int64)], training=True)
    with pytest.raises(_native.ServerError) as caught:
        worker.save(str(tmp_path))
    assert server_error_code(caught.value) == "BATCHES_OUTSTANDING"
    with pytest.raises(_native.ServerError) as caught:
        worker.advance_day(1)
    assert server_error_code(caught.value) == "BATCHES_OUTSTANDING"
