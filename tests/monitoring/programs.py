"""Prometheus' own programs, from Debian's packages that `make monitoring-tests` unpacks."""

from pathlib import Path

ROOT = Path(__file__).parents[2] / "build" / "monitoring" / "root"
PROMTOOL = ROOT / "usr/bin/promtool"
PUSHGATEWAY = ROOT / "usr/bin/prometheus-pushgateway"
