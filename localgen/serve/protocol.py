"""HttpProtocol: uvicorn's HTTP, with a limit for connections that send no complete request."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

# For the first line and the headers of a request; uvicorn itself waits for ever.
HEAD_SECONDS = 20.0
# A connection is an open file, of which a process may often have 1024, on macOS 256. It needs some
# for models, and for the connections that are accepted before the first of them is refused.
_MOST_CONNECTIONS, _LEAST_CONNECTIONS = 900, 16
_OTHER_FILES = 124


def most_connections() -> int:
    """Return how many connections may be open at a time."""
    if sys.platform == "win32":
        return _MOST_CONNECTIONS
    import resource  # noqa: PLC0415  # Windows has none

    n_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if n_files == resource.RLIM_INFINITY:
        return _MOST_CONNECTIONS
    return min(_MOST_CONNECTIONS, max(_LEAST_CONNECTIONS, n_files - _OTHER_FILES))


class HttpProtocol(H11Protocol):
    """A connection. It is closed if a request's head does not arrive in time."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin a connection, unless there are too many."""
        super().connection_made(transport)
        if len(self.connections) > most_connections():
            transport.abort()
        else:
            self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """Take what has arrived."""
        super().data_received(data)
        # Between requests, uvicorn's own timer has ended with the first byte of the next one.
        if self.conn.their_state is h11.IDLE:
            self._wait_for_head()
        else:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the connection."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait_for_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.abort()
