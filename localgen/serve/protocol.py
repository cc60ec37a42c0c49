"""HttpProtocol: uvicorn's HTTP, with limits for connections that send no complete request, and for
those that take no answer."""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

# For the first line and the headers of a request; uvicorn itself waits for ever.
HEAD_SECONDS = 20.0
# For the system to take all that was written. It keeps some of it for a client that reads slowly.
UNREAD_SECONDS = 30.0
_SYSTEM_BYTES = 2**18
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
    """A connection. It is closed if a request's head does not arrive in time, or if an answer is
    not taken in time."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._head_timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin a connection, unless there are too many."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(0)  # ``pause_writing`` as soon as anything waits here
        own = transport.get_extra_info("socket")
        own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SYSTEM_BYTES)
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
        super().connection_lost(exc)  # which resumes writing

    def pause_writing(self) -> None:
        """Wait until the system has taken what was written."""
        super().pause_writing()
        self._unread_timer = self.loop.call_later(UNREAD_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: the system has taken it."""
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None
        super().resume_writing()

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
