"""Bodies that are too large, too slow, never complete, or come while the server stops."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from localgen.serve.body_limit import BODY, BodyLimit
from localgen.serve.config import ServeConfig
from tests.serve.asgi import Answer, Echo, call

CONFIG = ServeConfig(max_body_bytes=1024)
CHUNKED = {"transfer-encoding": "chunked"}


def limited(app: Any, config: ServeConfig = CONFIG, *, is_stopping: bool = False) -> BodyLimit:
    return BodyLimit(app, config, lambda: is_stopping)


def post(app: Any, headers: Any = CHUNKED, **options: Any) -> Answer:
    return call(app, "POST", "/v1/completions", headers, **options)


@pytest.mark.parametrize("chunks", [[], [b"x" * 1024], [b"ab", b"", b"c" * 1022]])
def test_a_body_arrives_whole(chunks: list[bytes]) -> None:
    assert post(limited(Echo()), chunks=chunks).body == b"".join(chunks)


def test_a_request_without_a_body_is_not_waited_for() -> None:
    assert call(limited(Echo()), "GET").status == 200


@pytest.mark.parametrize("headers", [CHUNKED, {"content-length": "1025"}])
def test_a_body_that_is_too_large_is_413_and_reaches_no_endpoint(headers: Any) -> None:
    app = Echo()
    answer = post(limited(app), headers, chunks=[b"x" * 1000, b"x" * 25])
    assert answer.status == 413
    assert answer.error["code"] == "request_too_large"
    assert "--max-body-bytes 1024" in answer.error["message"]
    assert answer.headers["connection"] == "close"
    assert not app.n_reached


def test_an_endless_body_is_not_read_for_ever() -> None:
    def endless() -> Any:
        while True:
            given.append(1)
            yield b"x" * 512

    given: list[int] = []

    async def main() -> int:
        chunks, status = endless(), 0

        async def receive() -> Any:
            return {"type": "http.request", "body": next(chunks), "more_body": True}

        async def send(message: Any) -> None:
            nonlocal status
            status = message.get("status", status)

        scope = {"type": "http", "method": "POST", "path": "/", "headers": [
            (b"transfer-encoding", b"chunked")]}  # fmt: skip
        await limited(Echo())(scope, receive, send)
        return status

    assert asyncio.run(main()) == 413
    assert len(given) <= 8 * 1024 / 512 + 1


def test_a_client_that_asks_before_it_sends_is_answered_at_once() -> None:
    headers = {"content-length": "5000", "expect": "100-continue"}
    assert post(limited(Echo()), headers, leaves=True).status == 413


def test_a_slow_body_is_408() -> None:
    async def main() -> Answer:
        sent: list[Any] = []

        async def receive() -> Any:
            await asyncio.Event().wait()

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/", "headers": [
            (b"content-length", b"10")]}  # fmt: skip
        await limited(app, ServeConfig(body_timeout=0.01))(scope, receive, send)
        return Answer(sent[0]["status"], {}, sent[1]["body"])

    app = Echo()
    answer = asyncio.run(main())
    assert answer.status == 408
    assert answer.error["code"] == "body_timeout"
    assert not app.n_reached


def test_a_client_that_leaves_in_its_body_gets_nothing() -> None:
    app = Echo()
    assert post(limited(app), chunks=[b"half"], leaves=True).status == 0
    assert not app.n_reached


def test_a_server_that_stops_refuses_all_but_those_who_watch_it() -> None:
    app = limited(Echo(), is_stopping=True)
    answer = post(app, chunks=[b"x"])
    assert answer.status == 503
    assert answer.error["code"] == "server_stopping"
    assert int(answer.headers["retry-after"]) > 0
    assert call(app, path="/health").status == call(app, path="/metrics").status == 200


def test_a_body_is_kept_for_the_log_only_if_it_is_logged() -> None:
    app = Echo()
    post(limited(app), chunks=[b"secret"])
    assert BODY not in app.scope
    post(limited(app, ServeConfig(log_prompts=True)), chunks=[b"shown"])
    assert app.scope[BODY] == b"shown"
