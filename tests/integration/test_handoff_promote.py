"""Validation and promotion over HTTP: verdicts, the champion pointer, races, lateness."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from persia_core.checkpoint.select import latest_checkpoint
from persia_core.config import ModelConfig
from persia_core.errors import Corrupt, DataInvalid, GateRefused, PartitionMissing, PromotionRefused
from persia_core.handoff.champion import Promotion
from persia_core.handoff.consume import pick_up
from persia_core.handoff.evaluate import evaluate_version
from persia_core.handoff.layout import alias_key, hashed_prefix, verdict_key, version_prefix
from persia_core.handoff.pointer import CHAMPION, Pointer, read_pointer, swap_pointer
from persia_core.handoff.promote import promote
from persia_core.handoff.publish import PublishResult, publish
from persia_core.handoff.s3_store import S3Store
from persia_core.training.metrics import summary
from persia_core.validation.model import validate_model
from persia_core.validation.verdict import read_model_verdict
from tests.support.hashed import write_hashed_table
from tests.support.runs import Day, FakeModel, make_day, make_run, opposite, oracle_predict, small_config

DS1, DS2, DS3 = "2026-11-01", "2026-11-02", "2026-11-03"


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PERSIA_HOME", str(tmp_path / "home"))
    yield
    left = [path.name for path in (tmp_path / "home" / "work").glob("handoff-*")]
    assert left == []


@pytest.fixture
def config() -> ModelConfig:
    return small_config()


class World:
    """Days and published runs in one store."""

    def __init__(self, config: ModelConfig, store: S3Store, root: Path) -> None:
        self.config, self.store, self.root = config, store, root

    def day(self, ds: str, seed: int = 0) -> Day:
        return make_day(self.config, self.store, ds, seed=seed)

    def publish(
        self, day: Day, run: str = "run", model: FakeModel | None = None, before: FakeModel | None = None
    ) -> PublishResult:
        parent = latest_checkpoint(self.store, self.config.name, day.ds)
        run_dir = make_run(
            self.config,
            day,
            self.root / day.ds / run,
            model=model,
            before=before,
            parent=parent.prefix if parent else None,
        )
        return publish(self.config, self.store, day.ds, run_dir)

    def validated(self, day: Day, run: str = "run") -> str:
        version = self.publish(day, run).version
        validate_model(self.config, self.store, version)
        return version

    def champion(self) -> str | None:
        found = read_pointer(self.store, self.config.name, CHAMPION)
        return found[0].version if found else None


@pytest.fixture
def world(config: ModelConfig, s3_store: S3Store, tmp_path: Path) -> World:
    return World(config, s3_store, tmp_path / "runs")


def test_evaluation_equals_the_oracle_on_the_same_rows(world: World) -> None:
    day, other = world.day(DS1), world.day(DS2, seed=4)
    version = world.publish(day).version
    result = evaluate_version(world.config, world.store, version, DS2, predictions=True)
    expected = oracle_predict(world.config, day.model, other.table)
    np.testing.assert_allclose(result["probabilities"], expected, atol=1e-6)
    np.testing.assert_array_equal(result["labels"], other.table["label"].to_numpy())
    for key, value in summary(other.table["label"].to_numpy(), expected).items():
        assert result[key] == pytest.approx(value, abs=1e-6)
    with pytest.raises(PartitionMissing, match=DS3):
        evaluate_version(world.config, world.store, version, DS3)
    changed = small_config(dataset={**world.config.dataset.model_dump(), "salt": "changed"})
    with pytest.raises(DataInvalid, match="other features"):
        evaluate_version(changed, world.store, version, DS1)


def test_the_first_model_passes_is_promoted_and_picked_up(world: World, tmp_path: Path) -> None:
    day = world.day(DS1)
    version = world.publish(day).version
    verdict = validate_model(world.config, world.store, version)
    assert verdict.passed
    assert verdict.champion is None
    expected = summary(day.table["label"].to_numpy(), oracle_predict(world.config, day.model, day.table))
    assert verdict.metrics["after"]["auc"] == pytest.approx(expected["auc"], abs=1e-6)
    assert read_model_verdict(world.store, verdict_key("small", version)) == verdict
    assert promote(world.config, world.store, version) == Promotion(version, DS1, None, True)
    picked = pick_up(world.store, "small", tmp_path / "models")
    assert picked.version == version
    pointer = json.loads(world.store.get(alias_key("small", "champion")).data)
    assert pointer["manifest_sha256"] == picked.manifest_sha256
    assert pointer["reason"] == "passed the gate"


def test_a_better_day_replaces_the_champion_and_a_worse_one_does_not(world: World) -> None:
    first = world.day(DS1)
    champion = world.validated(first)
    promote(world.config, world.store, champion)
    second = make_day(world.config, world.store, DS2)  # the same truth a day later
    worse = world.publish(second, "worse", model=opposite(second.model), before=opposite(second.model))
    with pytest.raises(GateRefused) as caught:
        validate_model(world.config, world.store, worse.version)
    assert "AUC" in caught.value.what
    verdict = read_model_verdict(world.store, verdict_key("small", worse.version))
    assert verdict is not None
    assert [c.name for c in verdict.checks if not c.passed] == [
        *("min_auc", "restored", "after_training_auc", "after_training_normalised_entropy")
    ]
    with pytest.raises(PromotionRefused, match="did not pass"):
        promote(world.config, world.store, worse.version)
    assert world.champion() == champion
    good = world.publish(second, "good", before=first.model)
    verdict = validate_model(world.config, world.store, good.version)
    assert verdict.champion == champion
    expected = summary(
        second.table["label"].to_numpy(), oracle_predict(world.config, first.model, second.table)
    )
    assert verdict.metrics["champion"]["auc"] == pytest.approx(expected["auc"], abs=1e-6)
    assert promote(world.config, world.store, good.version) == Promotion(good.version, DS2, champion, True)


def test_promoting_asks_for_a_verdict_on_exactly_this_manifest(world: World) -> None:
    version = world.publish(world.day(DS1)).version
    with pytest.raises(PromotionRefused, match="not validated"):
        promote(world.config, world.store, version)
    verdict = validate_model(world.config, world.store, version)
    key = verdict_key("small", version)
    for other in ({"manifest_sha256": "0" * 64}, {"version": f"{DS1}-000000000000"}):
        world.store.put(key, verdict.model_copy(update=other).to_bytes())
        with pytest.raises(PromotionRefused, match="another manifest"):
            promote(world.config, world.store, version)
    world.store.put(key, b"{}")
    with pytest.raises(Corrupt, match="verdict"):
        promote(world.config, world.store, version)
    assert world.champion() is None
    world.store.put(key, verdict.to_bytes())
    manifest_key = version_prefix("small", version) + "manifest.json"
    world.store.put(manifest_key, world.store.get(manifest_key).data + b"\n")
    with pytest.raises(PromotionRefused, match="another manifest"):
        promote(world.config, world.store, version)
    with pytest.raises(Corrupt, match="no complete version"):
        promote(world.config, world.store, f"{DS1}-000000000000")
    assert world.champion() is None


def test_promoting_twice_is_no_error_and_backwards_is_refused(world: World) -> None:
    older, newer = world.validated(world.day(DS1)), world.validated(world.day(DS2))
    promote(world.config, world.store, newer)
    stored = world.store.get(alias_key("small", "champion"))
    assert promote(world.config, world.store, newer) == Promotion(newer, DS2, None, False)
    with pytest.raises(PromotionRefused, match="behind") as caught:
        promote(world.config, world.store, older)
    assert newer in caught.value.what
    assert world.store.get(alias_key("small", "champion")) == stored


def test_a_second_model_of_the_same_day_may_replace_the_first(world: World) -> None:
    day = world.day(DS1)
    first = world.validated(day)
    promote(world.config, world.store, first)
    second = world.publish(
        day, "second", model=FakeModel({**day.model.weights, "tag": {}}, day.model.network)
    )
    world.store.put(verdict_key("small", second.version), _passing(world, first, second.version))
    assert promote(world.config, world.store, second.version).previous == first


def _passing(world: World, like: str, version: str) -> bytes:
    """A passing verdict on `version`, from one on another version."""
    verdict = read_model_verdict(world.store, verdict_key("small", like))
    assert verdict is not None
    sha256 = _sha256(world, version)
    return verdict.model_copy(update={"version": version, "manifest_sha256": sha256}).to_bytes()


def _sha256(world: World, version: str) -> str:
    import hashlib

    data = world.store.get(version_prefix("small", version) + "manifest.json").data
    return hashlib.sha256(data).hexdigest()


def test_two_promoters_race_one_wins_and_the_other_learns_why(world: World, s3_endpoint: str) -> None:
    day = world.day(DS2)
    base = world.validated(make_day(world.config, world.store, DS1))
    one = world.publish(day, "one").version
    weights = {**day.model.weights, "tag": {}}
    two = world.publish(day, "two", model=FakeModel(weights, day.model.network)).version
    for version in (one, two):
        world.store.put(verdict_key("small", version), _passing(world, base, version))
    barrier = threading.Barrier(2)

    class Meeting(S3Store):
        """Both promoters have read the pointer before either of them swaps."""

        def put_if_match(self, key: str, data: bytes, etag: str) -> str:
            barrier.wait(30)
            return super().put_if_match(key, data, etag)

    stores = {version: Meeting(world.store.url, s3_endpoint) for version in (one, two)}

    def run(version: str) -> Any:
        try:
            return promote(world.config, stores[version], version)
        except PromotionRefused as refused:
            return refused

    for _ in range(5):
        world.store.delete(alias_key("small", "champion"))
        promote(world.config, world.store, base)
        with ThreadPoolExecutor(2) as pool:
            outcomes = dict(zip((one, two), pool.map(run, (one, two)), strict=True))
        winner = world.champion()
        assert winner in (one, two)
        loser = two if winner == one else one
        assert outcomes[winner] == Promotion(winner, DS2, base, True)
        assert isinstance(outcomes[loser], PromotionRefused)
        assert winner in outcomes[loser].what


def test_a_newer_day_that_loses_the_race_goes_on_and_an_older_one_gives_way(
    world: World, s3_endpoint: str
) -> None:
    base = world.validated(world.day(DS1))
    middle, newest = world.validated(world.day(DS2)), world.validated(world.day(DS3))
    promote(world.config, world.store, base)

    def overtaken_by(version: str) -> S3Store:
        class Overtaken(S3Store):
            overtaken = False

            def put_if_match(self, key: str, data: bytes, etag: str) -> str:
                if not self.overtaken:
                    self.overtaken = True
                    promote(world.config, world.store, version)
                return super().put_if_match(key, data, etag)

        return Overtaken(world.store.url, s3_endpoint)

    result = promote(world.config, overtaken_by(middle), newest)
    assert result == Promotion(newest, DS3, middle, True)
    world.store.delete(alias_key("small", "champion"))
    promote(world.config, world.store, base)
    with pytest.raises(PromotionRefused, match=newest):
        promote(world.config, overtaken_by(newest), middle)
    assert world.champion() == newest
    world.store.delete(alias_key("small", "champion"))
    promote(world.config, world.store, base)
    assert promote(world.config, overtaken_by(middle), middle) == Promotion(middle, DS2, base, False)


def test_the_gate_sees_what_is_wrong_with_a_published_model(world: World) -> None:
    day = world.day(DS1)
    broken = {name: dict(rows) for name, rows in day.model.weights.items()}
    victim = next(iter(broken["item"]))
    broken["item"][victim] = np.array([np.nan, 0, 0, 0], np.float32)
    version = world.publish(day, "nan", model=FakeModel(broken, day.model.network)).version
    with pytest.raises(GateRefused, match="table item"):
        validate_model(world.config, world.store, version)

    run_dir = make_run(world.config, day, world.root / "parity")
    rows = pq.read_table(run_dir / "parity.parquet")
    shifted = pa.array(rows["prediction"].to_numpy() + np.float32(3e-5))
    at = rows.column_names.index("prediction")
    pq.write_table(rows.set_column(at, "prediction", shifted), run_dir / "parity.parquet")
    version = publish(world.config, world.store, DS1, run_dir).version
    with pytest.raises(GateRefused, match="differ by 3") as caught:
        validate_model(world.config, world.store, version)
    assert "AUC" not in caught.value.what

    good = world.publish(day, "good").version
    prefix = hashed_prefix("clicks", DS1)
    for info in list(world.store.list(prefix)):
        world.store.delete(info.key)
    write_hashed_table(world.config, world.store, DS1, day.table.slice(0, 250))
    with pytest.raises(GateRefused, match="replaced since training"):
        validate_model(world.config, world.store, good)


def test_a_damaged_version_gets_no_verdict(world: World) -> None:
    version = world.publish(world.day(DS1)).version
    key = version_prefix("small", version) + "embeddings/user.parquet"
    whole = world.store.get(key).data
    world.store.put(key, whole[:40] + bytes([whole[40] ^ 8]) + whole[41:])
    with pytest.raises(Corrupt, match=r"user\.parquet"):
        validate_model(world.config, world.store, version)
    assert read_model_verdict(world.store, verdict_key("small", version)) is None


def test_a_changed_schema_is_promoted_by_the_floor_alone(
    world: World, s3_store: S3Store, tmp_path: Path
) -> None:
    champion = world.validated(world.day(DS1))
    promote(world.config, world.store, champion)
    changed = small_config(dataset={**world.config.dataset.model_dump(), "salt": "changed"})
    other = World(changed, s3_store, tmp_path / "changed")
    version = other.publish(other.day(DS2)).version
    verdict = validate_model(changed, s3_store, version)
    skipped = [check for check in verdict.checks if check.skipped]
    assert [check.name for check in skipped if "other features" in check.reason] == [
        *("next_day_auc", "next_day_normalised_entropy"),
        *("after_training_auc", "after_training_normalised_entropy"),
    ]
    assert promote(changed, s3_store, version).previous == champion
    with pytest.raises(DataInvalid, match="other features"):
        validate_model(world.config, s3_store, version)


@pytest.mark.parametrize(
    "damage",
    [
        {"version": "../../x"},
        {"version": f"{DS2}-aaaaaaaaaaaa"},  # not of its ds
        {"version": "latest"},
        {"manifest_sha256": "short"},
        {"extra": 1},
    ],
)
def test_a_damaged_pointer_is_refused(world: World, tmp_path: Path, damage: dict[str, Any]) -> None:
    good = {"version": f"{DS1}-aaaaaaaaaaaa", "ds": DS1, "manifest_sha256": "0" * 64, "reason": "r"}
    world.store.put(alias_key("small", "champion"), json.dumps(good | damage).encode())
    with pytest.raises(Corrupt, match=r"champion\.json"):
        pick_up(world.store, "small", tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_a_pointer_to_nothing_or_to_another_manifest_is_refused(world: World, tmp_path: Path) -> None:
    with pytest.raises(Corrupt, match="no champion"):
        pick_up(world.store, "small", tmp_path)
    gone = Pointer(version=f"{DS1}-aaaaaaaaaaaa", ds=DS1, manifest_sha256="0" * 64, reason="r")
    swap_pointer(world.store, "small", CHAMPION, gone, None)
    with pytest.raises(Corrupt, match="no complete version"):
        pick_up(world.store, "small", tmp_path)
    version = world.publish(world.day(DS1)).version
    found = read_pointer(world.store, "small", CHAMPION)
    assert found is not None
    swap_pointer(world.store, "small", CHAMPION, gone.model_copy(update={"version": version}), found[1])
    with pytest.raises(Corrupt, match="not the one"):
        pick_up(world.store, "small", tmp_path)


def test_the_parent_checkpoint_is_the_newest_before_the_day(world: World) -> None:
    assert latest_checkpoint(world.store, "small", DS3) is None
    first = world.validated(world.day(DS1))
    day = world.day(DS2)
    runs = [world.publish(day, name) for name in ("run-a", "run-b", "run-c")]
    assert len({run.version for run in runs}) == 3
    # incomplete: no manifest
    world.store.put(f"checkpoints/small/ds={DS2}/run-z/dense.safetensors", b"x")

    def prefix(before: str) -> str | None:
        found = latest_checkpoint(world.store, "small", before)
        return found.prefix if found else None

    assert prefix(DS1) is None
    assert prefix(DS2) == f"checkpoints/small/ds={DS1}/run/"
    assert prefix(DS3) == runs[2].checkpoint  # no champion: the newest by name
    promote(world.config, world.store, first)
    assert prefix(DS3) == runs[2].checkpoint  # a champion from an older day decides nothing
    world.store.put(verdict_key("small", runs[1].version), _passing(world, first, runs[1].version))
    promote(world.config, world.store, runs[1].version)
    assert prefix(DS3) == runs[1].checkpoint
    assert prefix("2026-12-01") == runs[1].checkpoint
    last = world.publish(world.day(DS3), "last")  # its parent is run-b
    world.store.put(verdict_key("small", last.version), _passing(world, first, last.version))
    promote(world.config, world.store, last.version)
    assert last.parent == runs[1].version
    assert prefix(DS3) == runs[1].checkpoint  # an ancestor of the champion
    world.store.put(f"checkpoints/small/ds={DS3}/last/manifest.json", b"{")
    with pytest.raises(Corrupt, match="last/manifest"):
        prefix("2026-12-01")
