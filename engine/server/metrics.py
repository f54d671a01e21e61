"""What does the server count?

The only place that knows metric names. Each server has its own registry, served over HTTP on loopback when asked.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from engine.errors import InvalidArgument
from engine.server.limits import Pool
from engine.server.methods import METHODS
from engine.values import Acknowledgement

METRICS_HOST = "127.0.0.1"  # never more: this port has no authentication
LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Counters of one server. Thread-safe."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._calls = Counter("landmark_calls", "Finished calls.", ["method", "code"], registry=self.registry)
        self._seconds = Histogram(
            "landmark_call_seconds",
            "Time from a call's arrival to its answer.",
            ["method"],
            buckets=LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        self._in_flight = Gauge("landmark_calls_in_flight", "Calls begun and not finished.", registry=self.registry)
        self._documents = Counter("landmark_documents", "Acknowledged documents.", ["status"], registry=self.registry)
        self._tokens = Counter(
            "landmark_tokens",
            "Tokens of acknowledged documents: embedded or dropped.",
            ["fate"],
            registry=self.registry,
        )
        self._running = Gauge("landmark_pool_running", "Calls on a thread.", ["pool"], registry=self.registry)
        self._waiting = Gauge("landmark_pool_waiting", "Calls waiting for a thread.", ["pool"], registry=self.registry)

    def watch_pools(self, pools: Iterable[Pool]) -> None:
        """Reads the pools whenever the metrics are read."""
        for pool in pools:
            self._running.labels(pool.name).set_function(partial(getattr, pool, "running"))
            self._waiting.labels(pool.name).set_function(partial(getattr, pool, "waiting"))

    def count_begun(self) -> None:
        """Counts a call that arrived."""
        self._in_flight.inc()

    def count_finished(self, method: str, code: str, seconds: float) -> None:
        """Counts a call that was begun."""
        self._in_flight.dec()
        self._calls.labels(method, code).inc()
        self._seconds.labels(method).observe(seconds)

    def count_refused(self, path: str, code: str) -> None:
        """Counts a call that was refused at the door; unknown paths share one label."""
        name = path.rpartition("/")[2]
        self._calls.labels(name if name in METHODS else "unknown", code).inc()

    def count_documents(self, acknowledgements: Iterable[Acknowledgement]) -> None:
        """Counts documents by what became of them, and their tokens."""
        for acknowledgement in acknowledgements:
            self._documents.labels(acknowledgement.status).inc()
            self._tokens.labels("embedded").inc(acknowledgement.tokens.embedded)
            self._tokens.labels("dropped").inc(acknowledgement.tokens.dropped)


class MetricsEndpoint:
    """The HTTP endpoint that Prometheus reads, on loopback."""

    def __init__(self, metrics: Metrics, port: int) -> None:
        try:
            self._server, self._thread = start_http_server(port, METRICS_HOST, registry=metrics.registry)
        except OSError as error:
            raise InvalidArgument("metrics_port", f"{METRICS_HOST}:{port} cannot be used: {error}") from error
        self.port: int = self._server.server_port

    def close(self) -> None:
        """Ends the endpoint."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
