"""/health and /metrics."""

from __future__ import annotations

import threading
from typing import Any

from starlette.testclient import TestClient

from localgen.serve.app import create_app
from localgen.serve.config import ServeConfig
from localgen.serve.pool import ModelPool
from localgen.serve.served_model import ServedModel
from tests.fakes import fake_model
from tests.serve.conftest import Serve

SMALL = ServedModel(names=("small",), source="small")


def test_a_server_is_ready_when_its_first_model_is_loaded() -> None:
    gate, begun = threading.Event(), threading.Event()

    def load(_: ServedModel, note: Any) -> Any:
        note(0.25)
        begun.set()
        assert gate.wait(60)
        return fake_model()

    pool = ModelPool([SMALL], load)
    app = create_app(pool, ServeConfig())
    with TestClient(app, base_url="http://localhost") as client:
        assert client.portal is not None
        loading = client.portal.start_task_soon(pool.preload)
        assert begun.wait(60)
        answer = client.get("/health")
        assert answer.status_code == 503
        assert answer.json() == {"status": "loading", "progress": 0.25}
        gate.set()
        loading.result(60)
        assert client.get("/health").json() == {"status": "ok"}
        app.state.admission.stop()
        answer = client.get("/health")
        assert answer.status_code == 503
        assert answer.json() == {"status": "stopping"}
        answer = client.post("/v1/completions", json={"model": "small", "prompt": "x"})
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "server_stopping"


def test_the_metrics_count_what_was_generated(serve: Serve) -> None:
    client = serve(fake_model())
    body = {"model": "fake", "prompt": "abc", "max_tokens": 3}
    assert client.post("/v1/completions", json=body).status_code == 200
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    lines = answer.text.splitlines()
    assert 'localgen_requests_total{route="/v1/completions",status="200"} 1.0' in lines
    assert 'localgen_generated_tokens_total{model="fake"} 3.0' in lines
    assert 'localgen_time_to_first_token_seconds_count{model="fake"} 1.0' in lines
    assert "localgen_rows_running 0.0" in lines
