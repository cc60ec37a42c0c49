"""Admission: how many requests run, who waits, for how long, and what the others are answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

from localgen.serve.client import client_of
from localgen.serve.fair_queue import FairQueue, Ticket
from localgen.serve.refusals import RATE_LIMIT, SERVER, Refusal, stopping
from localgen.serve.request_record import record_of

# A request that runs is asked to end by its deadline. If it has not after so many more seconds,
# because it still loads a model or reads its prompt, it is cut.
GRACE_SECONDS = 5.0
_MOST_RETRY_SECONDS = 600.0
# How much the newest request counts in the mean time of a row.
_NEWEST = 0.2


class Turn:
    """A request that runs. deadline: a time of ``time.monotonic()``, or None. free_places: lets
    others have its places."""

    def __init__(self, deadline: float | None, free_places: Callable[[], object]) -> None:
        self.deadline = deadline
        self.free_places = free_places
        self._refusal: Refusal | None = None
        task = asyncio.current_task()
        assert task is not None, "a turn belongs to a task"
        self._task = task

    def seconds_left(self) -> float | None:
        """Return the seconds until the deadline, above 0; None if there is none.

        Pass it as ``max_time``: the request then ends by itself with what it has.
        """
        return None if self.deadline is None else max(1e-3, self.deadline - time.monotonic())

    def cut(self, refusal: Refusal) -> None:
        """End the request: its task is cancelled, and the block of its turn raises ``refusal``."""
        if self._refusal is None:
            self._refusal = refusal
            self._task.cancel()

    @contextmanager
    def raising(self) -> Iterator[None]:
        """Replace the cancellation by ``cut`` with its refusal; any other one passes."""
        try:
            yield
        except asyncio.CancelledError:
            if self._refusal is None:
                raise
            if hasattr(self._task, "uncancel"):  # Python 3.11
                self._task.uncancel()
            raise self._refusal from None


class Admission:
    """Lets requests run in a fair order. It belongs to one event loop.

    max_running: rows that run at a time. max_waiting: requests that wait for them.
    deadline_seconds: for a request, its wait included; None is no limit. is_stopping: whether
    requests are refused, since the server stops.
    """

    def __init__(self, max_running: int, max_waiting: int, deadline_seconds: float | None) -> None:
        self._queue = FairQueue(max_running, max_waiting)
        self._deadline_seconds = deadline_seconds
        self._woken: dict[Ticket, asyncio.Future[None]] = {}
        self._running: set[Turn] = set()
        self._row_seconds: float | None = None  # of the last requests, their mean
        self.is_stopping = False

    @property
    def n_waiting(self) -> int:
        """Requests that wait."""
        return self._queue.n_waiting

    @property
    def n_running(self) -> int:
        """Rows that run."""
        return self._queue.n_running

    @property
    def n_requests(self) -> int:
        """Requests that run."""
        return len(self._running)

    @asynccontextmanager
    async def turn(self, request: Any, n_rows: int = 1) -> AsyncIterator[Turn]:
        """Wait until a request may run, and hold its places while the block runs.

        request: a starlette Request. n_rows: the texts that it generates. Raises Refusal: 429 if
        too many wait, 503 if its turn does not come before its deadline, if it runs for longer, or
        if the server stops.
        """
        started = time.monotonic()
        deadline = None if self._deadline_seconds is None else started + self._deadline_seconds
        ticket = await self._wait(client_of(request.scope), n_rows)
        begun = time.monotonic()
        try:
            turn = Turn(deadline, partial(self._leave, ticket))
            record_of(request.scope).waited = begun - started
            with turn.raising(), self._in_time(turn):
                yield turn
        finally:
            self._leave(ticket)
            self._measure(time.monotonic() - begun)

    def stop(self) -> None:
        """Refuse those that wait and those that come; those that run go on."""
        self.is_stopping = True
        for ticket in list(self._woken):
            self._refuse(ticket, stopping())

    def cut(self) -> None:
        """End those that run, with the Refusal of a server that stops."""
        self.stop()
        for turn in list(self._running):
            turn.cut(stopping())

    def retry_after(self) -> float:
        """Return the seconds until a request of one row would start, by the speed so far."""
        mean = 1.0 if self._row_seconds is None else self._row_seconds
        seconds = mean * self._queue.rows_ahead() / self._queue.max_running
        return min(_MOST_RETRY_SECONDS, max(1.0, seconds))

    async def _wait(self, client: str, n_rows: int) -> Ticket:
        """Return the ticket of a request that may run."""
        if self.is_stopping:
            raise stopping()
        ticket, dropped = self._queue.enter(client, n_rows)
        if dropped is ticket:
            raise self._too_many()
        if dropped is not None:
            self._refuse(dropped, self._too_many())
        woken = self._woken[ticket] = asyncio.get_running_loop().create_future()
        self._start()
        try:
            # Not asyncio.wait_for(): before Python 3.12 it can lose a cancellation.
            with self._until_too_late(ticket):
                await woken
        except BaseException:  # a refusal, or a client that left
            self._leave(ticket)
            raise
        finally:
            del self._woken[ticket]
            if woken.done() and not woken.cancelled():
                woken.exception()  # so that asyncio does not report one that nobody awaited
        return ticket

    def _start(self) -> None:
        """Start all that find places."""
        while (ticket := self._queue.start_next()) is not None:
            woken = self._woken[ticket]
            if not woken.done():
                woken.set_result(None)

    def _leave(self, ticket: Ticket) -> None:
        self._queue.leave(ticket)
        self._start()

    def _refuse(self, ticket: Ticket, refusal: Refusal) -> None:
        """Refuse a request, unless it may run already."""
        woken = self._woken[ticket]
        if not woken.done():
            woken.set_exception(refusal)

    @contextmanager
    def _until_too_late(self, ticket: Ticket) -> Iterator[None]:
        """Refuse a request that still waits at its deadline."""
        if self._deadline_seconds is None:
            yield
            return
        loop = asyncio.get_running_loop()
        timer = loop.call_later(
            self._deadline_seconds, lambda: self._refuse(ticket, self._too_late())
        )
        try:
            yield
        finally:
            timer.cancel()

    @contextmanager
    def _in_time(self, turn: Turn) -> Iterator[None]:
        """Let a turn be cut, by ``cut()`` or when it runs for much too long."""
        timer = None
        if turn.deadline is not None:
            seconds = turn.deadline + GRACE_SECONDS - time.monotonic()
            timer = asyncio.get_running_loop().call_later(seconds, turn.cut, _timed_out())
        self._running.add(turn)
        try:
            yield
        finally:
            self._running.remove(turn)
            if timer is not None:
                timer.cancel()

    def _measure(self, seconds: float) -> None:
        mean = self._row_seconds
        self._row_seconds = seconds if mean is None else mean + _NEWEST * (seconds - mean)

    def _too_many(self) -> Refusal:
        return Refusal(
            429,
            f"{self._queue.n_waiting} requests wait already, the most that this server lets wait; "
            f"send this one again later",
            type=RATE_LIMIT,
            code="rate_limit_exceeded",
            retry_after=self.retry_after(),
        )

    def _too_late(self) -> Refusal:
        return Refusal(
            503,
            f"no place came free within the {self._deadline_seconds:g} seconds that a request may "
            f"take; send it again later",
            type=SERVER,
            code="request_timeout",
            retry_after=self.retry_after(),
        )


def _timed_out() -> Refusal:
    return Refusal(
        503,
        "the request took longer than this server allows, and was ended",
        type=SERVER,
        code="request_timeout",
    )
