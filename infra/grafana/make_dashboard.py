"""Makes persia.json, the Grafana dashboard: `python infra/grafana/make_dashboard.py` after a change here."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DASHBOARD = Path(__file__).with_name("persia.json")
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_WIDTH, _HEIGHT = 24, 8  # of the grid, and of a panel
_OF = '{model=~"$model"}'
_WINDOW = "$__range"


@dataclass(frozen=True)
class Panel:
    """`queries`: PromQL and the legend of its lines."""

    title: str
    unit: str
    says: str
    queries: tuple[tuple[str, str], ...]
    kind: str = "timeseries"


def more(counter: str, by: str = "model", within: str = "1d") -> tuple[str, str]:
    """By how much a counter has grown, and a legend of the labels."""
    return f"sum by ({by}) (increase({counter}{_OF}[{within}]))", _legend(by)


def now(gauge: str, by: str = "model", how: str = "max") -> tuple[str, str]:
    """A gauge, and a legend of the labels."""
    return f"{how} by ({by}) ({gauge}{_OF})", _legend(by)


def ratio(one: str, other: str, by: str = "model") -> tuple[str, str]:
    """The growth of one counter over that of another."""
    return f"{more(one, by)[0]} / {more(other, by)[0]}", _legend(by)


def quantile(share: float, histogram: str) -> tuple[str, str]:
    """A quantile of what a histogram has seen within a day."""
    return (
        f"histogram_quantile({share}, {more(f'{histogram}_bucket', 'model, le')[0]})",
        f"{{{{model}}}} {share}",
    )


def _legend(by: str) -> str:
    return " ".join(f"{{{{{label}}}}}" for label in by.split(", "))


_AGE = (
    f'time() - max by (model) (persia_stage_newest_partition_timestamp_seconds{{stage="promote", {_OF[1:]})'
)
_SERVE_SECONDS = "sum by (le) (rate(persia_serve_request_seconds_bucket[5m]))"

DAYS = [
    Panel(
        "Age of the newest promoted partition",
        "s",
        "From the begin of the partition until now. A daily model stays below two and a half days.",
        ((_AGE, "{{model}}"),),
        "stat",
    ),
    Panel(
        "Age of the newest partition by stage",
        "s",
        "How far each stage has come.",
        ((f"time() - {now('persia_stage_newest_partition_timestamp_seconds', 'model, stage')[0]}", ""),),
        "table",
    ),
    Panel(
        "Ends of stages by exit code",
        "short",
        "Exit codes are explained in docs/operations.md.",
        (more("persia_stage_runs_total", "model, stage, exit_code", _WINDOW),),
        "table",
    ),
    Panel(
        "Time of a stage, mean",
        "s",
        "Of the runs within a day.",
        (ratio("persia_stage_seconds_sum", "persia_stage_seconds_count", "model, stage"),),
    ),
]
DATA = [
    Panel(
        "Rows hashed and rejected",
        "short",
        "Per day; rejected ones by reason.",
        (more("persia_hash_rows_total"), more("persia_hash_rejected_rows_total", "model, reason")),
    ),
    Panel("Size of hashed partitions", "bytes", "Per day.", (more("persia_hash_written_bytes_total"),)),
    Panel(
        "Verdicts on partitions",
        "short",
        "A partition that fails is not trained on.",
        (more("persia_data_verdicts_total", "model, verdict", _WINDOW),),
    ),
    Panel(
        "Checks of partitions", "short", "By status.", (more("persia_data_checks_total", "model, status"),)
    ),
]
TRAINING = [
    Panel(
        "Samples per second",
        "short",
        "Samples over seconds of training, of the runs that ended within a day.",
        (ratio("persia_training_samples_total", "persia_training_seconds_total"),),
    ),
    Panel(
        "Rows trained and skipped",
        "short",
        "Per day; skipped ones by reason.",
        (more("persia_training_rows_total"), more("persia_training_skipped_rows_total", "model, reason")),
    ),
    Panel(
        "Time of a step",
        "s",
        "Of trainer 0: median and 99 %.",
        (quantile(0.5, "persia_training_step_seconds"), quantile(0.99, "persia_training_step_seconds")),
    ),
    Panel("Steps", "short", "Per day.", (more("persia_training_steps_total"),)),
    Panel(
        "Staleness",
        "short",
        "Batches between lookup and update: median and 99 %.",
        (
            quantile(0.5, "persia_training_staleness_batches"),
            quantile(0.99, "persia_training_staleness_batches"),
        ),
    ),
    Panel(
        "Ranks that died or hung",
        "short",
        "Each ended a training job.",
        (more("persia_training_rank_failures_total", "model, role, how", _WINDOW),),
    ),
    Panel("Rows of the tables", "short", "", (now("persia_embedding_rows", "model, table"),)),
    Panel(
        "Memory of the tables",
        "bytes",
        "Over all embedding servers, after the newest training.",
        (now("persia_embedding_bytes", "model, table"),),
    ),
    Panel(
        "Standstill for cuts",
        "s",
        "Training waits while a cut is taken: the longest of the newest run, and all of a day.",
        (now("persia_checkpoint_longest_pause_seconds"), more("persia_checkpoint_pause_seconds_total")),
    ),
    Panel("Size of cuts", "bytes", "Per day.", (more("persia_checkpoint_cut_bytes_total"),)),
    Panel("Cuts", "short", "Taken and failed.", (more("persia_checkpoint_cuts_total", "model, outcome"),)),
]
MODELS = [
    Panel(
        "AUC",
        "percentunit",
        "Before and after training on the partition, and of the champion, on the same rows.",
        (now("persia_model_auc", "model, of"),),
    ),
    Panel("Log-loss", "short", "In nats, on the same rows.", (now("persia_model_log_loss", "model, of"),)),
    Panel(
        "Verdicts of the gate",
        "short",
        "A version that is refused does not become champion.",
        (more("persia_gate_verdicts_total", "model, verdict", _WINDOW),),
    ),
    Panel(
        "Promotions and rollbacks",
        "short",
        "Within the window.",
        (more("persia_promotions_total", "model, outcome", _WINDOW),),
    ),
    Panel("Size of a version", "bytes", "Of the one published last.", (now("persia_version_bytes"),)),
    Panel(
        "Pushes that were not taken",
        "short",
        "By the Pushgateway.",
        (more("persia_metrics_push_failures_total", "model, stage", _WINDOW),),
    ),
]
SERVING = [
    Panel(
        "Requests per second",
        "reqps",
        "By outcome.",
        (("sum by (outcome) (rate(persia_serve_requests_total[5m]))", "{{outcome}}"),),
    ),
    Panel(
        "Time of a prediction",
        "s",
        "Median and 99 %.",
        (
            (f"histogram_quantile(0.5, {_SERVE_SECONDS})", "median"),
            (f"histogram_quantile(0.99, {_SERVE_SECONDS})", "99 %"),
        ),
    ),
    Panel(
        "Version in use",
        "short",
        "Number of servers.",
        (now("persia_serve_model_info", "model, version", "count"),),
        "table",
    ),
    Panel(
        "Champions refused",
        "short",
        "Damaged, or of another schema: the model in use stays.",
        (("sum(increase(persia_serve_model_refusals_total[1d]))", "refused"),),
    ),
]
ROWS = {"Days": DAYS, "Data": DATA, "Training": TRAINING, "Models": MODELS, "Serving": SERVING}


def dashboard() -> dict[str, Any]:
    """The document that Grafana imports."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, described in ROWS.items():
        panels.append(_row(len(panels) + 1, title, y))
        y += 1
        for i, panel in enumerate(described):
            place = {"x": i % 2 * _WIDTH // 2, "y": y + i // 2 * _HEIGHT, "w": _WIDTH // 2, "h": _HEIGHT}
            panels.append(_panel(len(panels) + 1, panel, place))
        y += (len(described) + 1) // 2 * _HEIGHT
    return {
        "uid": "persia",
        "title": "Persia",
        "tags": ["persia"],
        "timezone": "utc",
        "schemaVersion": 39,
        "editable": True,
        "time": {"from": "now-14d", "to": "now"},
        "refresh": "5m",
        "templating": {"list": [_source_variable(), _model_variable()]},
        "panels": panels,
    }


def _row(number: int, title: str, y: int) -> dict[str, Any]:
    place = {"x": 0, "y": y, "w": _WIDTH, "h": 1}
    return {"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    instant = {"instant": True, "format": "table"} if panel.kind == "table" else {}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.says,
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + i),
                "datasource": _SOURCE,
                "expr": query,
                "legendFormat": legend,
                **instant,
            }
            for i, (query, legend) in enumerate(panel.queries)
        ],
    }


def _source_variable() -> dict[str, Any]:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}


def _model_variable() -> dict[str, Any]:
    query = "label_values(persia_stage_runs_total, model)"
    return {
        "name": "model",
        "label": "Model",
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": "models"},
        "definition": query,
        "multi": True,
        "includeAll": True,
        "current": {"text": "All", "value": "$__all"},
        "refresh": 2,
    }


def text() -> str:
    """What the file holds."""
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    DASHBOARD.write_text(text(), encoding="utf-8")
