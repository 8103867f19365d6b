"""Learning rate schedules of the dense optimizer: torch's own, by name, with state for checkpoints."""

import inspect
import logging
from typing import Any

import torch
from torch.optim import lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from persia_core.config.training import DenseOptimizer, DenseSchedule
from persia_core.errors import ConfigError

log = logging.getLogger(__name__)

_WITHOUT_YAML = {
    "LRScheduler": "it is only the base of the others",
    "LambdaLR": "it takes a function",
    "MultiplicativeLR": "it takes a function",
    "ReduceLROnPlateau": "it waits for a metric",
}
_OF_OTHERS = ("SequentialLR", "ChainedScheduler")  # their `schedulers` are given as names with args, too
_NOT_GIVEN = ("self", "optimizer", "last_epoch", "verbose")
_RATES = ("lr", "momentum", "betas")  # what schedules change in an optimizer

Plain = dict[str, Any]


class Schedule:
    """A schedule on an optimizer. It is stepped after every step of the model, or after every partition."""

    def __init__(
        self, wanted: DenseSchedule, optimizer: torch.optim.Optimizer, made_by: DenseOptimizer
    ) -> None:
        """`made_by` is the configuration of `optimizer`. Raises ConfigError for what torch does not know."""
        self._every = wanted.every
        self._name = wanted.name
        self._optimizer = optimizer
        self._scheduler = _build(wanted.name, wanted.args, optimizer, "training.dense_schedule")
        rates = {name: value for name, value in made_by.args.items() if name in _RATES}
        self._configured = wanted.model_dump(mode="json") | {"rates": rates}

    def after_step(self) -> None:
        """One step of the model is done, or was skipped."""
        if self._every == "step":
            self._step()

    def after_day(self) -> None:
        """One partition is done."""
        if self._every == "day":
            self._step()

    def state_dict(self) -> Plain:
        """Numbers and lists of them, for JSON."""
        return {
            "configured": self._configured,
            "scheduler": _state_of(self._scheduler),
            "rates": [{k: group[k] for k in _RATES if k in group} for group in self._optimizer.param_groups],
        }

    def load_state_dict(self, state: Plain) -> None:
        """Go on from what `state_dict` gave; a schedule that was configured otherwise begins anew."""
        if state["configured"] != self._configured:
            log.info("training.dense_schedule was changed: it begins anew")
            return
        _restore(self._scheduler, state["scheduler"])
        for group, rates in zip(self._optimizer.param_groups, state["rates"], strict=True):
            group.update({name: tuple(v) if isinstance(v, list) else v for name, v in rates.items()})

    def _step(self) -> None:
        try:
            self._scheduler.step()
        except ValueError as error:  # OneCycleLR has an end
            raise ConfigError(
                f"training.dense_schedule {self._name}: {error}",
                "give it more steps, or use a schedule without an end",
            ) from error


def available() -> list[str]:
    """Names that `training.dense_schedule.name` may have."""
    return sorted(
        name
        for name, found in vars(lr_scheduler).items()
        if isinstance(found, type) and issubclass(found, LRScheduler)
        if not name.startswith("_") and name not in _WITHOUT_YAML
    )


def _build(name: str, args: Plain, optimizer: torch.optim.Optimizer, where: str) -> LRScheduler:
    if name not in available():
        why = f": {_WITHOUT_YAML[name]}" if name in _WITHOUT_YAML else " is not in torch.optim.lr_scheduler"
        raise ConfigError(f"{where}.name {name}{why}", f"use one of {', '.join(available())}")
    kind: Any = getattr(lr_scheduler, name)
    takes = [each for each in inspect.signature(kind).parameters if each not in _NOT_GIVEN]
    if unknown := sorted(set(args) - set(takes)):
        raise ConfigError(f"{where}.args: {name} takes no {unknown[0]}", f"it takes {', '.join(takes)}")
    given = dict(args)
    if name in _OF_OTHERS:
        given["schedulers"] = [
            _inner(each, optimizer, f"{where}.args.schedulers[{index}]")
            for index, each in enumerate(args.get("schedulers") or [])
        ]
        given.setdefault("optimizer", optimizer)
        first: tuple[Any, ...] = ()
    else:
        first = (optimizer,)
    try:
        scheduler: LRScheduler = kind(*first, **given)
    except (TypeError, ValueError, IndexError, ZeroDivisionError) as error:
        raise ConfigError(f"{where} {name}: {error}", f"it takes {', '.join(takes)}") from error
    return scheduler


def _inner(given: Any, optimizer: torch.optim.Optimizer, where: str) -> LRScheduler:
    if not isinstance(given, dict) or not isinstance(given.get("name"), str) or set(given) - {"name", "args"}:
        raise ConfigError(f"{where} is {given!r}", "give each of the schedulers as {name: ..., args: {...}}")
    return _build(given["name"], dict(given.get("args") or {}), optimizer, where)


def _state_of(scheduler: LRScheduler) -> Plain:
    """Counters and rates; what follows from the configuration alone (milestones, functions) is left out."""
    found = {name: value for name, value in scheduler.state_dict().items() if _is_plain(value)}
    if inner := getattr(scheduler, "_schedulers", None):
        found["_schedulers"] = [_state_of(each) for each in inner]
    return found


def _restore(scheduler: LRScheduler, state: Plain) -> None:
    for each, inner in zip(getattr(scheduler, "_schedulers", ()), state.get("_schedulers", ()), strict=True):
        _restore(each, inner)
    for name, value in state.items():
        if name != "_schedulers":
            setattr(scheduler, name, value)


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(isinstance(each, bool | int | float) for each in value)
    return value is None or isinstance(value, bool | int | float)
