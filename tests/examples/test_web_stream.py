"""The server streams to real HTTP clients on loopback."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote_plus, urlsplit

import pytest

from tests.examples.conftest import ROOT, SECONDS, command, environment

pytestmark = [pytest.mark.slow, pytest.mark.real]


@pytest.fixture(scope="module")
def address(weights: None) -> Iterator[str]:
    """host:port of a running server, which Ctrl-C ends in the end."""
    with subprocess.Popen(
        command("web_stream.py", "--port", 0),
        stdout=subprocess.PIPE,
        encoding="utf-8",
        env=environment(),
        cwd=ROOT,
    ) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            assert line.startswith("Listening on http://"), line
            yield urlsplit(line.split()[-1]).netloc
            if sys.platform != "win32":  # Ctrl-C would reach the tests as well there
                server.send_signal(signal.SIGINT)
                assert server.wait(30) == 0
        finally:
            server.kill()


def events(address: str, prompt: str) -> list[tuple[str, object]]:
    """The (name, data) of all events that answer a prompt."""
    connection = http.client.HTTPConnection(address, timeout=SECONDS)
    try:
        connection.request("GET", f"/?prompt={quote_plus(prompt)}")
        response = connection.getresponse()
        assert response.status == 200
        assert response.headers.get_content_type() == "text/event-stream"
        body = response.read().decode()
    finally:
        connection.close()
    assert body.endswith("\n\n")
    found: list[tuple[str, object]] = []
    for event in body[:-2].split("\n\n"):
        fields = dict(line.split(": ", 1) for line in event.split("\n"))
        found.append((fields.get("event", "message"), json.loads(fields["data"])))
    return found


def test_clients_are_answered_together(address: str) -> None:
    prompts = ["Name the capital of Italy.", "Who wrote Hamlet?"]
    with ThreadPoolExecutor(len(prompts)) as pool:
        answers = list(pool.map(lambda prompt: events(address, prompt), prompts))
    for answer, word in zip(answers, ("Rome", "Shakespeare"), strict=True):
        *pieces, end = answer
        assert end == ("done", None)
        assert len(pieces) > 1
        assert {name for name, _ in pieces} == {"message"}
        assert word in "".join(str(data) for _, data in pieces)


def test_a_client_that_leaves_takes_nobody_along(address: str) -> None:
    connection = http.client.HTTPConnection(address, timeout=SECONDS)
    connection.request("GET", "/?prompt=Tell+me+a+long+story.")
    connection.getresponse().read(10)
    connection.close()
    assert events(address, "Name the capital of Italy.")[-1] == ("done", None)


def test_a_prompt_that_is_too_long_is_an_event(address: str) -> None:
    ((name, message),) = events(address, "no " * 5000)
    assert name == "error"
    assert "n_ctx" in str(message)


@pytest.mark.parametrize("request_line", ["GET / HTTP/1.1", "POST /?prompt=hi HTTP/1.1", "hello"])
def test_other_requests_are_refused(address: str, request_line: str) -> None:
    host, _, port = address.partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(f"{request_line}\r\n\r\n".encode())
        assert connection.makefile("rb").readline().startswith(b"HTTP/1.1 400 ")
