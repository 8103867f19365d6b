"""What the server tells Prometheus. The names are spelled here and nowhere else."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class ServeMetrics:
    """The metrics of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "persia_serve_requests_total", "Requests by outcome", ["outcome"], registry=self.registry
        )
        self.rows = Counter(
            "persia_serve_rows_total", "Rows by what became of them", ["outcome"], registry=self.registry
        )
        self.seconds = Histogram(
            "persia_serve_request_seconds",
            "Time of a prediction, from the parsed request to the probabilities",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5),
            registry=self.registry,
        )
        self.swaps = Counter(
            "persia_serve_model_swaps_total", "Models taken into use", registry=self.registry
        )
        self.refusals = Counter(
            "persia_serve_model_refusals_total",
            "Champions that could not be taken into use",
            registry=self.registry,
        )
        self.version = Gauge(
            "persia_serve_model_info",
            "1 for the version in use",
            ["model", "version"],
            registry=self.registry,
        )
        self.pointer_age = Gauge(
            "persia_serve_pointer_read_timestamp_seconds",
            "When the champion pointer was last read, Unix time",
            registry=self.registry,
        )
