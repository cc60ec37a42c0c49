"""Metrics: what Prometheus reads at /metrics. It has a registry of its own, not the process's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from localgen.serve.admission import Admission
from localgen.serve.pool import ModelPool
from localgen.serve.request_record import RequestRecord, route_of

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 2)


class Metrics:
    """Counts requests and tokens; the state of the queue and the models is read when asked for."""

    def __init__(self, pool: ModelPool, admission: Admission) -> None:
        self._registry = registry = CollectorRegistry()
        registry.register(_State(pool, admission))

        def counter(name: str, about: str, *labels: str) -> Counter:
            return Counter(f"localgen_{name}", about, labels, registry=registry)

        def histogram(name: str, about: str, label: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(
                f"localgen_{name}", about, (label,), buckets=buckets, registry=registry
            )

        self._requests = counter("requests", "Requests that are over.", "route", "status")
        self._seconds = histogram(
            "request_seconds",
            "From a request's arrival to the end of its answer.",
            "route",
            _SECONDS,
        )
        self._prompt = counter("prompt_tokens", "Tokens of prompts.", "model")
        self._cached = counter("cached_tokens", "Tokens of prompts not computed again.", "model")
        self._new = counter("generated_tokens", "Tokens that were generated.", "model")
        self._ttft = histogram(
            "time_to_first_token_seconds", "With the wait for a place.", "model", _SECONDS
        )
        self._per_token = histogram(
            "time_per_output_token_seconds", "After the first one.", "model", _TOKEN_SECONDS
        )

    def ended(self, scope: Any, record: RequestRecord) -> None:
        """Count a request that is over."""
        route = route_of(scope)
        status = record.status if record.failure is None else record.failure[0]
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(record.seconds)
        for stats in record.stats:
            model = record.model or "other"
            self._prompt.labels(model).inc(stats.n_prompt)
            self._cached.labels(model).inc(stats.n_cached)
            self._new.labels(model).inc(stats.n_new)
            if stats.ttft is not None:
                self._ttft.labels(model).observe(record.waited + stats.ttft)
            if stats.tokens_per_second:
                self._per_token.labels(model).observe(1 / stats.tokens_per_second)

    def text(self) -> bytes:
        """Return all of them in Prometheus's text format."""
        return generate_latest(self._registry)


class _State:
    """The queue and the models, read at each scrape."""

    def __init__(self, pool: ModelPool, admission: Admission) -> None:
        self._pool = pool
        self._admission = admission

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics, as a registry asks for them."""
        for name, about, value in (
            ("requests_waiting", "Requests that wait for a place.", self._admission.n_waiting),
            ("requests_running", "Requests that run.", self._admission.n_requests),
            ("rows_running", "Texts that are being generated.", self._admission.n_running),
        ):
            yield GaugeMetricFamily(f"localgen_{name}", about, value=value)
        loaded = GaugeMetricFamily(
            "localgen_model_loaded", "1 if a model is in memory.", labels=("model",)
        )
        restarts = CounterMetricFamily(
            "localgen_worker_restarts", "Workers that crashed and were started again.",
            labels=("model",),
        )  # fmt: skip
        for model in self._pool.names.models:
            loaded.add_metric([model.name], float(self._pool.state(model) == "loaded"))
            restarts.add_metric([model.name], self._pool.n_restarts(model))
        yield from (loaded, restarts)
