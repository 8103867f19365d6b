"""Errors of the configuration name file, key and the nearest valid key; every rule is checked."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from persia_core.config import load_config
from persia_core.config.features import ROW_OVERHEAD_BYTES
from persia_core.config.plan import plan_of
from persia_core.embedding.day import logical_day
from persia_core.errors import ConfigError

EXAMPLE = Path(__file__).parents[2] / "configs" / "movielens_dlrm.yaml"


@pytest.fixture
def document() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text())
    return loaded


def write(tmp_path: Path, document: object) -> Path:
    path = tmp_path / "model.yaml"
    path.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(path) in caught.value.what
    return caught.value.what


@pytest.mark.parametrize("path", sorted(EXAMPLE.parent.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_configurations_load(path: Path) -> None:
    assert load_config(path).name


@pytest.mark.parametrize(
    ("place", "key", "near"),
    [
        ((), "trainng", "training"),
        (("training",), "stalenes", "staleness"),
        (("cluster",), "server", "servers"),
        (("tables", 0), "dims", "dim"),
        (("tables", 0, "optimizer"), "learning_rat", "learning_rate"),
        (("features", 2), "tabel", "table"),
        (("gates",), "max_auc_dorp", "max_auc_drop"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_valid_one(
    tmp_path: Path, document: dict[str, Any], place: tuple[Any, ...], key: str, near: str
) -> None:
    section: Any = document
    for step in place:
        section = section.setdefault(step, {}) if isinstance(section, dict) else section[step]
    section[key] = 1
    message = refusal(write(tmp_path, document))
    assert key in message
    assert f"did you mean {near!r}" in message


@pytest.mark.parametrize(
    ("place", "value", "expected"),
    [
        (("cluster", "servers"), 0, "cluster.servers"),
        (("cluster", "trainers"), "two", "cluster.trainers"),
        (("training", "mode"), "asynchronous", "training.mode"),
        (("training", "staleness"), 0, "training.staleness"),
        (("tables", 0, "dim"), 1025, "tables.0.dim"),
        (("tables", 1, "prefix"), 1, "same prefix"),
        (("tables", 1, "prefix"), 256, "does not fit"),
        (("tables", 0, "name"), "users", "no table is called user"),
        (("features", 1, "name"), "user", "declared twice"),
        (("features", 1, "name"), "label", "cannot be called label"),
        (("dataset", "name"), "../escape", "is no name"),
        (("storage", "url"), "http://example", "s3:// or file:///"),
        (("dataset", "time_column"), None, "needs dataset.time_column"),
    ],
)
def test_a_wrong_value_is_named(
    tmp_path: Path, document: dict[str, Any], place: tuple[Any, ...], value: object, expected: str
) -> None:
    section: Any = document
    for step in place[:-1]:
        section = section[step]
    section[place[-1]] = value
    assert expected in refusal(write(tmp_path, document))


def test_a_missing_kind_is_named(tmp_path: Path, document: dict[str, Any]) -> None:
    del document["tables"][0]["optimizer"]["kind"]
    assert "key 'tables.0.optimizer.kind' is missing" in refusal(write(tmp_path, document))


def test_sync_mode_refuses_staleness(tmp_path: Path, document: dict[str, Any]) -> None:
    document["training"] |= {"mode": "sync", "staleness": 4}
    assert "sync means staleness 1" in refusal(write(tmp_path, document))


@pytest.mark.parametrize(
    ("mode", "wanted", "combines"),
    [
        ("sync", None, True),
        ("sync", True, True),
        ("sync", False, None),
        ("hybrid", None, True),
        ("hybrid", True, True),
        ("hybrid", False, False),
        ("async", None, False),
        ("async", True, None),
        ("async", False, False),
    ],
)
def test_only_mode_hybrid_has_a_choice_of_combining(
    tmp_path: Path, document: dict[str, Any], mode: str, wanted: bool | None, combines: bool | None
) -> None:
    document["training"] |= {"mode": mode, "staleness": 1, "combine_gradients": wanted}
    path = write(tmp_path, document)
    if combines is None:
        assert f"mode {mode} means combine_gradients: {str(not wanted).lower()}" in refusal(path)
    else:
        assert load_config(path).training.combines is combines


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [", "is not YAML"),
        ("- 1", "holds no mapping"),
        ("name: a\nname: b", "stands here twice"),
        ("", "no mapping"),
    ],
)
def test_what_is_no_configuration_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in refusal(write(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "cannot be read" in refusal(tmp_path / "absent.yaml")


def test_a_hostile_tag_is_refused(tmp_path: Path) -> None:
    assert "is not YAML" in refusal(write(tmp_path, "name: !!python/object/apply:os.system ['true']"))


def test_storage_comes_from_the_environment_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSIA_STORAGE_URL", "file:///elsewhere")
    monkeypatch.setenv("PERSIA_S3_ENDPOINT", "http://127.0.0.1:1")
    config = load_config(EXAMPLE)
    assert (config.storage.url, config.storage.endpoint_url) == ("file:///elsewhere", "http://127.0.0.1:1")


def test_the_digest_tells_training_apart_and_storage_not(tmp_path: Path, document: dict[str, Any]) -> None:
    base = load_config(write(tmp_path, document))
    document["storage"]["url"] = "s3://other"
    assert load_config(write(tmp_path, document)).digest() == base.digest()
    document["training"]["seed"] = 43
    changed = load_config(write(tmp_path, document))
    assert changed.digest() != base.digest()
    assert changed.schema_fingerprint() == base.schema_fingerprint()
    document["dataset"]["salt"] = "another"
    assert load_config(write(tmp_path, document)).schema_fingerprint() != base.schema_fingerprint()


@pytest.mark.parametrize(
    ("name", "fingerprint"),
    [
        ("adult_dnn", "4f921fea9734c1d7d5d4f8673661b4c8fc5ff8634646b02ae7b2bb5659476ddc"),
        ("movielens_dlrm", "f9d8bc19a27906f78a5b716ab8901fdcc15225cd56ad12f08e552b299ca643f1"),
        ("synthetic_dlrm", "58db27af1ec5a1f78f6ca4b86daac3f56abb6ef0d4be12b15b4c3f6e84ef1ecb"),
    ],
)
def test_keys_that_are_not_used_leave_the_fingerprint_as_it_was(name: str, fingerprint: str) -> None:
    """Written down before the schema got its later keys: partitions hashed then must still be readable."""
    assert load_config(EXAMPLE.with_name(f"{name}.yaml")).schema_fingerprint() == fingerprint


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("weight", "w"),
        ("time_format", "%Y%m%d"),
        ("comment", "#"),
        ("trim", True),
        ("columns", ["a", "b"]),
    ],
)
def test_a_key_that_is_used_changes_the_fingerprint(
    tmp_path: Path, document: dict[str, Any], key: str, value: object
) -> None:
    base = load_config(write(tmp_path, document))
    document["dataset"][key] = value
    changed = load_config(write(tmp_path, document))
    assert changed.schema_fingerprint() != base.schema_fingerprint()
    assert type(changed).model_validate(changed.model_dump(mode="json")) == changed


BUCKETS = {"kind": "bucketised", "name": "b", "table": "age", "boundaries": [1, 2]}
PAIR = {"kind": "cross", "name": "c", "table": "age", "of": ["user", "hour"]}


@pytest.mark.parametrize(
    ("dataset", "feature", "expected"),
    [
        ({}, BUCKETS | {"boundaries": [2, 2]}, "boundaries must ascend"),
        ({}, BUCKETS | {"boundaries": []}, "boundaries"),
        ({}, BUCKETS | {"missing": "mean"}, "missing"),
        ({}, PAIR | {"of": ["user", "nobody"]}, "no feature is called nobody"),
        ({}, PAIR | {"of": ["user", "genres"]}, "genres is multi-categorical"),
        ({}, PAIR | {"of": ["age_years", "user"]}, "age_years is dense"),
        ({}, PAIR | {"of": ["c", "user"]}, "c is cross"),
        ({"weight": "w"}, BUCKETS | {"name": "weight"}, "cannot be called weight"),
        ({"time_format": "%d.%m."}, BUCKETS, "needs a year"),
        ({"time_format": "%Y%m%d%d"}, BUCKETS, "twice"),
        ({"time_format": "%Y%m%d%j"}, BUCKETS, "knows no %j"),
        ({"positive_labels": ["yes"]}, BUCKETS, "come together"),
        ({"positive_labels": ["a"], "negative_labels": ["a"]}, BUCKETS, "'a' is a positive and a negative"),
        ({"columns": ["a", "a"]}, BUCKETS, "twice"),
        ({"format": "jsonl", "trim": True}, BUCKETS, "trim is for"),
    ],
)
def test_features_and_datasets_that_make_no_sense_are_refused(
    tmp_path: Path, document: dict[str, Any], dataset: Any, feature: Any, expected: str
) -> None:
    document["dataset"] |= dataset
    document["features"].append(feature)
    assert expected in refusal(write(tmp_path, document))


def test_pooling_is_that_of_the_table_unless_a_feature_has_its_own(
    tmp_path: Path, document: dict[str, Any]
) -> None:
    bag = {"kind": "multi-categorical", "table": "user", "max_length": 9}
    document["tables"][0]["pooling"] = "mean"
    document["features"] += [bag | {"name": "seen"}]
    base = load_config(write(tmp_path, document))
    expected: dict[str, tuple[str, int | None]] = {"seen": ("mean", None)}
    others = [feature["name"] for feature in document["features"] if feature.get("table") == "user"]
    expected |= dict.fromkeys(others, ("mean", None))
    assert len(expected) > 1
    own = {
        "added": ({"pooling": "sum"}, ("sum", None)),
        "scaled": ({"pooling": "sqrtn"}, ("sqrtn", None)),
        "whole": ({"pooling": "sequence"}, ("sequence", 9)),
        "recent": ({"pooling": "sequence", "sequence_length": 4}, ("sequence", 4)),
    }
    for name, (options, found) in own.items():
        document["features"].append(bag | {"name": name} | options)
        expected[name] = found
    config = load_config(write(tmp_path, document))
    assert {
        feature.name: (config.pooling_of(feature), config.sequence_length_of(feature))
        for feature in config.id_features
        if feature.table == "user"
    } == expected
    # A partition holds the same ids, whatever becomes of their rows.
    document["features"] = document["features"][: len(base.features)]
    document["features"][-1] |= {"pooling": "sequence", "sequence_length": 2}
    assert load_config(write(tmp_path, document)).schema_fingerprint() == base.schema_fingerprint()
    document["features"][-1]["max_length"] = 10
    assert load_config(write(tmp_path, document)).schema_fingerprint() != base.schema_fingerprint()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"sequence_length": 4}, "sequence_length goes with pooling: sequence"),
        ({"sequence_length": 4, "pooling": "sum"}, "sequence_length goes with pooling: sequence"),
        ({"sequence_length": 10, "pooling": "sequence"}, "above max_length 9"),
        ({"sequence_length": 0, "pooling": "sequence"}, "sequence_length"),
        ({"pooling": "max"}, "pooling"),
    ],
)
def test_a_pooling_that_makes_no_sense_is_named(
    tmp_path: Path, document: dict[str, Any], options: dict[str, Any], expected: str
) -> None:
    feature = {"kind": "multi-categorical", "name": "seen", "table": "user", "max_length": 9}
    document["features"].append(feature | options)
    assert expected in refusal(write(tmp_path, document))


def test_a_table_cannot_be_pooled_to_sequences(tmp_path: Path, document: dict[str, Any]) -> None:
    document["tables"][0]["pooling"] = "sequence"
    assert "tables.0.pooling" in refusal(write(tmp_path, document))


def test_days_are_counted_from_1970_and_only_where_a_table_asks(
    tmp_path: Path, document: dict[str, Any]
) -> None:
    assert logical_day(load_config(write(tmp_path, document)), "no date") is None
    document["tables"][0]["eviction"] = {"max_age_days": 30}
    config = load_config(write(tmp_path, document))
    assert logical_day(config, "1970-01-01") == 0
    assert logical_day(config, "2000-03-01") == 11_017
    for wrong in ("no date", "2026-13-01", "1969-12-31", ""):
        with pytest.raises(ConfigError, match=r"table user: eviction\.max_age_days") as caught:
            logical_day(config, wrong)
        assert repr(wrong) in caught.value.what


def test_every_rank_has_a_share_of_the_buffers(tmp_path: Path, document: dict[str, Any]) -> None:
    least = 4 * 3 << 20
    document["cluster"] = {"servers": 2, "trainers": 3, "max_buffered_bytes": least}
    load_config(write(tmp_path, document))
    document["cluster"]["max_buffered_bytes"] = least - 1
    assert f"at least {least}" in refusal(write(tmp_path, document))
    # Three embedding workers for seven trainers: one has three, so every other rank may have as many.
    least = 3 * (1 << 20) * (2 + 3 + 7 - 1) * 3
    cluster = {"servers": 2, "embedding_workers": 3, "trainers": 7, "max_buffered_bytes": least}
    document["cluster"] = cluster
    load_config(write(tmp_path, document))
    cluster["max_buffered_bytes"] = least - 1
    assert f"at least {least}" in refusal(write(tmp_path, document))


def test_an_embedding_worker_has_a_trainer(tmp_path: Path, document: dict[str, Any]) -> None:
    document["cluster"] = {"trainers": 2, "embedding_workers": 2}
    assert plan_of(load_config(write(tmp_path, document))).ranks == 1 + 2 + 2
    document["cluster"]["embedding_workers"] = 3
    assert "embedding_workers must be at most the 2 trainers" in refusal(write(tmp_path, document))


def test_a_simulated_delay_leaves_time_to_answer(tmp_path: Path, document: dict[str, Any]) -> None:
    assert load_config(write(tmp_path, document)).cluster.simulated_network_delay_ms == 0
    document["cluster"] = {"timeout_s": 2, "simulated_network_delay_ms": 1999.5}
    assert load_config(write(tmp_path, document)).cluster.simulated_network_delay_ms == 1999.5
    document["cluster"]["simulated_network_delay_ms"] = 2000
    assert "below timeout_s" in refusal(write(tmp_path, document))


def test_a_capacity_holds_a_row_for_each_thread(tmp_path: Path, document: dict[str, Any]) -> None:
    document["cluster"] = {"server_threads": 3}
    row = load_config(write(tmp_path, document)).tables[0].row_bytes + ROW_OVERHEAD_BYTES
    document["tables"][0]["capacity_bytes"] = 3 * row
    load_config(write(tmp_path, document))
    document["tables"][0]["capacity_bytes"] = 3 * row - 1
    assert f"at least {3 * row}" in refusal(write(tmp_path, document))


def test_the_plan_counts_ranks_and_bytes(tmp_path: Path, document: dict[str, Any]) -> None:
    document["cluster"] = {"servers": 3, "trainers": 2}
    document["tables"][0] |= {"dim": 16, "expected_rows": 100}
    plan = plan_of(load_config(write(tmp_path, document)))
    assert plan.ranks == 5
    user = plan.tables[0]
    assert user.rows_per_server == 34
    assert user.bytes_per_row >= 4 * (16 + 16)
    assert plan.bytes_per_server == sum(table.bytes_per_server for table in plan.tables)
    document["tables"][0]["weight_type"] = "bfloat16"
    assert plan_of(load_config(write(tmp_path, document))).tables[0].bytes_per_row == user.bytes_per_row - 32
    document["tables"][0]["weight_type"] = "float32"
    document["tables"][0]["capacity_bytes"] = 10 * user.bytes_per_row + 1
    assert plan_of(load_config(write(tmp_path, document))).tables[0].rows_per_server == 10
