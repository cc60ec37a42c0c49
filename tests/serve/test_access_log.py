"""Request ids, and what the log says of a request: never what is in it unless asked."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("starlette")

from starlette.routing import Route

from localgen.serve.access_log import AccessLog
from localgen.serve.body_limit import BodyLimit
from localgen.serve.config import ServeConfig
from localgen.serve.request_record import RequestRecord, record_of, route_of
from localgen.worker.calls import Kind, RemoteCall, call_label
from tests.serve.asgi import Answer, Echo, acall, call, scope_of
from tests.serve.stats import make_stats

ENDED: list[tuple[Any, RequestRecord]] = []


def logged(app: Any, **options: Any) -> AccessLog:
    config = ServeConfig(**options)
    ENDED.clear()
    return AccessLog(
        BodyLimit(app, config, lambda: False),
        is_logged=config.access_log,
        log_prompts=config.log_prompts,
        ended=lambda scope, record: ENDED.append((scope, record)),
    )


@pytest.fixture(autouse=True)
def _all(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="localgen.serve")


def test_a_line_has_id_client_route_status_tokens_and_seconds(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        record = record_of(scope)
        record.waited = 0.25
        record.count("small", [make_stats(n_prompt=10, n_cached=4, n_new=3), make_stats(n_new=2)])
        await Echo()(scope, receive, send)

    call(logged(app), "POST", "/v1/completions", {"x-request-id": "mine-1"})
    (line,) = caplog.messages
    assert line.startswith(
        "mine-1 127.0.0.1 POST /v1/completions 200 model=small prompt=10 cached=4 new=5 "
        "waited=0.250s 0."
    )


def test_an_id_of_the_client_comes_back_if_it_is_plain_and_is_replaced_if_not() -> None:
    def id_for(given: str) -> str:
        return call(logged(Echo()), headers={"x-request-id": given}).headers["x-request-id"]

    assert id_for("a.b:c-1") == "a.b:c-1"
    for bad in ("", "two words", "x" * 129, "line\nend", "\x1b[31m", "<script>"):
        assert id_for(bad).startswith("req-")
    assert id_for("") != id_for("")


def test_two_ids_at_once_are_replaced() -> None:
    headers = [("x-request-id", "a"), ("x-request-id", "b")]
    assert call(logged(Echo()), headers=headers).headers["x-request-id"].startswith("req-")


@pytest.mark.parametrize("log_prompts", [False, True])
def test_prompts_are_in_the_log_only_if_asked(
    caplog: pytest.LogCaptureFixture, log_prompts: bool
) -> None:
    app = logged(Echo(), log_prompts=log_prompts)
    headers = {"transfer-encoding": "chunked"}
    call(app, "POST", "/v1/completions", headers, chunks=["my sécret\nline".encode()])
    assert ("s\\xe9cret\\nline" in caplog.text) is log_prompts
    assert len(caplog.messages) == 1 + log_prompts


def test_calls_of_a_request_have_its_id_in_the_log_of_a_crash() -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        call = RemoteCall(number=1, name="text", payload=b"", fingerprint=b"", kind=Kind.ROWS)
        seen.append(call.label)
        await Echo()(scope, receive, send)

    async def main() -> None:
        for name in ("a", "b"):
            await acall(logged(app), headers={"x-request-id": name})
            seen.append(call_label.get())

    asyncio.run(main())
    assert seen == ["a", None, "b", None]


def test_no_log_at_all(caplog: pytest.LogCaptureFixture) -> None:
    call(logged(Echo(), access_log=False))
    assert not caplog.messages
    assert len(ENDED) == 1


def test_neither_query_nor_line_ends_of_a_path_get_into_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scope = scope_of("GET", "/a\nforged line", {})
    scope["raw_path"] = b"/a%0Aforged%20line?key=secret"

    async def main() -> None:
        async def nothing(*_: Any) -> Any:
            return {"type": "http.request", "body": b""}

        await logged(Echo())(scope, nothing, nothing)

    asyncio.run(main())
    assert " GET /a%0Aforged%20line 200 " in caplog.messages[0]
    assert "secret" not in caplog.text


def test_a_client_that_left_is_499_and_a_failure_500(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(*_: Any) -> None:
        raise KeyError("bug")

    headers = {"transfer-encoding": "chunked"}
    assert call(logged(Echo()), "POST", headers=headers, leaves=True) == Answer(0, {}, b"")
    with pytest.raises(KeyError):
        call(logged(fail))
    assert [line.split()[4] for line in caplog.messages] == ["499", "500"]


def test_a_route_is_one_of_few() -> None:
    app = SimpleNamespace(routes=[Route("/v1/models/{id:path}", lambda _: None)])
    scope = scope_of("GET", "/v1/models/a/b", {})
    assert route_of(scope) == "other", "of no application"
    assert route_of({**scope, "app": app}) == "/v1/models/{id}"
    assert route_of({**scope, "app": app, "method": "POST"}) == "/v1/models/{id}"
    assert route_of({**scope, "app": app, "path": "/v1"}) == "other"
