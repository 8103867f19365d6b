"""Whose turn it is: a day's parent, and when a day is made to wait or refused."""

from collections.abc import Callable
from pathlib import Path

import pytest

from persia_core import __version__
from persia_core.checkpoint.order import Turn, take_turn
from persia_core.config import ModelConfig
from persia_core.errors import EarlierDayMissing, NoParent, OutOfOrder, PartitionMissing, PersiaError
from persia_core.handoff.layout import (
    MANIFEST,
    checkpoint_prefix,
    hashed_prefix,
    version_name,
    version_prefix,
)
from persia_core.handoff.local_store import LocalStore
from persia_core.handoff.manifest import Lineage, Manifest, digest_of, part_of
from tests.support.small_config import small_config

D1, D2, D3, D4 = "2026-11-20", "2026-11-21", "2026-11-22", "2026-11-23"


class Line:
    """A store with days that were landed, hashed, trained, published, as little of them as order looks at."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = LocalStore(root / "store")
        self.config: ModelConfig = small_config(airflow={})

    def landed(self, *days: str) -> None:
        for ds in days:
            self.store.put(f"raw/clicks/ds={ds}/clicks.csv", b"label\n1\n")

    def hashed(self, *days: str, content: str = "") -> None:
        for ds in days:
            self._put("hashed", hashed_prefix("clicks", ds), ds, f"{ds}{content}")

    def trained(self, ds: str, turn: Turn) -> str:
        """Store checkpoint and version of that turn; returns the version."""
        prefix = checkpoint_prefix("small", ds, turn.run)
        self._put("checkpoint", prefix, ds, turn.run, turn.parent)
        file = self._part(turn.run + "export")
        manifest = self._manifest("model_version", file, ds, None, {"checkpoint": prefix})
        version = version_name(ds, manifest.digest)
        self.store.put(version_prefix("small", version) + MANIFEST, manifest.to_bytes())
        return version

    def turn(self, ds: str, **options: object) -> Turn:
        return take_turn(self.config, self.store, ds, **options)  # type: ignore[arg-type]

    def _part(self, content: str) -> Path:
        file = self.root / "part"
        file.write_text(content)
        return file

    def _put(self, kind: str, prefix: str, ds: str, content: str, parent: str | None = None) -> None:
        manifest = self._manifest(kind, self._part(content), ds, parent, {})
        self.store.put(prefix + MANIFEST, manifest.to_bytes())

    def _manifest(
        self, kind: str, file: Path, ds: str, parent: str | None, details: dict[str, str]
    ) -> Manifest:
        parts = [part_of(self.root, file)]
        lineage = Lineage(
            dataset="clicks",
            ds=ds,
            parent=parent,
            config_digest=self.config.digest(),
            code_version=__version__,
        )
        return Manifest(
            kind=kind,  # type: ignore[arg-type]
            digest=digest_of(parts),
            parts=parts,
            schema_fingerprint="f",
            lineage=lineage,
            details=details,
        )


@pytest.fixture
def line(tmp_path: Path) -> Line:
    """Three days have landed and are hashed; none is trained."""
    made = Line(tmp_path)
    made.landed(D1, D2, D3)
    made.hashed(D1, D2, D3)
    return made


def test_each_day_starts_from_the_one_before(line: Line) -> None:
    first = line.turn(D1, cold_start=True)
    assert (first.parent, first.already) == (None, None)
    line.trained(D1, first)
    second = line.turn(D2)
    assert second.parent == checkpoint_prefix("small", D1, first.run)
    line.trained(D2, second)
    assert line.turn(D3).parent == checkpoint_prefix("small", D2, second.run)


def test_a_new_dense_network_on_the_rows_of_the_day_before_is_another_run(line: Line) -> None:
    line.trained(D1, line.turn(D1, cold_start=True))
    usual = line.turn(D2)
    line.trained(D2, usual)
    fresh = line.turn(D2, cold_start_dense=True)
    assert fresh.parent == usual.parent
    assert fresh.run != usual.run
    assert (fresh.already, "new dense network" in fresh.explanation) == (None, True)
    line.trained(D2, fresh)
    assert line.turn(D2, cold_start_dense=True).already is not None
    # Without a parent there are no rows to keep: it is the cold start that it would be anyway.
    assert line.turn(D1, cold_start=True, cold_start_dense=True).run == line.turn(D1, cold_start=True).run


def test_a_day_whose_predecessor_has_landed_and_is_not_trained_waits_for_it(line: Line) -> None:
    line.trained(D1, line.turn(D1, cold_start=True))
    with pytest.raises(EarlierDayMissing, match=D2):
        line.turn(D3)
    line.trained(D2, line.turn(D2))
    assert f"ds={D2}/" in str(line.turn(D3).parent)


def test_a_day_that_never_landed_is_not_waited_for(line: Line) -> None:
    line.landed(D4)
    line.hashed(D4)
    line.trained(D1, line.turn(D1, cold_start=True))
    line.store.delete(f"raw/clicks/ds={D2}/clicks.csv")
    line.store.delete(f"raw/clicks/ds={D3}/clicks.csv")
    line.store.put(f"raw/clicks/ds={D3}/_SUCCESS", b"")  # a writer's mark is no data
    assert f"ds={D1}/" in str(line.turn(D4).parent)


@pytest.mark.parametrize("how", ["param", "configuration"])
def test_an_earlier_day_can_be_left_out(line: Line, how: str) -> None:
    line.trained(D1, line.turn(D1, cold_start=True))
    if how == "configuration":
        line.config = small_config(airflow={"earlier_days": "skip"})
    turn = line.turn(D3, skip_earlier_days=how == "param")
    assert f"ds={D1}/" in str(turn.parent)
    assert f"without {D2}" in turn.explanation


def test_a_day_that_comes_after_its_successor_is_refused(line: Line) -> None:
    line.trained(D1, line.turn(D1, cold_start=True))
    line.trained(D3, line.turn(D3, skip_earlier_days=True))
    with pytest.raises(OutOfOrder, match=f"{D2} comes too late: {D3}"):
        line.turn(D2)


def test_or_it_is_trained_from_its_own_predecessor_when_that_is_configured(line: Line) -> None:
    line.trained(D1, line.turn(D1, cold_start=True))
    line.trained(D3, line.turn(D3, skip_earlier_days=True))
    line.config = small_config(airflow={"late_days": "branch"})
    turn = line.turn(D2)
    assert f"ds={D1}/" in str(turn.parent)
    assert "beside the line" in turn.explanation


def test_the_first_day_needs_a_cold_start(line: Line) -> None:
    with pytest.raises(NoParent, match=D1):
        line.turn(D1)
    with pytest.raises(EarlierDayMissing, match=D1):  # it may still be trained
        line.turn(D2)


def test_a_day_that_is_not_hashed_has_no_turn(line: Line) -> None:
    with pytest.raises(PartitionMissing, match=D4):
        line.turn(D4, cold_start=True)


def test_the_same_day_again_is_the_same_run_and_is_not_trained_twice(line: Line) -> None:
    first = line.turn(D1, cold_start=True)
    version = line.trained(D1, first)
    line.trained(D2, line.turn(D2))
    again = line.turn(D1, cold_start=True)  # although a later day is trained: nothing is going to be trained
    assert (again.run, again.already) == (first.run, version)


def _other_data(line: Line) -> Turn:
    line.hashed(D2, content="mended")
    return line.turn(D2)


def _other_configuration(line: Line) -> Turn:
    line.config = small_config(airflow={}, training={"model": "persia_core.models.dlrm:DLRM", "seed": 7})
    return line.turn(D2)


@pytest.mark.parametrize(
    "change",
    [
        _other_data,
        _other_configuration,
        lambda line: line.turn(D2, again="manual-1"),
        lambda line: line.turn(D2, cold_start=True),
    ],
    ids=["data", "configuration", "again", "start"],
)
def test_another_input_is_another_run(line: Line, change: Callable[[Line], Turn]) -> None:
    line.trained(D1, line.turn(D1, cold_start=True))
    second = line.turn(D2)
    line.trained(D2, second)
    changed = change(line)
    assert changed.run != second.run
    assert changed.already is None


def test_when_it_runs_is_no_input(line: Line) -> None:
    turn = line.turn(D1, cold_start=True)
    line.config = small_config(airflow={"schedule": "0 5 * * *", "owner": "somebody"})
    assert line.turn(D1, cold_start=True).run == turn.run
    assert small_config(airflow={}).digest() == small_config().digest()


def test_a_refusal_says_what_to_do(line: Line) -> None:
    line.trained(D1, line.turn(D1, cold_start=True))
    with pytest.raises(PersiaError) as caught:
        line.turn(D3)
    assert "skip_earlier_days" in caught.value.remedy
    assert f"train {D2} first" in caught.value.remedy
