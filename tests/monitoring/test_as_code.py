"""The dashboard and the alert rules: every metric in them exists, and Prometheus itself takes the rules."""

import importlib.util
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from persia_core.monitoring.names import METRICS
from persia_core.serve.metrics import ServeMetrics
from tests.monitoring.programs import PROMTOOL

PROJECT = Path(__file__).parents[2]
DASHBOARD = PROJECT / "infra" / "grafana" / "persia.json"
ALERTS = PROJECT / "infra" / "prometheus" / "alerts.yaml"
HERE = Path(__file__).parent

needs_promtool = pytest.mark.skipif(
    not PROMTOOL.exists(), reason="no Prometheus: make monitoring-tests unpacks one"
)


def known() -> dict[str, set[str]]:
    """The name of each line in the text format, and the labels that it may have."""
    found = {
        name: {"model", *metric.labels, *(["le"] if name.endswith("_bucket") else [])}
        for metric in METRICS.values()
        for name in metric.sample_names
    }
    serve = ServeMetrics()
    for name in vars(serve):
        metric = getattr(serve, name)
        for family in metric.collect() if name != "registry" else ():
            labels = set(getattr(metric, "_labelnames", ()))
            endings = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}
            for ending in endings[family.type]:
                found[family.name + ending] = labels | ({"le"} if ending == "_bucket" else set())
    return found


def expressions() -> list[tuple[str, str]]:
    """(where, PromQL) of every panel, variable and rule."""
    document = json.loads(DASHBOARD.read_text())
    found = [
        (panel["title"], target["expr"])
        for panel in document["panels"]
        for target in panel.get("targets", ())
    ]
    found += [(v["name"], v["definition"]) for v in document["templating"]["list"] if "definition" in v]
    return found + [(rule["alert"], rule["expr"]) for rule in rules()]


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_every_metric_and_label_in_a_query_exists() -> None:
    names = known()
    used = 0
    for where, query in expressions():
        for name, labels in re.findall(r"\b(persia_\w+)(?:\{([^}]*)\})?", query):
            assert name in names, f"{where}: there is no metric {name}"
            used += 1
            for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", labels):
                assert label in names[name], f"{where}: {name} has no label {label}"
    assert used > 40


def test_every_counted_metric_is_shown_or_watched() -> None:
    text = " ".join(query for _, query in expressions())
    # What the panels show as an age, an alert watches.
    unseen = [metric.name for metric in METRICS.values() if metric.name not in text]
    assert unseen == []


def test_the_dashboard_is_what_its_program_makes() -> None:
    spec = importlib.util.spec_from_file_location("make_dashboard", DASHBOARD.with_name("make_dashboard.py"))
    assert spec is not None and spec.loader is not None
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    assert program.text() == DASHBOARD.read_text(), "run: python infra/grafana/make_dashboard.py"


def test_the_panels_of_the_dashboard_do_not_overlap() -> None:
    taken: dict[tuple[int, int], str] = {}
    ids = []
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        ids.append(panel["id"])
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]
    assert len(set(ids)) == len(ids)


def test_every_alert_names_a_runbook_that_is_there() -> None:
    heading = re.compile(r"^#+\s+(.*)$", re.MULTILINE)
    assert {"PersiaDayMissed", "PersiaGateRefused", "PersiaRankDied"} <= {rule["alert"] for rule in rules()}
    for rule in rules():
        path, _, anchor = rule["annotations"]["runbook"].partition("#")
        titles = heading.findall((PROJECT / path).read_text())
        anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
        assert anchor in anchors, rule["alert"]


@needs_promtool
def test_prometheus_takes_the_rules_and_the_queries() -> None:
    subprocess.run([PROMTOOL, "check", "rules", ALERTS], check=True, capture_output=True)


@needs_promtool
def test_alerts_fire_when_they_should_and_not_otherwise() -> None:
    done = subprocess.run(
        [PROMTOOL, "test", "rules", HERE / "alerts.test.yaml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_prometheus_takes_the_queries_of_the_dashboard(tmp_path: Path) -> None:
    queries = [query.replace("$__range", "14d").replace("$model", "ads") for where, query in expressions()]
    named = [
        {"record": f"query:{i}", "expr": query}
        for i, query in enumerate(queries)
        if not query.startswith("label_values")
    ]
    path = tmp_path / "queries.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": named}]}))
    done = subprocess.run([PROMTOOL, "check", "rules", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
