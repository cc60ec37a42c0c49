"""Servers in processes of their own, and clients that do what no library does."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.children import ROOT

SECONDS = 60


class Server:
    """A server that was started, and has loaded its model."""

    def __init__(self, arguments: list[str], env: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, **(env or {})},
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        self.stderr = ""
        self._reader = threading.Thread(target=self._read_stderr, daemon=True)
        self._reader.start()
        assert self.process.stdout is not None
        self.first_line = self.process.stdout.readline()
        self.url = next((w for w in self.first_line.split() if w.startswith("http://")), "")
        assert self.url, self.end()
        while self.get("/health").json()["status"] == "loading":
            pass

    def _read_stderr(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.stderr += line

    def client(self, key: str | None = None) -> httpx.Client:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        return httpx.Client(base_url=self.url, timeout=SECONDS, headers=headers, trust_env=False)

    def get(self, path: str) -> httpx.Response:
        with self.client() as client:
            return client.get(path)

    def metric(self, name: str) -> float:
        lines = self.get("/metrics").text.splitlines()
        return float(next(line.split()[1] for line in lines if line.split()[0] == name))

    def wait_until(self, name: str, value: float) -> None:
        """Ask until a metric has a value."""
        for _ in range(2000):
            if self.metric(name) == value:
                return
        raise AssertionError(f"{name} is {self.metric(name)}, not {value}")

    def wait_until_stopping(self) -> None:
        while self.get("/health").json() != {"status": "stopping"}:
            pass

    def stop(self) -> None:
        """Ask it to stop, as a supervisor or a terminal does."""
        interrupt = getattr(signal, "CTRL_BREAK_EVENT", signal.SIGTERM)
        self.process.send_signal(interrupt)

    def end(self) -> tuple[int, str]:
        """Wait for its end; return its exit code and what it wrote to stderr."""
        code = self.process.wait(SECONDS)
        self._reader.join(SECONDS)
        return code, self.stderr

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.process.kill()
        self.end()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()

    def raw(self, data: bytes = b"") -> socket.socket:
        """Return a connection that has sent some bytes."""
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        found = socket.create_connection((parts.hostname, parts.port or 0), SECONDS)
        found.sendall(data)
        return found


@contextlib.contextmanager
def server(*arguments: str, env: dict[str, str] | None = None) -> Iterator[Server]:
    found = Server([*arguments], env)
    try:
        yield found
    finally:
        found.close()


def slow_server(**config: Any) -> Any:
    """A server of ``tests/serve/slow_server.py``, of one model named "fake"."""
    return server("-m", "tests.serve.slow_server", json.dumps(config))


def read_all(connection: socket.socket) -> bytes:
    """Return what comes until the other side closes the connection."""
    data = b""
    with connection, contextlib.suppress(ConnectionError):
        while chunk := connection.recv(65536):
            data += chunk
    return data


def events(lines: Iterator[str]) -> Iterator[dict[str, Any] | str]:
    """The events of a stream, taken apart unless it is the mark of its end."""
    for line in lines:
        if line.startswith("data: "):
            data = line.removeprefix("data: ")
            yield data if data == "[DONE]" else json.loads(data)
