"""Samples of metrics: collected by one command, added to those of earlier ones, written as text."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from persia_core.monitoring.names import METRICS, MODEL, Metric

Labels = tuple[tuple[str, str], ...]  # sorted by name
_LE = "le"

_OF_SAMPLE = {name: metric for metric in METRICS.values() for name in metric.sample_names}


class Samples:
    """Values by name of the line and labels, as they stand in the text format of Prometheus."""

    def __init__(self, model: str) -> None:
        self._model = model
        self.values: dict[tuple[str, Labels], float] = {}

    def add(self, metric: Metric, amount: float, **labels: str) -> None:
        """Count `amount`; 0 makes a counter seen before it first counts."""
        self._put(metric.name, self._labels(metric, labels), float(amount))

    def set(self, metric: Metric, value: float, **labels: str) -> None:
        """Set a gauge."""
        self.values[metric.name, self._labels(metric, labels)] = float(value)

    def observe(self, metric: Metric, value: float, **labels: str) -> None:
        """One observation of a histogram."""
        place = next((i for i, bound in enumerate(metric.buckets) if value <= bound), len(metric.buckets))
        counts = [int(i == place) for i in range(len(metric.buckets) + 1)]
        self.observe_counts(metric, counts, value, **labels)

    def observe_counts(self, metric: Metric, counts: Iterable[int], total: float, **labels: str) -> None:
        """How many observations fell into each bucket, the last one above all bounds; and their sum."""
        common = self._labels(metric, labels)
        seen = 0
        for bound, count in zip((*metric.buckets, float("inf")), counts, strict=True):
            seen += count
            self._put(f"{metric.name}_bucket", _with(common, _LE, _bound(bound)), seen)
        self._put(f"{metric.name}_sum", common, float(total))
        self._put(f"{metric.name}_count", common, seen)

    def followed_by(self, later: "Samples") -> "Samples":
        """Both together: counters and histograms are added up, of a gauge remains what the metric says."""
        both = Samples(self._model)
        both.values = dict(self.values)
        for (name, labels), value in later.values.items():
            metric = _OF_SAMPLE[name]
            if metric.kind != "gauge":
                both._put(name, labels, value)
            elif metric.keeps == "largest":
                both.values[name, labels] = max(value, both.values.get((name, labels), value))
            else:
                both.values[name, labels] = value
        return both

    def to_text(self) -> bytes:
        """In the text format of Prometheus."""
        from prometheus_client import generate_latest

        registry: Any = self  # anything with collect()
        return generate_latest(registry)

    @staticmethod
    def from_text(model: str, text: str) -> "Samples":
        """What `to_text` wrote. Metrics that are no more, or have other buckets now, are left out.

        Raises ValueError for what is not in the text format.
        """
        from prometheus_client.parser import text_string_to_metric_families

        found = Samples(model)
        for family in text_string_to_metric_families(text):
            if all(_known(sample.name, sample.labels) for sample in family.samples):
                for sample in family.samples:
                    found.values[sample.name, tuple(sorted(sample.labels.items()))] = float(sample.value)
        return found

    def collect(self) -> Iterator[Any]:
        """As families of prometheus_client, which takes this object for a registry."""
        from prometheus_client import Metric as Family

        for metric in METRICS.values():
            lines = [(key, value) for key, value in self.values.items() if key[0] in metric.sample_names]
            if lines:
                family = Family(metric.name.removesuffix("_total"), metric.says, metric.kind)
                for (name, labels), value in sorted(lines, key=_order):
                    family.add_sample(name, dict(labels), value)
                yield family

    def _labels(self, metric: Metric, labels: Mapping[str, str]) -> Labels:
        if set(labels) != set(metric.labels):
            raise ValueError(f"{metric.name} has the labels {metric.labels}, not {tuple(labels)}")
        return tuple(sorted({MODEL: self._model, **labels}.items()))

    def _put(self, name: str, labels: Labels, amount: float) -> None:
        self.values[name, labels] = self.values.get((name, labels), 0.0) + amount


def _known(name: str, labels: Mapping[str, str]) -> bool:
    metric = _OF_SAMPLE.get(name)
    if metric is None or set(labels) - {_LE} != {MODEL, *metric.labels}:
        return False
    return _LE not in labels or labels[_LE] in {_bound(b) for b in (*metric.buckets, float("inf"))}


def _with(labels: Labels, name: str, value: str) -> Labels:
    return tuple(sorted((*labels, (name, value))))


def _bound(value: float) -> str:
    from prometheus_client.utils import floatToGoString

    spell: Any = floatToGoString  # without types
    return str(spell(value))


def _order(line: tuple[tuple[str, Labels], float]) -> tuple[Any, ...]:
    (name, labels), _ = line
    others = tuple(pair for pair in labels if pair[0] != _LE)
    return others, name, float(dict(labels).get(_LE, "0"))
