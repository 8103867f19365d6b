"""Whether a day may be trained now, from which checkpoint, and under which name.

A day continues what an earlier one learned, so their order matters. The days of a model form a line: each
starts from the newest earlier day that has a checkpoint. A day that was landed and is skipped is missing from
every later model, and a day that is trained after a later one stands beside the line.
"""

import hashlib
import json
import logging
from datetime import date, timedelta

from pydantic import BaseModel

from persia_core import __version__
from persia_core.checkpoint.select import checkpoint_days, latest_checkpoint
from persia_core.config import ModelConfig
from persia_core.config.airflow import AirflowSection
from persia_core.data.raw import landed_days, landed_files
from persia_core.errors import EarlierDayMissing, NoParent, OutOfOrder, PartitionMissing
from persia_core.handoff.layout import check_ds, checkpoint_prefix, hashed_prefix
from persia_core.handoff.models import version_of_checkpoint
from persia_core.handoff.object_store import NotFound, ObjectStore
from persia_core.handoff.transfer import read_manifest

log = logging.getLogger(__name__)


class Turn(BaseModel):
    """A day's place in the line. `run` names its training run: a function of data, parent and configuration.

    `parent` is the prefix of the checkpoint to start from, None for a cold start. `already` is the version
    that the very same run was published as before.
    """

    ds: str
    run: str
    parent: str | None
    already: str | None
    explanation: str


def take_turn(
    config: ModelConfig,
    store: ObjectStore,
    ds: str,
    *,
    cold_start: bool = False,
    cold_start_dense: bool = False,
    skip_earlier_days: bool = False,
    again: str = "",
) -> Turn:
    """The place of the hashed partition `ds` in the line of its model.

    `airflow.earlier_days` and `airflow.late_days` of the configuration decide what is refused;
    `skip_earlier_days` overrules the first. `cold_start_dense` makes another run, with the rows of the parent
    and a new dense network; `again`, any text, another run of what was trained already.
    Raises EarlierDayMissing when a landed earlier day has no checkpoint yet, OutOfOrder when a later day has
    one, NoParent when there is no earlier checkpoint and `cold_start` is false, PartitionMissing if `ds` is
    not hashed.
    """
    rules = config.airflow or AirflowSection()
    prefix = hashed_prefix(config.dataset.name, check_ds(ds))
    try:
        hashed = read_manifest(store, prefix, "hashed").manifest
    except NotFound:
        raise PartitionMissing(
            f"{store.uri(prefix)} holds no hashed partition", f"run `persia hash --ds {ds}` first"
        ) from None
    found = None if cold_start else latest_checkpoint(store, config.name, ds)
    parent = found.prefix if found is not None else None
    fresh_dense = cold_start_dense and parent is not None
    run = _run_name(config, hashed.digest, parent, again, fresh_dense=fresh_dense)
    already = version_of_checkpoint(store, config.name, checkpoint_prefix(config.name, ds, run))
    if already is not None:
        said = f"{ds} was trained on this very data already, from the same start: version {already} stays"
        return _turn(ds, run, parent, already, said)
    trained = checkpoint_days(store, config.name)
    later = sorted(day for day in trained if day > ds)
    if later and rules.late_days == "refuse":
        raise OutOfOrder(
            f"{ds} comes too late: {', '.join(later)} of model {config.name} {_have(later)} a checkpoint "
            "already, and what they learned does not rest on it",
            f"leave {ds} out; or to take it in, train it with airflow.late_days: branch and then, in order, "
            "every later day again with the param train_again",
        )
    parent_ds = max((day for day in trained if day < ds), default=None)
    skipped = [] if cold_start else _landed_between(store, config.dataset.name, parent_ds, ds)
    if skipped and not (skip_earlier_days or rules.earlier_days == "skip"):
        raise EarlierDayMissing(
            f"{', '.join(skipped)} {_have(skipped)} landed and {_have(skipped)} no checkpoint of model "
            f"{config.name} yet: {ds} continues from the day before it",
            f"train {skipped[0]} first (clear its failed task, or trigger it); to leave it out for good, "
            f"trigger {ds} with skip_earlier_days, or remove the raw partition",
        )
    if parent is None and not cold_start:
        raise NoParent(
            f"model {config.name} has no checkpoint before {ds} in {store.url}",
            "train the earlier days first, or begin here with --cold-start",
        )
    words = [f"{ds} starts from {parent}" if parent else f"{ds} starts from fresh weights"]
    if fresh_dense:
        words.append("with a new dense network")
    if skipped:
        words.append(f"without {', '.join(skipped)}")
    if later:
        words.append(f"beside the line: {', '.join(later)} {_have(later)} been trained before it")
    return _turn(ds, run, parent, None, ", ".join(words))


def _turn(ds: str, run: str, parent: str | None, already: str | None, explanation: str) -> Turn:
    log.info("%s", explanation)
    return Turn(ds=ds, run=run, parent=parent, already=already, explanation=explanation)


def _run_name(
    config: ModelConfig, hashed_digest: str, parent: str | None, again: str, *, fresh_dense: bool
) -> str:
    """Equal input, equal name: so the same work, asked for twice, is one job and one checkpoint."""
    facts = [hashed_digest, config.digest(), parent, __version__, again]
    facts += ["new dense network"] if fresh_dense else []  # names of other runs stay what they were
    return "run-" + hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _landed_between(store: ObjectStore, dataset: str, after: str | None, before: str) -> list[str]:
    """Days with raw files between the two, both excluded, ascending; all days before if `after` is None."""
    yesterday = (date.fromisoformat(before) - timedelta(days=1)).isoformat()
    if after is None:
        return landed_days(store, dataset, "0001-01-01", yesterday)
    first = date.fromisoformat(after) + timedelta(days=1)
    days = [(first + timedelta(days=n)).isoformat() for n in range((date.fromisoformat(before) - first).days)]
    return [day for day in days if landed_files(store, dataset, day)]


def _have(days: list[str]) -> str:
    return "has" if len(days) == 1 else "have"
