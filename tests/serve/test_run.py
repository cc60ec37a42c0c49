"""Servers in real processes: floods, clients that go away, raw sockets, and the end."""

from __future__ import annotations

import json
import sys
import threading
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import Any

import httpx
import pytest

from tests.serve.processes import Server, events, read_all, slow_server

pytestmark = pytest.mark.slow

PATH = "/v1/completions"
RUNNING, WAITING = "localgen_requests_running", "localgen_requests_waiting"


def body(n_tokens: int, **more: Any) -> dict[str, Any]:
    return {"model": "fake", "prompt": "abc", "max_tokens": n_tokens, "temperature": 0, **more}


def post(server: Server, n_tokens: int, *, key: str | None = None, **more: Any) -> httpx.Response:
    with server.client(key) as client:
        return client.post(PATH, json=body(n_tokens, **more))


def stream_of(client: httpx.Client) -> Any:
    """A stream that would take hours."""
    return client.stream("POST", PATH, json=body(50_000, stream=True))


# --- the end ---


def test_a_stream_goes_on_to_its_end_while_new_requests_are_refused() -> None:
    with slow_server(pass_seconds=0.02) as server, server.client() as client:
        with client.stream("POST", PATH, json=body(100, stream=True)) as answer:
            found = events(answer.iter_lines())
            next(found)
            server.stop()
            server.wait_until_stopping()
            refused = post(server, 1)
            assert refused.status_code == 503
            assert refused.json()["error"]["code"] == "server_stopping"
            assert int(refused.headers["retry-after"]) > 0
            rest = list(found)
        assert rest[-1] == "[DONE]"
        assert rest[-2]["choices"][0]["finish_reason"] == "length"  # type: ignore[index]
        code, stderr = server.end()
        assert code == 0
        assert "stopping: 1 request may take 30 s to end" in stderr


@pytest.mark.parametrize("how", ["time is up", "second signal"])
def test_a_stream_that_takes_too_long_is_cut_with_an_error(how: str) -> None:
    seconds = 0.1 if how == "time is up" else 1000.0
    with slow_server(pass_seconds=0.02, shutdown_seconds=seconds) as server:
        given = body(50_000, stream=True, stream_options={"include_usage": True})
        with server.client() as client, client.stream("POST", PATH, json=given) as answer:
            found = events(answer.iter_lines())
            next(found)
            server.stop()
            if how == "second signal":
                server.wait_until_stopping()
                server.stop()
            rest = list(found)
        assert "[DONE]" not in rest
        assert rest[-1]["error"]["code"] == "server_stopping"  # type: ignore[index]
        assert rest[-2]["usage"]["completion_tokens"]  # type: ignore[index]
        assert server.end()[0] == 0


def test_a_request_that_waits_is_told_when_the_server_stops() -> None:
    with slow_server(pass_seconds=0.02, max_running=1) as server, ThreadPoolExecutor() as pool:
        running = pool.submit(post, server, 100)
        server.wait_until(RUNNING, 1)
        waiting = pool.submit(post, server, 1)
        server.wait_until(WAITING, 1)
        server.stop()
        assert waiting.result().status_code == 503
        assert running.result().status_code == 200
        assert server.end()[0] == 0


def test_an_idle_server_ends_at_once() -> None:
    with slow_server() as server:
        server.stop()
        code, stderr = server.end()
        assert code == 0
        assert "Traceback" not in stderr


# --- clients that go away ---


def test_a_client_that_leaves_its_stream_frees_its_place() -> None:
    with slow_server(pass_seconds=0.01, max_running=1) as server, server.client() as client:
        with stream_of(client) as answer:
            found = events(answer.iter_lines())
            next(found)
            assert server.metric(RUNNING) == 1
        server.wait_until(RUNNING, 0)
        assert post(server, 1).status_code == 200


def test_a_client_that_leaves_a_request_without_stream_frees_its_place() -> None:
    with slow_server(pass_seconds=0.01, max_running=1) as server:
        with raw_post(server, body(50_000)):
            server.wait_until(RUNNING, 1)
        server.wait_until(RUNNING, 0)


def test_a_client_that_leaves_while_it_waits_frees_its_place() -> None:
    with (
        slow_server(pass_seconds=0.01, max_running=1, max_waiting=1) as server,
        raw_post(server, body(50_000)),
    ):
        server.wait_until(RUNNING, 1)
        with raw_post(server, body(1)):
            server.wait_until(WAITING, 1)
            assert post(server, 1).status_code == 429
        server.wait_until(WAITING, 0)
        with raw_post(server, body(1)):
            server.wait_until(WAITING, 1)


def test_a_client_that_reads_nothing_of_its_stream_frees_its_place() -> None:
    """However slowly a client reads, it must read on."""
    long = body(50_000, stream=True, logprobs=5)
    with slow_server(max_running=1, unread_seconds=0.5) as server, raw_post(server, long):
        server.wait_until(RUNNING, 1)
        assert post(server, 1).status_code == 200
        server.stop()
        code, stderr = server.end()
        assert code == 0
        assert "Traceback" not in stderr


def test_a_text_that_is_computed_has_no_place_however_slowly_it_is_read() -> None:
    long = body(5_000, stream=True, logprobs=5)
    with slow_server(max_running=1, unread_seconds=600.0) as server, raw_post(server, long) as slow:
        server.wait_until(RUNNING, 1)
        assert post(server, 1).status_code == 200
        found = b""
        while b"[DONE]" not in found[-100:]:
            found += slow.recv(65536)
        assert found.count(b'"finish_reason":"length"') == 1


def raw_post(server: Server, given: dict[str, Any]) -> Any:
    data = json.dumps(given).encode()
    head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
    return server.raw(head.encode() + data)


# --- many clients ---


def test_a_flood_is_served_or_told_when_to_come_back() -> None:
    with slow_server(pass_seconds=0.005, max_running=2, max_waiting=5) as server:
        with ThreadPoolExecutor(30) as pool:
            answers = list(pool.map(lambda _: post(server, 20), range(60)))
        by_status = [answer.status_code for answer in answers]
        assert set(by_status) == {200, 429}
        refused = [answer for answer in answers if answer.status_code == 429]
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
        assert {answer.json()["error"]["code"] for answer in refused} == {"rate_limit_exceeded"}
        texts = {answer.json()["choices"][0]["text"] for answer in answers if answer not in refused}
        assert len(texts) == 1
        assert server.metric(RUNNING) == server.metric(WAITING) == 0


def test_a_client_with_one_request_overtakes_one_with_many() -> None:
    keys = ["many", "few"]
    with slow_server(pass_seconds=0.02, max_running=1, api_keys=keys) as server:
        ended: list[str] = []

        def ask(key: str) -> None:
            assert post(server, 20, key=key).status_code == 200
            ended.append(key)

        with ThreadPoolExecutor(20) as pool:
            many = [pool.submit(ask, "many") for _ in range(12)]
            wait(many, return_when=FIRST_COMPLETED)  # whichever came first; the others wait
            pool.submit(ask, "few").result()
        assert ended.index("few") < 6


def test_a_request_that_takes_too_long_ends_with_what_it_has() -> None:
    with slow_server(pass_seconds=0.01, request_timeout=0.5) as server:
        answer = post(server, 50_000)
        assert answer.status_code == 200
        (choice,) = answer.json()["choices"]
        assert choice["finish_reason"] == "length"
        assert 0 < len(choice["text"]) < 50_000


# --- what no client library sends ---


@pytest.fixture(scope="module")
def strict() -> Any:
    with slow_server(max_body_bytes=10_000, body_timeout=0.3, head_seconds=0.5) as server:
        yield server


def status_of(data: bytes) -> int:
    return int(data.split(b" ", 2)[1]) if data else 0


def head(*lines: str, method: str = "POST", host: str = "localhost") -> bytes:
    return "\r\n".join([f"{method} {PATH} HTTP/1.1", f"Host: {host}", *lines, "", ""]).encode()


def test_a_body_that_stops_coming_is_408(strict: Server) -> None:
    answer = read_all(strict.raw(head("Content-Length: 100") + b'{"prompt"'))
    assert status_of(answer) == 408
    assert b"body_timeout" in answer


def test_a_head_that_stops_coming_is_closed(strict: Server) -> None:
    assert read_all(strict.raw(b"POST / HTTP/1.1\r\nHost: loc")) == b""
    assert read_all(strict.raw()) == b""


def test_a_second_head_that_stops_coming_is_closed(strict: Server) -> None:
    connection = strict.raw(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert status_of(connection.recv(65536)) == 200
    connection.sendall(b"GET /hea")
    assert b"HTTP" not in read_all(connection)


@pytest.mark.parametrize("n_bytes", [10_001, 50_000, 10**9])
def test_a_body_that_is_stated_as_too_large_is_413(strict: Server, n_bytes: int) -> None:
    sent = b"x" * min(n_bytes, 90_000)
    answer = read_all(strict.raw(head(f"Content-Length: {n_bytes}") + sent))
    assert status_of(answer) == 413
    assert b"request_too_large" in answer


def test_a_body_in_chunks_that_grows_too_large_is_413(strict: Server) -> None:
    chunk = b"2710\r\n" + b"x" * 10_000 + b"\r\n"
    connection = strict.raw(head("Transfer-Encoding: chunked") + 2 * chunk + b"0\r\n\r\n")
    assert status_of(read_all(connection)) == 413


def test_a_body_with_two_lengths_smuggles_no_second_request(strict: Server) -> None:
    hidden = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
    lengths = head(f"Content-Length: {5 + len(hidden)}", "Transfer-Encoding: chunked")
    answer = read_all(strict.raw(lengths + b"0\r\n\r\n" + hidden))
    assert status_of(answer) == 400
    assert answer.count(b"HTTP/1.1") == 1


def test_a_client_that_asks_first_does_not_send_a_large_body(strict: Server) -> None:
    asked = head("Content-Length: 20000", "Expect: 100-continue")
    assert status_of(read_all(strict.raw(asked))) == 413


@pytest.mark.parametrize(
    "data",
    [b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"\r\n\r\n\x00\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n",
     head("Content-Length: -1"), head("Content-Length: 1", "Content-Length: 2"),
     head("Content-Length: 5x"), head("A: " + "x" * 100_000, "Connection: close"),
     b"GET / HTTP/9.9\r\nConnection: close\r\n\r\n"],
)  # fmt: skip
def test_what_is_not_http_is_refused_and_harms_nobody(strict: Server, data: bytes) -> None:
    assert status_of(read_all(strict.raw(data))) in (0, 400, 403)
    assert strict.get("/health").status_code == 200


def test_a_page_that_rebinds_its_name_to_this_machine_reaches_nothing(strict: Server) -> None:
    for host in ("evil.example", "evil.example:8080"):
        for path in ("/", "/health", "/v1/models"):
            request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
            answer = read_all(strict.raw(request.encode()))
            assert status_of(answer) == 403
            assert b"fake" not in answer


def test_a_form_of_another_site_generates_nothing(strict: Server) -> None:
    before = strict.metric(RUNNING)
    data = json.dumps(body(1)).encode()
    lines = ("Origin: https://evil.example", "Content-Type: text/plain", "Connection: close")
    answer = read_all(strict.raw(head(f"Content-Length: {len(data)}", *lines) + data))
    assert status_of(answer) == 403
    assert b"access-control" not in answer.lower()
    assert strict.metric(RUNNING) == before
    assert "localgen_generated_tokens_total{" not in strict.get("/metrics").text


def test_an_upgrade_to_a_websocket_is_no_way_around_the_checks(strict: Server) -> None:
    lines = ("Upgrade: websocket", "Connection: Upgrade, close", "Sec-WebSocket-Version: 13")
    answer = read_all(strict.raw(head(*lines, method="GET", host="evil.example")))
    assert status_of(answer) == 403


def test_a_failure_inside_shows_neither_path_nor_code() -> None:
    with slow_server() as server:
        answer = post(server, 5, prompt="fail now")
        assert answer.status_code == 500
        assert answer.json()["error"]["type"] == "server_error"
        for secret in ("/secret", "bug", "Traceback", "RuntimeError", ".py"):
            assert secret not in answer.text
        assert post(server, 1).status_code == 200
        server.stop()
        _, stderr = server.end()
        assert "bug at /secret/path" in stderr
        assert answer.headers["x-request-id"] in stderr


def test_the_log_has_a_line_for_each_request_without_its_prompt() -> None:
    with slow_server() as server:
        answer = post(server, 3, prompt="my secret")
        server.stop()
        _, stderr = server.end()
        request_id = answer.headers["x-request-id"]
        (line,) = [line for line in stderr.splitlines() if request_id in line]
        assert f"127.0.0.1 POST {PATH} 200 model=fake prompt=9 cached=0 new=3 " in line
        assert "secret" not in stderr


def test_connections_that_say_nothing_do_not_keep_others_out() -> None:
    with slow_server(head_seconds=30.0) as server:
        silent = [server.raw() for _ in range(100)]
        assert post(server, 1).status_code == 200
        server.stop()
        assert server.end()[0] == 0
        for connection in silent:
            connection.close()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of open files")
def test_more_connections_than_the_process_may_open_are_closed() -> None:
    with slow_server(n_files=160, pass_seconds=0.01) as server, server.client() as client:
        with stream_of(client) as answer:
            found = events(answer.iter_lines())
            next(found)
            silent = [server.raw() for _ in range(200)]
            assert read_all(silent[-1]) == b""
            next(found)
        for connection in silent:
            connection.close()
        server.wait_until(RUNNING, 0)
        assert post(server, 1).status_code == 200
        server.stop()
        code, stderr = server.end()
        assert code == 0
        assert "Traceback" not in stderr


def test_clients_from_several_threads_get_their_own_answers() -> None:
    with slow_server(pass_seconds=0.001) as server:
        barrier = threading.Barrier(8)

        def ask(letter: str) -> list[str]:
            barrier.wait()
            return [
                post(server, 10, prompt=letter * 5).json()["choices"][0]["text"] for _ in range(3)
            ]

        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(ask, "abcdefgh"))
        alone = [post(server, 10, prompt=letter * 5) for letter in "abcdefgh"]
        for texts, answer in zip(together, alone, strict=True):
            assert texts == [answer.json()["choices"][0]["text"]] * 3
