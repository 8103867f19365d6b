"""What the gate measures of published versions, against loops over dictionaries and DeLong's own formulas."""

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from persia_core.errors import GateRefused
from persia_core.handoff.layout import verdict_key
from persia_core.handoff.promote import promote
from persia_core.handoff.publish import publish
from persia_core.handoff.s3_store import S3Store
from persia_core.training.metrics import summary
from persia_core.validation.model import validate_model
from persia_core.validation.verdict import ModelVerdict, read_model_verdict
from tests.support.runs import FakeModel, bags_of, make_day, make_run, oracle_predict, small_config
from tests.unit.test_gate_paired import slow_delong

DAYS = ("2026-11-01", "2026-11-02", "2026-11-03")


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSIA_HOME", str(tmp_path / "home"))


def noisy(model: FakeModel, scale: float, seed: int) -> FakeModel:
    """The model with noise on its rows."""
    rng = np.random.default_rng(seed)
    weights = {
        table: {
            id_: row + rng.normal(scale=scale, size=row.shape).astype(np.float32) for id_, row in rows.items()
        }
        for table, rows in model.weights.items()
    }
    return FakeModel(weights, model.network)


def test_the_line_and_the_champion_are_compared_row_by_row(s3_store: S3Store, tmp_path: Path) -> None:
    """The champion is of the first day; the second day's model was not promoted; the third is judged."""
    config = small_config(gates={"min_rows": 50, "max_auc_drop": 0.05, "max_normalised_entropy_rise": 5.0})
    days = [make_day(config, s3_store, ds, noise=0.1) for ds in DAYS]
    truth = days[0].model
    first, second = noisy(truth, 0.3, 1), noisy(truth, 0.5, 2)
    one = publish(config, s3_store, DAYS[0], make_run(config, days[0], tmp_path / "one", model=first))
    validate_model(config, s3_store, one.version)
    promote(config, s3_store, one.version)
    run = make_run(config, days[1], tmp_path / "two", model=second, before=first, parent=one.checkpoint)
    two = publish(config, s3_store, DAYS[1], run)
    run = make_run(config, days[2], tmp_path / "three", model=truth, before=second, parent=two.checkpoint)
    three = publish(config, s3_store, DAYS[2], run)
    assert three.parent == two.version
    verdict = judged(config, s3_store, three.version)
    checks = {check.name: check for check in verdict.checks}

    table = days[2].table
    labels = table["label"].to_numpy().astype(np.float64)
    of = {
        name: oracle_predict(config, model, table).astype(np.float64)
        for name, model in (("first", first), ("second", second), ("truth", truth))
    }
    for stage, ours in (("next_day", "second"), ("after_training", "truth")):
        expected = slow_delong(labels, of[ours], of["first"])
        loss = expected.theirs - expected.ours  # type: ignore[operator]
        bound = loss + 1.6448536 * expected.standard_error  # type: ignore[operator]
        assert expected.standard_error > 1e-4  # type: ignore[operator]
        assert checks[f"{stage}_auc"].value == pytest.approx(bound, abs=1e-5)
        assert checks[f"{stage}_auc"].passed == (bound <= 0.05)
    assert checks["restored"].value == pytest.approx(0.0, abs=1e-6)
    assert verdict.metrics["parent"]["auc"] == pytest.approx(summary(labels, of["second"])["auc"], abs=1e-6)

    shares = {}
    for name in truth.weights:
        ids = [
            id_
            for feature in config.id_features
            if feature.table == name
            for bag in bags_of(table, feature.name)
            for id_ in bag
        ]
        shares[name] = sum(id_ in truth.weights[name] for id_ in ids) / len(ids)
    assert checks["coverage"].value == pytest.approx(min(shares.values()), abs=1e-12)
    norms = {
        name: [float(np.sqrt((row.astype(np.float64) ** 2).sum())) for row in rows.values()]
        for name, rows in truth.weights.items()
    }
    assert checks["norms"].value == pytest.approx(max(max(each) for each in norms.values()), rel=1e-9)
    ratios = []
    for name, each in norms.items():
        theirs = [float(np.sqrt((row.astype(np.float64) ** 2).sum())) for row in first.weights[name].values()]
        ratios += [np.mean(each) / np.mean(theirs), np.mean(theirs) / np.mean(each)]
    assert checks["norms_change"].value == pytest.approx(max(ratios), rel=1e-9)
    assert checks["size"].skipped


def judged(config: object, store: S3Store, version: str) -> ModelVerdict:
    with suppress(GateRefused):
        validate_model(config, store, version)  # type: ignore[arg-type]
    verdict = read_model_verdict(store, verdict_key("small", version))
    assert verdict is not None
    return verdict


def test_a_version_over_its_budget_or_with_an_exploded_row_is_refused(
    s3_store: S3Store, tmp_path: Path
) -> None:
    config = small_config(gates={"min_rows": 50, "max_bytes": 1000, "max_norm": 50.0})
    day = make_day(config, s3_store, DAYS[0])
    weights = {name: dict(rows) for name, rows in day.model.weights.items()}
    victim = next(iter(weights["item"]))
    weights["item"][victim] = np.array([60, 0, 0, 0], np.float32)
    broken = FakeModel(weights, day.model.network)
    version = publish(
        config, s3_store, DAYS[0], make_run(config, day, tmp_path / "run", model=broken)
    ).version
    with pytest.raises(GateRefused) as caught:
        validate_model(config, s3_store, version)
    assert "norm 60, in table item" in caught.value.what
    assert "1,000 are allowed" in caught.value.what
