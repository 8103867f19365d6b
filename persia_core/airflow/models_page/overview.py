"""What the page shows of one model, read from the store."""

from dataclasses import dataclass, field
from typing import Any

from persia_core.errors import Corrupt
from persia_core.handoff.layout import verdict_key
from persia_core.handoff.models import read_version, version_names
from persia_core.handoff.object_store import ObjectStore
from persia_core.handoff.pointer import CANDIDATE, CHAMPION, Move, read_pointer
from persia_core.handoff.report import REPORT
from persia_core.validation.verdict import ModelVerdict, read_model_verdict

MOST_VERSIONS = 30  # the newest; a page is no archive
MOST_MOVES = 20


@dataclass(frozen=True)
class VersionLine:
    """One version. `auc` is of its day before training on it, None on a cold start.

    `parent` is the version it continues from, or the checkpoint if that was not published or is not shown.
    `verdict` is None while the version was not validated. `checkpoint` is what it was published from.
    """

    version: str
    ds: str
    parent: str | None
    auc: float | None
    log_loss: float | None
    rows_trained: int | None
    verdict: ModelVerdict | None
    has_report: bool
    checkpoint: str | None = None


@dataclass(frozen=True)
class ModelOverview:
    """`moves` of the champion are newest first, `versions` newest day first.

    `days` are (day, AUC before training on it) along the lineage of the champion, oldest first; without a
    champion, of the newest version. `problems` are objects that could not be read.
    """

    model: str
    champion: str | None = None
    candidate: str | None = None
    versions: list[VersionLine] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    days: list[tuple[str, float | None]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def overview(store: ObjectStore, model: str) -> ModelOverview:
    """Read pointers, manifests and verdicts of a model; a damaged object is named, the others are shown.

    Raises StorageUnavailable if the store cannot be reached.
    """
    problems: list[str] = []
    pointers = {}
    for alias in (CHAMPION, CANDIDATE):
        try:
            found = read_pointer(store, model, alias)
        except Corrupt as error:
            problems.append(error.what)
            continue
        if found is not None:
            pointers[alias] = found[0]
    named = {alias: pointer.version for alias, pointer in pointers.items()}
    names = sorted(version_names(store, model), reverse=True)
    shown = [name for n, name in enumerate(names) if n < MOST_VERSIONS or name in named.values()]
    lines: list[VersionLine] = []
    histories: dict[str, list[tuple[str, float | None]]] = {}
    for name in shown:
        try:
            line, histories[name] = _line(store, model, name)
        except Corrupt as error:
            problems.append(error.what)
            continue
        lines.append(line)
    return ModelOverview(
        model=model,
        champion=named.get(CHAMPION),
        candidate=named.get(CANDIDATE),
        versions=_by_version(lines),
        moves=pointers[CHAMPION].moves[:MOST_MOVES] if CHAMPION in pointers else [],
        days=histories.get(named.get(CHAMPION) or (lines[0].version if lines else ""), []),
        problems=problems,
    )


def _line(store: ObjectStore, model: str, name: str) -> tuple[VersionLine, list[tuple[str, float | None]]]:
    stored = read_version(store, model, name)
    manifest = stored.manifest
    verdict = read_model_verdict(store, verdict_key(model, name))
    if verdict is not None and verdict.manifest_sha256 != stored.sha256:
        raise Corrupt(f"the verdict on {name} is of another manifest", "validate the version again")
    before: dict[str, Any] = manifest.metrics.get("before") or {}
    line = VersionLine(
        version=name,
        ds=manifest.lineage.ds,
        parent=manifest.lineage.parent,
        auc=before.get("auc"),
        log_loss=before.get("log_loss"),
        rows_trained=manifest.metrics.get("rows_trained"),
        verdict=verdict,
        has_report=any(part.path == REPORT for part in manifest.parts),
        checkpoint=manifest.details.get("checkpoint"),
    )
    days = manifest.details.get("history") or [{"ds": line.ds, "auc": line.auc}]
    return line, [(str(day["ds"]), day.get("auc")) for day in days]


def _by_version(lines: list[VersionLine]) -> list[VersionLine]:
    """The lines with parents named as versions where those are shown."""
    published = {line.checkpoint: line.version for line in lines if line.checkpoint}
    return [
        VersionLine(**{**vars(line), "parent": published.get(line.parent or "", line.parent)})
        for line in lines
    ]
