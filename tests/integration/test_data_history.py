"""A partition beside the ones before it: what passes, warns and fails, and what there is to compare with."""

import argparse
import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from persia_core.cli import build_parser, run
from persia_core.config import ModelConfig
from persia_core.errors import DataRefused
from persia_core.exit_codes import ExitCode
from persia_core.handoff.layout import MANIFEST, data_docs_prefix, data_verdict, hashed_prefix
from persia_core.handoff.local_store import LocalStore
from persia_core.handoff.manifest import Manifest
from persia_core.validation.data_suite import validate_partition
from persia_core.validation.data_verdict import Check, DataVerdict
from tests.support.hashed import write_hashed_partition
from tests.support.small_config import small_config, small_rows

DS = "1970-01-11"
ROWS = 60
FIRST_SECOND = 10 * 86_400


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSIA_HOME", str(tmp_path / "home"))


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def before(days: int, ds: str = DS) -> str:
    return (date.fromisoformat(ds) - timedelta(days=days)).isoformat()


def today(config: ModelConfig, store: LocalStore) -> Manifest:
    rows = small_rows(ROWS, first_second=FIRST_SECOND)
    return write_hashed_partition(config, store, DS, rows)


def write_past(store: LocalStore, like: Manifest, ds: str, **changes: Any) -> None:
    """A manifest alone, with the figures of `like` and changes of them: the parts that it lists do not exist.

    A change is of `schema_fingerprint`, of a key of `details`, or by the name of a feature of its figures.
    """
    details = json.loads(json.dumps(like.details))
    fingerprint = changes.pop("schema_fingerprint", like.schema_fingerprint)
    for name, value in changes.items():
        if name in details["features"]:
            details["features"][name] |= value
        else:
            details[name] = value
    parts = [part.model_copy(update={"sha256": f"{int(ds.replace('-', '')):064x}"}) for part in like.parts]
    past = Manifest.model_validate(
        like.model_dump()
        | {
            "parts": [part.model_dump() for part in parts],
            "digest": _digest(parts),
            "details": details,
            "schema_fingerprint": fingerprint,
            "lineage": like.lineage.model_dump() | {"ds": ds},
        }
    )
    store.put(hashed_prefix("clicks", ds) + MANIFEST, past.to_bytes())


def _digest(parts: list[Any]) -> str:
    from persia_core.handoff.manifest import digest_of

    return digest_of(parts)


def judged(config: ModelConfig, store: LocalStore) -> DataVerdict:
    """The verdict, also of a partition that is refused."""
    try:
        return validate_partition(config, store, DS)
    except DataRefused as refused:
        assert isinstance(refused.result, DataVerdict)
        return refused.result


def off(verdict: DataVerdict) -> dict[str, Check]:
    return {check.name: check for check in verdict.checks if check.status != "pass"}


def test_a_day_like_the_seven_before_it_passes(store: LocalStore) -> None:
    config = small_config()
    manifest = today(config, store)
    for days in range(1, 11):
        odd = {"rows_kept": 10**6, "label_rate": 0.9} if days > 7 else {}  # too long ago
        write_past(store, manifest, before(days), **odd)
    write_past(store, manifest, before(-1), rows_kept=10**6, label_rate=0.9)  # a day that comes later
    verdict = validate_partition(config, store, DS)
    assert (verdict.verdict, off(verdict)) == ("pass", {})
    assert verdict.compared_with == [before(days) for days in range(7, 0, -1)]
    assert verdict.history == f"compared with the last 7 partitions, {before(7)} to {before(1)}"
    names = {check.name for check in verdict.checks}
    beside = [name for name in names if name.endswith("beside earlier partitions")]
    assert len(beside) == 2 + 7 + 7 + 2 * 3  # rows, label rate; missing, distinct; of two dense features


@pytest.mark.parametrize(
    ("rows", "days", "status"),
    [(120, 3, "pass"), (121, 3, "warn"), (300, 3, "warn"), (301, 3, "fail"), (301, 2, "warn")],
)
def test_rows_warn_beyond_one_factor_and_fail_beyond_another(
    store: LocalStore, rows: int, days: int, status: str
) -> None:
    """60 rows after days of more; a partition may fail by three days, and not by fewer."""
    config = small_config()
    manifest = today(config, store)
    for day in range(1, days + 1):
        write_past(store, manifest, before(day), rows_kept=rows + day - 1)
    verdict = judged(config, store)
    assert verdict.verdict == status
    # What else is off: the same distinct values of each feature are from more rows.
    if status != "pass":
        check = off(verdict)["rows beside earlier partitions"]
        factor = 5 if status == "fail" else 2
        low, high = round(rows / factor), (rows + days - 1) * factor
        assert check.reason == f"rows 60, expected {low}–{high} from the last {days} partitions"
        assert (check.status, check.observed) == (status, 60)


def test_every_figure_is_told_apart(store: LocalStore) -> None:
    """Figures of the day itself stay; those of the days before are set so that each is off in its own way."""
    config = small_config(
        data_checks={
            "history": {
                "min_partitions": 1,
                "label_rate": {"warn": 1.0, "fail": 1.5},
                "missing": {"warn": 0.01, "fail": None},
            }
        }
    )
    manifest = today(config, store)
    features = manifest.details["features"]
    price, age = features["price"], features["age"]
    width = price["max"] - price["min"]
    changes = {
        "label_rate": 0.999,
        "user": {"missing": 0, "distinct": features["user"]["distinct"] * 10 + 1},
        "item": {"missing": ROWS, "distinct": 1},
        "last": {"missing": features["last"]["missing"]},
        "hour": {"distinct": features["hour"]["distinct"] * 2 + 1},
        "price": {"mean": price["mean"] - 0.2 * width},
        "age": {"min": age["max"] + 1, "max": age["max"] + 1.5, "mean": age["max"] + 1.2},
    }
    write_past(store, manifest, before(1), **changes)
    verdict = judged(config, store)
    assert verdict.verdict == "fail"
    found = {name.removesuffix(" beside earlier partitions"): check for name, check in off(verdict).items()}
    assert {name: check.status for name, check in found.items()} == {
        "label rate": "fail",
        "distinct values of user": "fail",
        "missing share of item": "warn",  # which never fails here
        "distinct values of item": "fail",
        "distinct values of hour": "warn",
        "mean of price": "warn",
        "least value of age": "fail",
        "greatest value of age": "warn",
        "mean of age": "fail",
    }
    rate = manifest.details["label_rate"]
    assert found["label rate"].reason.startswith(f"label rate {rate:.4g}, expected ")
    assert found["label rate"].reason.endswith("–1 from the last partition")
    stored = json.loads(store.get(data_verdict("clicks", DS)).data)
    assert stored == verdict.model_dump(mode="json")


def test_the_first_partition_is_judged_by_itself(store: LocalStore) -> None:
    config = small_config()
    today(config, store)
    verdict = validate_partition(config, store, DS)
    assert verdict.verdict == "pass" and verdict.compared_with == []
    assert verdict.history == f"nothing to compare with: there is no partition before ds={DS}"


def test_a_comparison_can_be_switched_off(store: LocalStore) -> None:
    config = small_config(data_checks={"history": {"partitions": 0}})
    manifest = today(config, store)
    write_past(store, manifest, before(3), rows_kept=10**6, schema_fingerprint="0" * 64)
    verdict = validate_partition(config, store, DS)
    assert verdict.verdict == "pass"
    assert verdict.history == "compared with no other partition: data_checks.history.partitions is 0"


def test_a_gap_warns_and_the_comparison_goes_on_behind_it(store: LocalStore) -> None:
    config = small_config()
    manifest = today(config, store)
    for days in (5, 6, 9):
        write_past(store, manifest, before(days), rows_kept=10_000)
    verdict = judged(config, store)
    assert verdict.verdict == "fail"
    assert verdict.compared_with == [before(9), before(6), before(5)]
    found = off(verdict)
    assert found["rows beside earlier partitions"].status == "fail"
    gap = found["partition before"]
    assert gap.status == "warn"
    assert gap.reason == f"4 partitions right before ds={DS} are not there, expected none"


@pytest.mark.parametrize(("days", "absent"), [(7, 0), (13, 0), (14, 1), (21, 2)])
def test_partitions_of_a_week_come_every_week(store: LocalStore, days: int, absent: int) -> None:
    from persia_core.validation.history import read_history

    config = small_config(data_checks={"partition_days": 7})
    write_past(store, today(config, store), before(days))
    assert read_history(config, store, DS).absent == absent


@pytest.mark.parametrize(
    ("since", "status"),
    [(None, "fail"), (DS, "pass"), (before(1), "pass"), (before(2), "fail"), (before(-1), "fail")],
)
def test_a_changed_schema_is_declared_or_refused(store: LocalStore, since: str | None, status: str) -> None:
    """The last partition of the schema before is that of two days ago."""
    checks = {} if since is None else {"data_checks": {"schema_since": since}}
    config = small_config(**checks)
    manifest = today(config, store)
    for days in (2, 3, 4):
        write_past(store, manifest, before(days), schema_fingerprint="ab" * 32, rows_kept=10**6)
    verdict = judged(config, store)
    assert verdict.verdict == ("warn" if status == "pass" else "fail")  # a day is missing between
    assert verdict.compared_with == []
    assert verdict.history.endswith("can be compared (left out: 3 of another schema)")
    check = next(check for check in verdict.checks if check.name == "schema unchanged")
    assert check.status == status
    assert check.reason.startswith(f"the schema of ds={before(2)} is abababababab, expected ")
    if since is None:
        assert check.reason.endswith(f"set data_checks.schema_since: {DS}")


def test_after_a_declared_change_only_the_new_schema_is_compared(store: LocalStore) -> None:
    config = small_config(data_checks={"schema_since": before(3)})
    manifest = today(config, store)
    for days in range(1, 6):
        old = {"schema_fingerprint": "ab" * 32, "rows_kept": 10**6} if days > 3 else {}
        write_past(store, manifest, before(days), **old)
    verdict = validate_partition(config, store, DS)
    assert (verdict.verdict, off(verdict)) == ("pass", {})
    assert verdict.compared_with == [before(3), before(2), before(1)]
    assert verdict.history.endswith("(left out: 2 of another schema)")


def test_a_damaged_manifest_of_an_earlier_day_is_left_out_and_told(store: LocalStore) -> None:
    config = small_config()
    manifest = today(config, store)
    write_past(store, manifest, before(2))
    write_past(store, manifest, before(3), features=["no", "figures"], label_rate="high", rows_kept=-1)
    store.put(hashed_prefix("clicks", before(1)) + MANIFEST, b"{")
    copied = store.get(hashed_prefix("clicks", before(2)) + MANIFEST).data
    store.put(hashed_prefix("clicks", before(4)) + MANIFEST, copied)
    verdict = validate_partition(config, store, DS)
    assert verdict.verdict == "warn"
    assert verdict.compared_with == [before(3), before(2)]
    assert list(off(verdict)) == ["earlier manifests"]
    reason = off(verdict)["earlier manifests"].reason
    assert reason.startswith("2 manifests") and before(1) in reason and before(4) in reason


def test_yesterday_delivered_again_is_refused(store: LocalStore) -> None:
    config = small_config()
    rows = small_rows(ROWS, first_second=FIRST_SECOND - 86_400)
    for ds in (before(1), DS):
        write_hashed_partition(config, store, ds, rows)
    with pytest.raises(DataRefused) as refused:
        validate_partition(config, store, DS)
    assert f"the rows are those of ds={before(1)}, expected rows of its own" in refused.value.what
    verdict = DataVerdict.model_validate_json(store.get(data_verdict("clicks", DS)).data)
    assert {name: check.status for name, check in off(verdict).items()} == {
        "rows of its own": "fail",
        "time reaches the day": "warn",
    }
    newest = max(int(value) for value in rows["t"])
    assert "the newest row is of 1970-01-10 2" in off(verdict)["time reaches the day"].reason, newest


def test_the_command_gives_its_result_also_when_it_refuses(store: LocalStore, tmp_path: Path) -> None:
    config = small_config(
        data_checks={"min_rows": ROWS + 1},
        storage={"url": f"file://{tmp_path / 'store'}"},
        metrics={"textfile_dir": str(tmp_path)},
    )
    today(config, store)
    file, result = tmp_path / "model.yaml", tmp_path / "result.json"
    file.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    command = ["validate", "data", "--config", str(file), "--ds", DS, "--result-file", str(result)]
    arguments: argparse.Namespace = build_parser().parse_args(command)
    assert run(arguments.run, arguments) == ExitCode.DATA_REFUSED
    found = json.loads(result.read_text())
    assert found["verdict"] == "fail"
    assert found["data_docs"] == data_docs_prefix("clicks", DS) + "index.html"
    assert found["data_docs_uri"] == store.uri(found["data_docs"])
    assert Path(found["data_docs_uri"].removeprefix("file://")).is_file()
    counted = (tmp_path / "persia-small-validate_data.prom").read_text().splitlines()
    statuses = [check["status"] for check in found["checks"]]
    assert 'persia_data_verdicts_total{model="small",verdict="fail"} 1.0' in counted
    assert 'persia_data_passed{model="small"} 0.0' in counted
    for status in ("pass", "warn", "fail"):
        assert (
            f'persia_data_checks_total{{model="small",status="{status}"}} {statuses.count(status)}.0'
            in counted
        )
