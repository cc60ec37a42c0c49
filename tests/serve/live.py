"""A server on a port of this machine, in a thread of this process."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import uvicorn

from localgen.serve.app import create_app
from localgen.serve.config import ServeConfig
from tests.serve.pools import pool_of

SECONDS = 60.0


class _Server(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_listening = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_listening.set()


@contextmanager
def listening(model: Any, name: str = "fake", **config: Any) -> Iterator[tuple[str, Any]]:
    """Yield the URL of a server of one model, and its application."""
    app = create_app(pool_of(model, name), ServeConfig(**{"access_log": False, **config}))
    own = socket.socket()
    own.bind(("127.0.0.1", 0))
    server = _Server(uvicorn.Config(app, log_level="error", access_log=False, lifespan="on"))
    thread = threading.Thread(target=server.run, args=([own],), daemon=True)
    thread.start()
    assert server.is_listening.wait(SECONDS)
    try:
        yield f"http://127.0.0.1:{own.getsockname()[1]}", app
    finally:
        server.should_exit = True
        thread.join(SECONDS)
        own.close()


def connect(url: str, path: str, body: dict[str, Any]) -> socket.socket:
    """Send a request, and return its connection."""
    place = urlsplit(url)
    data = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {place.netloc}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    connection = socket.create_connection(("127.0.0.1", place.port or 0), SECONDS)
    connection.sendall(head.encode() + data)
    return connection


def until(is_time: Callable[[], bool]) -> None:
    """Return once it is time, which must come."""
    pause, deadline = threading.Event(), time.monotonic() + SECONDS
    while not is_time():
        assert time.monotonic() < deadline
        pause.wait(0.001)
