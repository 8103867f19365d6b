"""What is known of one model version, as a page."""

from persia_core.airflow.pages.render import render
from persia_core.handoff.layout import verdict_key
from persia_core.handoff.models import read_version, version_exists
from persia_core.handoff.object_store import NotFound, ObjectStore
from persia_core.handoff.pointer import CANDIDATE, CHAMPION, read_pointer
from persia_core.handoff.report import REPORT
from persia_core.validation.verdict import read_model_verdict

_BEFORE_AND_AFTER = ("rows", "auc", "log_loss", "normalised_entropy", "calibration")


def version_page(store: ObjectStore, model: str, version: str) -> str:
    """HTML with metrics, lineage, verdict and parts. Raises NotFound if there is none, and Corrupt."""
    if not version_exists(store, model, version):
        raise NotFound(version)
    stored = read_version(store, model, version)
    manifest = stored.manifest
    verdict = read_model_verdict(store, verdict_key(model, version))
    pointers = {alias: read_pointer(store, model, alias) for alias in (CHAMPION, CANDIDATE)}
    when = {name: manifest.metrics.get(name) or {} for name in ("before", "after")}
    return render(
        "version.html.j2",
        model=model,
        version=version,
        manifest=manifest,
        sha256=stored.sha256,
        aliases=[alias for alias, found in pointers.items() if found and found[0].version == version],
        verdict=verdict if verdict is not None and verdict.manifest_sha256 == stored.sha256 else None,
        metrics=[
            (name, when["before"].get(name), when["after"].get(name))
            for name in _BEFORE_AND_AFTER
            if name in when["before"] or name in when["after"]
        ],
        has_report=any(part.path == REPORT for part in manifest.parts),
        size=sum(part.size for part in manifest.parts),
    )
