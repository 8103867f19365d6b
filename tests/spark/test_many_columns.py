"""A partition as wide as Criteo's: what Spark's optimizer does with it must not take for ever."""

from pathlib import Path

import numpy as np
import pytest

from persia_core.config import parse_config
from persia_core.data.hashing import hash_partition
from tests.spark.support import DS, local_store, published
from tests.support.hashed import Rows, hashed_table

pytestmark = [pytest.mark.spark, pytest.mark.usefixtures("spark")]

NUMBERS = [f"I{i}" for i in range(1, 14)]
CATEGORIES = [f"C{i}" for i in range(1, 27)]


@pytest.mark.timeout(480)  # with constraint propagation the optimizer alone takes minutes
def test_thirteen_numbers_and_twenty_six_categories_are_hashed(tmp_path: Path) -> None:
    optimizer = {"kind": "adagrad", "learning_rate": 0.01}
    numbers = {"kind": "dense", "transform": "log1p", "mean": 1.5, "std": 2.0, "clip": [-1, 1]}
    config = parse_config(
        {
            "name": "wide",
            "dataset": {"name": "clicks", "format": "csv", "salt": "wide"},
            "features": [
                *({"name": name} | numbers for name in NUMBERS),
                *({"name": name, "kind": "categorical", "table": name} for name in CATEGORIES),
            ],
            "tables": [
                {"name": name, "prefix": prefix, "dim": 4, "optimizer": optimizer}
                for prefix, name in enumerate(CATEGORIES, start=1)
            ],
            "training": {"model": "persia_core.models.dnn:DNN"},
            "storage": {"url": "file:///nowhere"},
        },
        "the test",
    )
    rng = np.random.default_rng(4)
    n = 50
    rows: Rows = {"label": [str(value) for value in rng.integers(0, 2, n)]}
    rows |= {name: [rng.choice(["", "0", "7", "4000"]) for _ in range(n)] for name in NUMBERS}
    rows |= {name: [rng.choice(["", "a", "b", "c"]) for _ in range(n)] for name in CATEGORIES}
    lines = [",".join(rows), *(",".join(values) for values in zip(*rows.values(), strict=True))]
    store = local_store(tmp_path / "store", {"wide.csv": "\n".join(lines).encode() + b"\n"})

    hash_partition(config, store, DS)

    _, table = published(store, tmp_path)
    expected = hashed_table(config, rows)
    ids = ["label", *CATEGORIES]
    order = [("label", "ascending"), *((name, "ascending") for name in CATEGORIES)]
    assert table.select(ids).sort_by(order).equals(expected.select(ids).sort_by(order))
    for name in NUMBERS:
        found, wanted = (np.sort(each[name].to_numpy()) for each in (table, expected))
        np.testing.assert_allclose(found, wanted, rtol=2e-7, atol=1e-7)
