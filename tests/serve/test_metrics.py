"""What Prometheus reads."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("prometheus_client")

from prometheus_client.parser import text_string_to_metric_families
from starlette.routing import Route

from localgen.serve.access_log import line_of
from localgen.serve.admission import Admission
from localgen.serve.metrics import Metrics
from localgen.serve.pool import ModelPool
from localgen.serve.request_record import RequestRecord
from localgen.serve.served_model import ServedModel
from tests.serve.asgi import scope_of
from tests.serve.conftest import Serve
from tests.serve.stats import make_stats

APP = SimpleNamespace(routes=[Route("/v1/completions", lambda _: None)])
SMALL = ServedModel(names=("small", "alias"), source="/secret/small.gguf")


class FakeModel:
    n_restarts = 3

    def close(self) -> None:
        pass


def read(metrics: Metrics) -> dict[str, float]:
    return parsed(metrics.text().decode())


def parsed(text: str) -> dict[str, float]:
    families = text_string_to_metric_families(text)
    return {
        ",".join([sample.name, *sample.labels.values()]): sample.value
        for family in families
        for sample in family.samples
    }


def ended(metrics: Metrics, path: str, *, status: int, **scope: Any) -> RequestRecord:
    record = RequestRecord()
    record.status = status
    metrics.ended({**scope_of("POST", path, {}), **scope}, record)
    return record


def test_requests_tokens_and_times_are_counted() -> None:
    metrics = Metrics(ModelPool([SMALL], lambda *_: None), Admission(1, 1, None))
    record = RequestRecord()
    record.status, record.waited = 200, 0.2
    stats = make_stats(n_prompt=7, n_cached=5, n_new=4, ttft=0.1, tokens_per_second=40.0)
    record.count("small", [stats])
    metrics.ended({**scope_of("POST", "/v1/completions", {}), "app": APP}, record)
    ended(metrics, "/wp-login.php", status=404)
    ended(metrics, "/etc/passwd", status=404)
    found = read(metrics)
    assert found["localgen_requests_total,/v1/completions,200"] == 1
    assert found["localgen_requests_total,other,404"] == 2
    assert found["localgen_prompt_tokens_total,small"] == 7
    assert found["localgen_cached_tokens_total,small"] == 5
    assert found["localgen_generated_tokens_total,small"] == 4
    assert found["localgen_time_to_first_token_seconds_sum,small"] == pytest.approx(0.3)
    assert found["localgen_time_per_output_token_seconds_sum,small"] == pytest.approx(1 / 40)
    assert found["localgen_request_seconds_count,other"] == 2


def test_the_queue_and_the_models_are_read_when_asked_for() -> None:
    async def main() -> None:
        admission = Admission(2, 5, None)
        pool = ModelPool([SMALL], lambda *_: FakeModel())
        metrics = Metrics(pool, admission)
        assert read(metrics)["localgen_model_loaded,small"] == 0
        request = SimpleNamespace(scope=scope_of("POST", "/", {}))
        async with admission.turn(request, 2), pool.use("small"):
            waiting = asyncio.create_task(admission.turn(request).__aenter__())
            await asyncio.sleep(0)
            found = read(metrics)
            waiting.cancel()
        assert found["localgen_requests_running"] == 1
        assert found["localgen_rows_running"] == 2
        assert found["localgen_requests_waiting"] == 1
        assert found["localgen_model_loaded,small"] == 1
        await pool.close()
        found = read(metrics)
        assert found["localgen_model_loaded,small"] == 0
        assert found["localgen_worker_restarts_total,small"] == 3
        assert "secret" not in metrics.text().decode()

    asyncio.run(main())


def test_a_stream_that_an_error_ended_counts_as_that_error() -> None:
    """Its own status was 200 by then: whoever watches for 5xx would see nothing."""
    metrics = Metrics(ModelPool([SMALL], lambda *_: None), Admission(1, 1, None))
    record = RequestRecord()
    record.status, record.failure = 200, (503, "model_crashed")
    scope = {**scope_of("POST", "/v1/completions", {}), "app": APP}
    metrics.ended(scope, record)
    assert "localgen_requests_total,/v1/completions,503" in read(metrics)
    assert " 200 error=model_crashed " in line_of(scope, record)


def test_requests_that_are_refused_before_their_route_count_for_it(serve: Serve) -> None:
    """Whoever looks for the cause of many 401s needs to know what was asked for."""
    client = serve(FakeModel(), api_keys="k")
    key = {"Authorization": "Bearer k"}
    client.get("/v1/models")
    client.get("/v1/models/fake", headers={**key, "Host": "evil.example"})
    client.post("/tokenize", headers={**key, "Origin": "https://evil.example"}, content=b"{}")
    client.get("/v1/responses", headers=key)
    client.get("/wp-login.php")
    counts = parsed(client.get("/metrics", headers=key).text)
    requests = {name for name in counts if name.startswith("localgen_requests_total")}
    assert {name.partition(",")[2] for name in requests} == {
        "/v1/models,401", "/v1/models/{id},403", "/tokenize,403", "/v1/responses,405", "other,401",
    }  # fmt: skip


def test_two_servers_in_a_process_do_not_share_their_metrics() -> None:
    first, second = (
        Metrics(ModelPool([SMALL], lambda *_: None), Admission(1, 1, None)) for _ in range(2)
    )
    ended(first, "/", status=200)
    assert "localgen_requests_total,other,200" in read(first)
    assert "localgen_requests_total,other,200" not in read(second)
