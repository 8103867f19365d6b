"""Forced promotion, rollback and history of the champion, over HTTP: races and promoters that die."""

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from persia_core.config import ModelConfig
from persia_core.errors import Corrupt, PromotionRefused
from persia_core.handoff.champion import Promotion
from persia_core.handoff.layout import alias_key, version_prefix
from persia_core.handoff.models import champion_history
from persia_core.handoff.pointer import CHAMPION, HISTORY, Move, Pointer, read_pointer, swap_pointer
from persia_core.handoff.promote import promote
from persia_core.handoff.rollback import rollback
from persia_core.handoff.s3_store import S3Store
from tests.support.faulty_proxy import Fault, Request, faulty_proxy
from tests.support.runs import small_config
from tests.support.versions import MODEL, champion_of, store_version

D1, D2, D3, D4 = "2026-11-01", "2026-11-02", "2026-11-03", "2026-11-04"
WHO = "Ada"


@pytest.fixture
def config() -> ModelConfig:
    return small_config()


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSIA_HOME", str(tmp_path / "home"))


def history(store: S3Store) -> list[tuple[str, str, str | None]]:
    return [(move.version, move.action, move.promoted_by) for move in champion_history(store, MODEL)]


def test_a_rollback_goes_back_and_the_next_newer_promotion_goes_forward(
    config: ModelConfig, s3_store: S3Store
) -> None:
    one, two, three, four = (store_version(s3_store, ds) for ds in (D1, D2, D3, D4))
    promote(config, s3_store, one)
    promote(config, s3_store, three, who="scheduler")
    assert rollback(config, s3_store, one, "clicks fell", WHO) == Promotion(one, D1, three, True)
    assert rollback(config, s3_store, one, "clicks fell", WHO) == Promotion(one, D1, three, False)
    # a backfill of a day that is newer than the champion now, but older than it had come
    with pytest.raises(PromotionRefused, match=f"had come to partition {D3}"):
        promote(config, s3_store, two)
    # a retry of the promotion that was taken back
    with pytest.raises(PromotionRefused, match="rolled back by Ada: clicks fell"):
        promote(config, s3_store, three)
    again = store_version(s3_store, D3, "trained again")
    assert promote(config, s3_store, again) == Promotion(again, D3, one, True)
    with pytest.raises(PromotionRefused, match="rolled back"):
        promote(config, s3_store, three)
    assert promote(config, s3_store, four) == Promotion(four, D4, again, True)
    with pytest.raises(PromotionRefused, match="behind"):
        promote(config, s3_store, two)
    assert history(s3_store) == [
        (four, "promoted", None),
        (again, "promoted", None),
        (one, "rolled back", WHO),
        (three, "promoted", "scheduler"),
        (one, "promoted", None),
    ]
    for move in champion_history(s3_store, MODEL):
        assert move.at is not None
        assert datetime.fromisoformat(move.at).tzinfo is not None


def test_two_steps_back_and_forward_by_force(config: ModelConfig, s3_store: S3Store) -> None:
    one, two, three = (store_version(s3_store, ds) for ds in (D1, D2, D3))
    for version in (one, two, three):
        promote(config, s3_store, version)
    rollback(config, s3_store, two, "first guess", WHO)
    rollback(config, s3_store, one, "second guess", WHO)
    for version, refused in ((two, "behind"), (three, "second|first guess")):
        with pytest.raises(PromotionRefused, match=refused):
            promote(config, s3_store, version)
    with pytest.raises(PromotionRefused, match="behind"):  # force does not change the order of partitions
        promote(config, s3_store, two, "it was fine", who=WHO, force=True)
    forced = promote(config, s3_store, three, "it was the app", who=WHO, force=True)
    assert forced == Promotion(three, D3, one, True)
    assert promote(config, s3_store, three).moved is False
    assert history(s3_store)[0] == (three, "forced", WHO)


def test_a_rollback_asks_for_a_version_that_was_champion_or_passed_and_is_whole(
    config: ModelConfig, s3_store: S3Store
) -> None:
    good = store_version(s3_store, D1)
    with pytest.raises(PromotionRefused, match="no champion"):
        rollback(config, s3_store, good, "r", WHO)
    forced = store_version(s3_store, D2, verdict=False)
    promote(config, s3_store, forced, "needed at once", who=WHO, force=True)
    last = store_version(s3_store, D3)
    promote(config, s3_store, last)
    before = s3_store.get(alias_key(MODEL, CHAMPION))
    never, failed = (
        store_version(s3_store, D1, "a", verdict=None),
        store_version(s3_store, D1, "b", verdict=False),
    )
    newer = store_version(s3_store, D4)
    for version, reason in (
        (never, "not validated"),
        (failed, "did not pass"),
        (newer, "newer than champion"),
    ):
        with pytest.raises(PromotionRefused, match=reason):
            rollback(config, s3_store, version, "r", WHO)
    with pytest.raises(PromotionRefused, match="no reason"):
        rollback(config, s3_store, good, "  ", WHO)
    with pytest.raises(Corrupt, match="no complete version"):
        rollback(config, s3_store, f"{D1}-000000000000", "r", WHO)
    part = version_prefix(MODEL, good) + "embeddings/user.parquet"
    whole = s3_store.get(part).data
    s3_store.put(part, whole[:-1] + b"?")
    with pytest.raises(Corrupt, match=r"user\.parquet"):
        rollback(config, s3_store, good, "r", WHO)
    s3_store.put(part, whole)
    manifest = version_prefix(MODEL, forced) + "manifest.json"
    content = s3_store.get(manifest).data
    s3_store.put(manifest, content + b"\n")
    with pytest.raises(Corrupt, match="not the one that it had as champion"):
        rollback(config, s3_store, forced, "r", WHO)
    s3_store.put(manifest, content)
    assert s3_store.get(alias_key(MODEL, CHAMPION)) == before
    assert rollback(config, s3_store, forced, "r", WHO).moved  # it was champion, whatever its verdict said
    assert rollback(config, s3_store, good, "r", WHO).moved  # it passed


@pytest.mark.parametrize("verdict", [None, False])
def test_a_forced_promotion_says_who_and_why_and_overrules_only_the_verdict(
    config: ModelConfig, s3_store: S3Store, verdict: bool | None
) -> None:
    version = store_version(s3_store, D2, verdict=verdict)
    with pytest.raises(PromotionRefused):
        promote(config, s3_store, version)
    with pytest.raises(PromotionRefused, match="nobody"):
        promote(config, s3_store, version, "r", force=True)
    with pytest.raises(PromotionRefused, match="no reason"):
        promote(config, s3_store, version, "", who=WHO, force=True)
    part = version_prefix(MODEL, version) + "embeddings/user.parquet"
    whole = s3_store.get(part).data
    s3_store.put(part, b"?" + whole[1:])
    with pytest.raises(Corrupt, match=r"user\.parquet"):
        promote(config, s3_store, version, "r", who=WHO, force=True)
    assert champion_of(s3_store) is None
    s3_store.put(part, whole)
    promote(config, s3_store, version, "a holiday", who=WHO, force=True)
    stored = json.loads(s3_store.get(alias_key(MODEL, CHAMPION)).data)
    assert {key: stored[key] for key in ("version", "action", "promoted_by", "reason", "history")} == {
        **{"version": version, "action": "forced", "promoted_by": WHO},
        **{"reason": "a holiday", "history": []},
    }


def test_the_history_is_bounded_and_keeps_the_newest(config: ModelConfig, s3_store: S3Store) -> None:
    moves = [
        Move(version=f"{D1}-{number:012x}", ds=D1, manifest_sha256="0" * 64, reason=f"r{number}")
        for number in range(HISTORY + 5)
    ]
    pointer = Pointer(**dict(moves[0]))
    for move in moves[1:]:
        pointer = pointer.followed_by(move)
    swap_pointer(s3_store, MODEL, CHAMPION, pointer, None)
    found = champion_history(s3_store, MODEL)
    assert found == moves[::-1][: HISTORY + 1]
    last = store_version(s3_store, D2)
    promote(config, s3_store, last)
    assert [move.version for move in champion_history(s3_store, MODEL)[:2]] == [last, moves[-1].version]
    assert len(s3_store.get(alias_key(MODEL, CHAMPION)).data) < 64_000


def test_a_pointer_from_before_there_was_a_history_is_read_and_moves_on(
    config: ModelConfig, s3_store: S3Store
) -> None:
    one, two = store_version(s3_store, D1), store_version(s3_store, D2)
    old = {
        "version": one,
        "ds": D1,
        "manifest_sha256": "0" * 64,
        "previous": None,
        "reason": "passed the gate",
    }
    s3_store.put(alias_key(MODEL, CHAMPION), json.dumps({**old, "promoted_by": None}).encode())
    assert promote(config, s3_store, two) == Promotion(two, D2, one, True)
    assert [version for version, _, _ in history(s3_store)] == [two, one]


@pytest.mark.parametrize(
    "damage",
    [
        {"newest_ds": D1},
        {"newest_ds": "yesterday"},
        {"history": [{"version": "x"}]},
        {"history": [{}] * (HISTORY + 1)},
        {"action": "magic"},
        {"reason": "x" * 1001},
    ],
)
def test_a_damaged_history_is_refused_and_left_alone(
    config: ModelConfig, s3_store: S3Store, damage: dict[str, Any]
) -> None:
    version = store_version(s3_store, D3)
    good = {"version": f"{D2}-aaaaaaaaaaaa", "ds": D2, "manifest_sha256": "0" * 64, "reason": "r"}
    s3_store.put(alias_key(MODEL, CHAMPION), json.dumps(good | damage).encode())
    before = s3_store.get(alias_key(MODEL, CHAMPION))
    with pytest.raises(Corrupt, match=r"champion\.json"):
        promote(config, s3_store, version)
    with pytest.raises(Corrupt, match=r"champion\.json"):
        rollback(config, s3_store, version, "r", WHO)
    assert s3_store.get(alias_key(MODEL, CHAMPION)) == before


def test_a_rollback_that_meets_a_promotion_gives_way(
    config: ModelConfig, s3_store: S3Store, s3_endpoint: str
) -> None:
    """The person who rolls back has looked at a champion; if it is another one by now, they look again."""
    one, two, three = (store_version(s3_store, ds) for ds in (D1, D2, D3))
    promote(config, s3_store, one)
    promote(config, s3_store, two)

    class Overtaken(S3Store):
        def put_if_match(self, key: str, data: bytes, etag: str) -> str:
            promote(config, s3_store, three)
            return super().put_if_match(key, data, etag)

    with pytest.raises(PromotionRefused, match=three):
        rollback(config, Overtaken(s3_store.url, s3_endpoint), one, "r", WHO)
    assert champion_of(s3_store) == three
    assert [version for version, _, _ in history(s3_store)] == [three, two, one]


def test_rollbacks_and_promotions_at_once_leave_one_history(config: ModelConfig, s3_store: S3Store) -> None:
    """Whatever wins, every move that was reported as done stands in the history once."""
    base, *days = (store_version(s3_store, f"2026-11-{day:02d}") for day in range(1, 7))
    promote(config, s3_store, base)
    barrier = threading.Barrier(len(days) + 1)

    def act(version: str) -> Promotion | None:
        barrier.wait(30)
        try:
            if version == base:
                return rollback(config, s3_store, base, "r", WHO)
            return promote(config, s3_store, version)
        except PromotionRefused:
            return None

    with ThreadPoolExecutor(len(days) + 1) as pool:
        done = [found for found in pool.map(act, [*days, base]) if found is not None and found.moved]
    moves = champion_history(s3_store, MODEL)
    assert sorted(move.version for move in moves[:-1]) == sorted(found.version for found in done)
    assert moves[-1].version == base
    for newer, older in itertools.pairwise(moves):
        assert newer.action == "rolled back" or newer.ds > older.ds
    assert moves[0].version == champion_of(s3_store)


def test_a_promoter_that_dies_before_the_swap_leaves_the_champion_and_the_next_one_goes_on(
    config: ModelConfig, s3_store: S3Store, s3_endpoint: str, tmp_path: Path
) -> None:
    """A real process, killed while its swap is on the way; the request does not reach the endpoint."""
    one, two = store_version(s3_store, D1), store_version(s3_store, D2)
    promote(config, s3_store, one)
    before = s3_store.get(alias_key(MODEL, CHAMPION))
    started: list[subprocess.Popen[bytes]] = []
    ready = threading.Event()

    def kill_at_the_swap(request: Request) -> Fault | None:
        if request.method == "PUT" and request.path.endswith("champion.json"):
            ready.wait(30)
            os.kill(started[0].pid, signal.SIGKILL)
            return Fault("answer", 500, "Killed")
        return None

    with faulty_proxy(s3_endpoint) as proxy:
        proxy.rule = kill_at_the_swap
        document = small_config(s3_store.url).model_dump(mode="json")
        document["storage"]["endpoint_url"] = proxy.url
        (tmp_path / "model.yaml").write_text(yaml.safe_dump(document))
        command = ["promote", "--config", str(tmp_path / "model.yaml"), "--version", two]
        started.append(subprocess.Popen([sys.executable, "-m", "persia_core.cli", *command]))
        ready.set()
        assert started[0].wait(120) == -signal.SIGKILL
        assert [r.method for r in proxy.seen if r.path.endswith("champion.json")] == ["GET", "PUT"]
    assert s3_store.get(alias_key(MODEL, CHAMPION)) == before
    assert promote(config, s3_store, two) == Promotion(two, D2, one, True)


def test_a_promoter_that_dies_after_the_swap_has_promoted(
    config: ModelConfig, s3_store: S3Store, s3_endpoint: str
) -> None:
    """The retry finds its own version there, and writes nothing."""
    one, two = store_version(s3_store, D1), store_version(s3_store, D2)
    promote(config, s3_store, one)

    class Dies(S3Store):
        def put_if_match(self, key: str, data: bytes, etag: str) -> str:
            super().put_if_match(key, data, etag)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        promote(config, Dies(s3_store.url, s3_endpoint), two)
    after = s3_store.get(alias_key(MODEL, CHAMPION))
    assert promote(config, s3_store, two) == Promotion(two, D2, one, False)
    assert s3_store.get(alias_key(MODEL, CHAMPION)) == after


def test_a_version_that_goes_while_it_is_promoted_does_not_stay_champion(
    config: ModelConfig, s3_store: S3Store, s3_endpoint: str
) -> None:
    one, two = store_version(s3_store, D1), store_version(s3_store, D2)
    promote(config, s3_store, one)

    class Retired(S3Store):
        """The manifest goes after it was read and before the pointer is swapped."""

        gone = False

        def put_if_match(self, key: str, data: bytes, etag: str) -> str:
            if not self.gone:
                self.gone = True
                self.delete(version_prefix(MODEL, two) + "manifest.json")
            return super().put_if_match(key, data, etag)

    with pytest.raises(PromotionRefused, match="retired while"):
        promote(config, Retired(s3_store.url, s3_endpoint), two)
    found = read_pointer(s3_store, MODEL, CHAMPION)
    assert found is not None
    assert [move.version for move in found[0].moves] == [one]
