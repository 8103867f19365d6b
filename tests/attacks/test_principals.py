"""Principals that may not write, or not even read: a proxy before the real endpoint refuses them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from persia_core.errors import PersiaError
from persia_core.exit_codes import ExitCode
from persia_core.handoff.consume import pick_up
from persia_core.handoff.layout import MANIFEST, checkpoint_prefix
from persia_core.handoff.models import champion_history, list_versions
from persia_core.handoff.promote import promote
from persia_core.handoff.publish import publish
from persia_core.handoff.retire import retire
from persia_core.handoff.rollback import rollback
from persia_core.handoff.s3_store import S3Store
from persia_core.handoff.sweep import sweep
from persia_core.validation.model import validate_model
from tests.attacks.victim import Victim
from tests.support.faulty_proxy import Fault, FaultyProxy, Request, faulty_proxy
from tests.support.runs import make_day, make_run, small_config
from tests.support.versions import MODEL, everything, store_version

DAY_S = 86_400.0


@pytest.fixture
def stored(victim: Victim, s3_store: S3Store) -> S3Store:
    """The victim's store at the endpoint."""
    for info in victim.store.list(""):
        s3_store.put(info.key, victim.store.get(info.key).data)
    return s3_store


@pytest.fixture
def proxy(s3_endpoint: str) -> Iterator[FaultyProxy]:
    with faulty_proxy(s3_endpoint) as found:
        yield found


def read_only(request: Request) -> Fault | None:
    return None if request.method in ("GET", "HEAD") else Fault("answer", 403, "AccessDenied")


def nobody(request: Request) -> Fault | None:
    return Fault("answer", 403, "AccessDenied")


def unknown_key(request: Request) -> Fault | None:
    return Fault("answer", 403, "InvalidAccessKeyId")


def refused(act: Callable[[], object], words: str) -> None:
    with pytest.raises(PersiaError) as caught:
        act()
    assert caught.value.exit_code == ExitCode.STORAGE_UNAVAILABLE
    assert words in caught.value.what
    assert caught.value.remedy


def test_who_may_only_read_can_pick_up_and_change_nothing(
    victim: Victim, stored: S3Store, proxy: FaultyProxy, tmp_path: Path
) -> None:
    config = small_config(retention={"versions": 1, "days": 0, "champions": 1, "checkpoint_partitions": 1})
    champion = victim.version
    newer = store_version(stored, "2026-11-05")
    store_version(stored, "2026-11-01", "to retire")
    older = store_version(stored, "2026-10-01", "to go back to")
    stored.put(checkpoint_prefix(MODEL, "2026-10-02", "abandoned") + "dense.safetensors", b"x")
    day = make_day(config, stored, "2026-11-03", rows=60)
    run = make_run(config, day, tmp_path / "run")
    before = everything(stored)
    now = max(info.modified for info in stored.list("")) + 2 * DAY_S

    proxy.rule = read_only
    store = S3Store(stored.url, proxy.url)
    attempts: list[Callable[[], Any]] = [
        lambda: publish(config, store, "2026-11-03", run),
        lambda: validate_model(config, store, champion),
        lambda: promote(config, store, newer),
        lambda: promote(config, store, newer, "r", who="Ada", force=True),
        lambda: rollback(config, store, older, "r", "Ada"),
        lambda: retire(config, store, apply=True),
        lambda: sweep(config, store, older_than_s=DAY_S, now=now, apply=True),
    ]
    for attempt in attempts:
        refused(attempt, "AccessDenied")
        assert everything(stored) == before
    assert pick_up(store, MODEL, victim.cache).version == champion
    assert len(list_versions(store, MODEL)) == 4
    assert [move.version for move in champion_history(store, MODEL)] == [champion]
    assert retire(config, store).retired
    assert sweep(config, store, older_than_s=DAY_S, now=now).leftovers
    assert everything(stored) == before


@pytest.mark.parametrize(("rule", "words"), [(nobody, "AccessDenied"), (unknown_key, "credentials")])
def test_who_may_not_read_gets_nothing(
    victim: Victim, stored: S3Store, proxy: FaultyProxy, rule: Any, words: str
) -> None:
    proxy.rule = rule
    store = S3Store(stored.url, proxy.url)
    for act in (
        lambda: pick_up(store, MODEL, victim.cache),
        lambda: list_versions(store, MODEL),
        lambda: promote(small_config(), store, victim.version),
    ):
        refused(act, words)
    assert not victim.cache.exists()


@pytest.mark.parametrize("ending", [MANIFEST, "user.parquet", "schema.json"])
def test_who_may_not_read_one_object_loads_nothing(
    victim: Victim, stored: S3Store, proxy: FaultyProxy, ending: str
) -> None:
    """A policy that hides one object is no missing object: it is not reported as damage."""

    def hides(request: Request) -> Fault | None:
        hidden = request.path.split("?")[0].endswith(ending)
        return Fault("answer", 403, "AccessDenied") if hidden else None

    proxy.rule = hides
    refused(lambda: pick_up(S3Store(stored.url, proxy.url), MODEL, victim.cache), "refuses")
    assert not (victim.cache / victim.version / ending).exists()
    proxy.rule = lambda _: None
    assert pick_up(S3Store(stored.url, proxy.url), MODEL, victim.cache).version == victim.version


def test_without_credentials_the_remedy_says_where_they_belong(
    victim: Victim, stored: S3Store, s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    store = S3Store(stored.url, s3_endpoint)
    refused(lambda: pick_up(store, MODEL, victim.cache), "no credentials")
    assert not victim.cache.exists()
