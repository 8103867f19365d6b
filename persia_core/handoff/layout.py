"""Every key of the storage contract, spelled here and nowhere else. See docs/formats/layout.md.

All keys are relative to the storage URL of the configuration. A partition is one logical day,
named by `ds` in ISO form (`2026-11-20`).
"""

import re
from datetime import date

MANIFEST = "manifest.json"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def check_name(kind: str, name: str) -> str:
    """Return `name` if it is safe as one path component, else raise ValueError naming `kind`."""
    if not _NAME.fullmatch(name) or ".." in name:
        raise ValueError(f"{kind} {name!r} is no name: use letters, digits, '.', '_' and '-'")
    return name


def check_ds(ds: str) -> str:
    """Return `ds` if it is an ISO date (YYYY-MM-DD), else raise ValueError."""
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", ds):
        raise ValueError(f"partition {ds!r} is no date of the form YYYY-MM-DD")
    date.fromisoformat(ds)
    return ds


RAW_ROOT = "raw/"


def raw_prefix(dataset: str, ds: str) -> str:
    return f"{RAW_ROOT}{check_name('dataset', dataset)}/ds={check_ds(ds)}/"


def raw_root(dataset: str) -> str:
    return f"raw/{check_name('dataset', dataset)}/"


def hashed_prefix(dataset: str, ds: str) -> str:
    return f"hashed/{check_name('dataset', dataset)}/ds={check_ds(ds)}/"


def hashed_root(dataset: str) -> str:
    return f"hashed/{check_name('dataset', dataset)}/"


def rejected_root(dataset: str) -> str:
    return f"rejected/{check_name('dataset', dataset)}/"


def rejected_prefix(dataset: str, ds: str) -> str:
    return f"{rejected_root(dataset)}ds={check_ds(ds)}/"


def data_docs_prefix(dataset: str, ds: str) -> str:
    return f"data_docs/{check_name('dataset', dataset)}/ds={check_ds(ds)}/"


def data_verdict(dataset: str, ds: str) -> str:
    return data_docs_prefix(dataset, ds) + "verdict.json"


def checkpoints_root(model: str) -> str:
    return f"checkpoints/{check_name('model', model)}/"


def checkpoint_prefix(model: str, ds: str, run: str) -> str:
    return f"{checkpoints_root(model)}ds={check_ds(ds)}/{check_name('run', run)}/"


def all_cuts_root(model: str) -> str:
    return f"cuts/{check_name('model', model)}/"


def cuts_root(model: str, ds: str, run: str) -> str:
    return f"{all_cuts_root(model)}ds={check_ds(ds)}/{check_name('run', run)}/"


def cut_prefix(model: str, ds: str, run: str, step: int) -> str:
    """Of the cut after `step` steps of the run."""
    return f"{cuts_root(model, ds, run)}{step}/"


def versions_root(model: str) -> str:
    return f"models/{check_name('model', model)}/versions/"


def version_prefix(model: str, version: str) -> str:
    return f"{versions_root(model)}{check_name('version', version)}/"


def version_name(ds: str, digest: str) -> str:
    """Name of a model version: the day it was trained on and 12 hex digits of its digest."""
    return f"{check_ds(ds)}-{digest[:12]}"


def version_ds(version: str) -> str:
    """The partition in a version's name; ValueError if it has none."""
    return check_ds(version[:10])


def verdict_key(model: str, version: str) -> str:
    return f"models/{check_name('model', model)}/verdicts/{check_name('version', version)}.json"


MARKS_ROOT = "marks/"


def mark_key(prefix: str, kind: str, nonce: str) -> str:
    """Of somebody at work on `prefix`; with an empty nonce, what all marks of that kind start with."""
    return f"{MARKS_ROOT}{prefix}{kind}-{nonce}"


def mark_roots(model: str) -> list[str]:
    """Where the marks of a model lie."""
    return [f"{MARKS_ROOT}{root}" for root in (versions_root(model), checkpoints_root(model))]


def alias_key(model: str, alias: str) -> str:
    return f"models/{check_name('model', model)}/aliases/{check_name('alias', alias)}.json"
