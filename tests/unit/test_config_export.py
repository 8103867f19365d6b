"""The section `export`: what it asks for, and that it changes no digest of those who do not use it."""

import hashlib
import json

import pytest

from persia_core.errors import ConfigError
from tests.support.runs import small_config

EARLIER = {"name", "dataset", "features", "tables", "data_checks", "training", "cluster", "gates"}


def test_the_digest_of_a_configuration_without_it_is_what_it_was() -> None:
    config = small_config()
    document = config.model_dump(mode="json", include=EARLIER)
    before = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
    assert small_config(export={"onnx": True}).digest() == before
    spelled = {"embeddings": "float32", "graph": True, "delta": False, "onnx": True}
    assert small_config(export=spelled).digest() == before
    for change in ({"graph": False}, {"delta": True}, {"onnx": False}):
        other = small_config(export={"onnx": True} | change)
        assert other.digest() != before
        assert other.schema_fingerprint() == config.schema_fingerprint()


@pytest.mark.parametrize("kind", ["float16", "int8"])
def test_a_narrow_export_must_say_how_far_predictions_may_go(kind: str) -> None:
    with pytest.raises(ConfigError, match="max_prediction_difference"):
        small_config(export={"embeddings": kind})
    small_config(export={"embeddings": kind}, gates={"max_prediction_difference": 0.01})


def test_float16_of_float16_tables_changes_nothing() -> None:
    tables = [{**table.model_dump(), "weight_type": "float16"} for table in small_config().tables]
    small_config(tables=tables, export={"embeddings": "float16"})
    with pytest.raises(ConfigError, match="max_prediction_difference"):
        small_config(tables=tables, export={"embeddings": "int8"})
