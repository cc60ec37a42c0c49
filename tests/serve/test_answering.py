"""What happens around an answer: clients that leave, errors before and after its first byte."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

pytest.importorskip("starlette")

from localgen import DecodeError
from localgen.serve.metrics import Metrics
from localgen.serve.request_record import RequestRecord
from tests.fakes import FakeBackend, FakeModel, engine_of, fake_model, reference_greedy
from tests.serve.conftest import Serve
from tests.serve.live import SECONDS, connect, listening, until
from tests.serve.processes import events

COMPLETIONS = "/v1/completions"


class PacedBackend(FakeBackend):
    """A backend that runs a pass each time that it is allowed one."""

    def __init__(self) -> None:
        super().__init__(n_batch=64)
        self.allowed = threading.Semaphore(0)
        self.reached = threading.Semaphore(0)
        self.on_decode = self._wait

    def _wait(self) -> None:
        self.reached.release()
        # Longer than a test waits, which an error here would end, too.
        assert self.allowed.acquire(timeout=4 * SECONDS)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_rows_within_a_step(stream: bool) -> None:
    """While a pass runs, and before anything was sent to it."""
    backend = PacedBackend()
    model = FakeModel(backend, fake_model(n_ctx=2048).config)
    with listening(model) as (url, app):
        body = {"prompt": "abc", "max_tokens": 1000, "n": 2, "stream": stream}
        connection = connect(url, COMPLETIONS, body)
        for _ in range(3):
            assert backend.reached.acquire(timeout=SECONDS)
            backend.allowed.release()
        assert backend.reached.acquire(timeout=SECONDS)  # within the fourth pass
        (request,) = engine_of(model)._requests
        connection.close()
        until(lambda: request.is_cancelled)
        backend.allowed.release()
        until(lambda: engine_of(model).idle)
        assert backend.count("decode") <= 5
        until(lambda: not app.state.admission.n_running)


def failing_model(after: int) -> FakeModel:
    backend = FakeBackend()

    def fail() -> None:
        if backend.n_decoded > after:
            raise DecodeError("llama_decode returned -3 in /some/path")

    backend.on_decode = fail
    return fake_model(backend=backend)


def test_an_error_before_the_first_token_has_a_status(serve: Serve) -> None:
    for stream in (False, True):
        body = {"prompt": "abc", "stream": stream}
        response = serve(failing_model(0)).post(COMPLETIONS, json=body)
        assert response.status_code == 500
        error = response.json()["error"]
        assert (error["type"], error["code"]) == ("server_error", "decode")
        assert "/some/path" not in response.text


STREAM = {"prompt": "abc", "stream": True, "max_tokens": 20, "temperature": 0}


def noted_records(monkeypatch: pytest.MonkeyPatch) -> list[RequestRecord]:
    """The records of the requests that are over, as they end."""
    found: list[RequestRecord] = []
    monkeypatch.setattr(Metrics, "ended", lambda _metrics, _scope, record: found.append(record))
    return found


def test_an_error_within_a_stream_is_its_last_event_after_all_that_came(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = noted_records(monkeypatch)
    response = serve(failing_model(6)).post(COMPLETIONS, json=STREAM)
    assert response.status_code == 200
    *chunks, last, _ = response.text.split("\n\n")
    choices = [json.loads(each.removeprefix("data: "))["choices"][0] for each in chunks]
    came = bytes(reference_greedy([*b"abc"], 4)).decode()
    assert "".join(each["text"] for each in choices) == came
    assert {each["finish_reason"] for each in choices} == {None}
    assert json.loads(last.removeprefix("data: "))["error"]["type"] == "server_error"
    assert "[DONE]" not in response.text
    assert "/some/path" not in response.text
    assert [record.failure for record in records] == [(500, "decode")]


def test_the_usage_of_a_stream_that_fails_comes_before_its_error(serve: Serve) -> None:
    body = {**STREAM, "stream_options": {"include_usage": True}}
    response = serve(failing_model(6)).post(COMPLETIONS, json=body)
    *chunks, with_usage, _, _ = response.text.split("\n\n")
    chunk = json.loads(with_usage.removeprefix("data: "))
    assert chunk["choices"] == []
    assert (chunk["usage"]["prompt_tokens"], chunk["usage"]["completion_tokens"]) == (3, 4)
    assert {json.loads(each.removeprefix("data: "))["usage"] for each in chunks} == {None}


@contextmanager
def stream_from(url: str, **fields: Any) -> Iterator[Iterator[str]]:
    """Yield the lines of a stream as they come."""
    with (
        httpx.Client(timeout=SECONDS, trust_env=False) as client,
        client.stream("POST", url + COMPLETIONS, json={**STREAM, **fields}) as response,
    ):
        assert response.status_code == 200
        yield response.iter_lines()


def test_each_event_leaves_before_the_next_pass() -> None:
    backend = PacedBackend()
    backend.allowed.release()
    with (
        listening(FakeModel(backend, fake_model().config)) as (url, _),
        stream_from(url, max_tokens=3) as lines,
    ):
        found = events(lines)
        texts = []
        for _ in range(3):
            texts.append(next(found)["choices"][0]["text"])  # type: ignore[index]
            backend.allowed.release()
        assert "".join(texts).encode() == bytes(reference_greedy([*b"abc"], 3))
        assert list(found) == ["[DONE]"]


def test_a_stream_is_kept_alive_while_it_waits_and_while_its_prompt_is_read() -> None:
    backend = PacedBackend()
    model = FakeModel(backend, fake_model().config)
    with (
        listening(model, sse_keep_alive_interval=1e-3, max_running=1) as (url, app),
        stream_from(url) as first,
        stream_from(url) as second,
    ):
        assert app.state.admission.n_waiting == 1
        for lines in (first, second):
            assert [next(lines) for _ in range(4)] == [": keep-alive", ""] * 2
        backend.allowed.release(1000)
        assert [list(events(lines))[-1] for lines in (first, second)] == ["[DONE]"] * 2


def test_an_error_before_the_first_token_is_an_event_of_a_stream_that_was_kept_alive() -> None:
    backend, may_fail = FakeBackend(), threading.Event()

    def fail() -> None:
        assert may_fail.wait(SECONDS)
        raise DecodeError("llama_decode returned -3")

    backend.on_decode = fail
    model = fake_model(backend=backend)
    with (
        listening(model, sse_keep_alive_interval=1e-3) as (url, _),
        stream_from(url) as lines,
    ):
        assert next(lines) == ": keep-alive"
        may_fail.set()
        (found,) = events(lines)
        assert found["error"]["code"] == "decode"  # type: ignore[index]


def test_an_error_within_an_answer_loses_it(serve: Serve) -> None:
    response = serve(failing_model(6)).post(COMPLETIONS, json={"prompt": "abc", "max_tokens": 20})
    assert response.status_code == 500


def test_a_prompt_that_is_too_long_has_openais_code(serve: Serve) -> None:
    response = serve(fake_model(n_ctx=64)).post(COMPLETIONS, json={"prompt": "a" * 65})
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "context_length_exceeded"


def test_a_text_that_the_limit_of_time_ends_is_an_answer(serve: Serve) -> None:
    """OpenAI's API has no reason for it but "length"."""
    body = {"prompt": "abc", "max_tokens": 400, "temperature": 0}
    response = serve(fake_model(), request_timeout=1e-6).post(COMPLETIONS, json=body)
    assert response.status_code == 200
    (choice,) = response.json()["choices"]
    assert choice["finish_reason"] == "length"
    assert len(choice["text"]) < 400
