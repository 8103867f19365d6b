"""Is this hashed partition fit to be trained on? Checked before any trainer starts."""

import logging
import tempfile
from pathlib import Path
from typing import Any

from persia_core.config import ModelConfig
from persia_core.config.home import work_dir
from persia_core.data.partition import read_hashed_manifest
from persia_core.errors import DataRefused, PartitionEmpty
from persia_core.handoff.layout import data_docs_prefix, data_verdict
from persia_core.handoff.object_store import ObjectStore
from persia_core.validation.data_docs import DataDocs, Outcome
from persia_core.validation.data_rules import Rule, figure_rules, figures, value_rules
from persia_core.validation.data_verdict import Check, DataVerdict, Status, worst
from persia_core.validation.history import past_of, read_history
from persia_core.validation.history_rules import history_figures, history_in_words, history_rules
from persia_core.validation.sample import sample_frame, sample_partition
from persia_core.validation.verdict_page import verdict_page

log = logging.getLogger(__name__)

INDEX = "index.html"
DETAIL = "great_expectations"


def validate_partition(config: ModelConfig, store: ObjectStore, ds: str) -> DataVerdict:
    """Check the hashed partition `ds` against the contract of its columns, `config.data_checks` and the

    partitions before it. Figures come from manifests, values from a bounded sample of rows (see sample.py).
    Data Docs are kept under data_docs_prefix, and the verdict, last, as verdict.json beside them. Raises
    DataRefused with every reason when a check fails (the verdict is stored all the same, and is the error's
    `result`); PartitionMissing, PartitionEmpty, DataInvalid (another schema, no Parquet), Corrupt,
    StorageUnavailable, DiskFull.
    """
    manifest = read_hashed_manifest(store, config, ds)
    sample = sample_partition(config, store, manifest)
    if not sample.rows_in_files:
        raise PartitionEmpty(
            f"partition ds={ds} of {config.dataset.name} holds no rows",
            "look at rejected rows in its manifest and at the raw files, then hash the day again",
        )
    log.info("checking ds=%s of %s: %d rows", ds, config.dataset.name, sample.rows_in_files)
    history, current = read_history(config, store, ds), past_of(manifest)
    checks: list[Check] = []
    prefix = data_docs_prefix(config.dataset.name, ds)
    work_dir().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="data-docs-", dir=work_dir()) as site:
        docs = DataDocs(Path(site) / DETAIL)
        found = figures(config, manifest, sample) | history_figures(current, history)
        rules = figure_rules(config, ds, found["rows"]) + history_rules(config, ds, current, history)
        checks += _check_figures(
            docs, ds, found, [rule for rule in rules if rule.expectation.column in found]
        )
        if sample.rows is not None:
            rules = value_rules(config, ds)
            outcomes = docs.check("values", ds, sample_frame(config, sample.rows), rules)
            checks += [_values_check(*pair) for pair in zip(rules, outcomes, strict=True)]
        verdict = DataVerdict(
            verdict=worst(check.status for check in checks),
            dataset=config.dataset.name,
            ds=ds,
            hashed_digest=manifest.digest,
            rows=sample.rows_in_files,
            sampled_rows=0 if sample.rows is None else sample.rows.num_rows,
            history=history_in_words(config, ds, history),
            compared_with=history.days,
            checks=checks,
            data_docs=prefix + INDEX,
            data_docs_uri=store.uri(prefix + INDEX),
        )
        _keep_docs(store, prefix, Path(site), docs, verdict)
    store.put(data_verdict(config.dataset.name, ds), verdict.model_dump_json(indent=1).encode())
    for check in checks:
        log.log(
            logging.DEBUG if check.status == "pass" else logging.WARNING, "%s: %s", check.name, check.reason
        )
    if verdict.verdict == "fail":
        raise DataRefused(
            f"partition ds={ds} of {config.dataset.name}: " + "; ".join(verdict.reasons),
            f"see {verdict.data_docs_uri}; mend the day and hash it again (--replace), or change data_checks",
            result=verdict,
        )
    log.info("ds=%s: %s, %d checks, %s", ds, verdict.verdict, len(checks), verdict.history)
    return verdict


def _keep_docs(store: ObjectStore, prefix: str, site: Path, docs: DataDocs, verdict: DataVerdict) -> None:
    """Upload the pages of Great Expectations, and in front of them the verdict as a page of our own."""
    pages = [f"{DETAIL}/{name}" for name in docs.build()]
    (site / INDEX).write_text(verdict_page(verdict, pages), encoding="utf-8")
    for name in (*pages, INDEX):
        store.upload(site / name, prefix + name)
    log.info("kept %d pages of Data Docs, see %s", len(pages) + 1, store.uri(prefix + INDEX))


def _check_figures(docs: DataDocs, ds: str, found: dict[str, Any], rules: list[Rule]) -> list[Check]:
    """One check for each name among the rules: of those that it breaks the gravest, else the first."""
    import pandas as pd

    outcomes = docs.check("figures", ds, pd.DataFrame([found]), rules)
    checks: dict[str, Check] = {}
    for rule, outcome in zip(rules, outcomes, strict=True):
        check = _check(rule, outcome, found[rule.expectation.column])
        before = checks.setdefault(rule.name, check)
        if worst([before.status, check.status]) != before.status:
            checks[rule.name] = check
    return list(checks.values())


def _values_check(rule: Rule, outcome: Outcome) -> Check:
    result = outcome.result["result"]
    examples = list(dict.fromkeys(str(value) for value in result.get("partial_unexpected_list", [])))
    observed = {
        "rows": result.get("element_count", 0),
        "wrong": result.get("unexpected_count", 0),
        "examples": [value for value in examples if value not in ("None", "nan")][:5],
    }
    return _check(rule, outcome, observed)


def _check(rule: Rule, outcome: Outcome, observed: Any) -> Check:
    trouble = outcome.result.get("exception_info", {})
    reason = rule.reason(observed)
    if trouble.get("raised_exception"):
        reason = f"{rule.name} could not be checked: {trouble.get('exception_message')}"
    status: Status = "pass" if outcome.passed else rule.severity
    return Check(name=rule.name, status=status, observed=observed, expected=rule.expected, reason=reason)
