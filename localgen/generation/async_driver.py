"""Requests of asyncio tasks: a thread drives the engine for them while there are any."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass, field

from localgen.engine.request import Request
from localgen.generation.driver import Driver


class AsyncDriver:
    """Runs requests without blocking the event loop that awaits them.

    The thread starts with the first request and ends with the last one. It is a daemon: Python does
    not wait for tasks that are pending at its end either; see ``driver.close_at_exit``.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._lock = threading.Lock()
        self._requests: list[Request] = []
        self._is_running = False
        self._waiters: tuple[_Waiter, ...] = ()
        driver.watch(self._wake_tasks)

    async def run(self, request: Request) -> None:
        """Return when a request is done; raises its error. Being cancelled cancels the request."""
        async for _ in self.steps(request, lambda: False):
            pass

    async def steps(
        self, request: Request, is_enough: Callable[[], bool]
    ) -> AsyncGenerator[None, None]:
        """Yield each time that ``is_enough()``, and when the request is done.

        Raises RuntimeError where no event loop of asyncio runs.
        """
        waiter = _Waiter(request, is_enough, check_asyncio())
        started, counted = time.perf_counter(), request.timings.total
        try:
            with self._lock:
                self._waiters += (waiter,)
            self.start(request)
            while not request.done:
                await waiter.wait()
                request.timings.count_wait(started, counted)
                if not request.done:
                    yield
                    started, counted = time.perf_counter(), request.timings.total
            if request.error is not None:
                raise request.error
            yield
        finally:
            request.is_cancelled = True
            with self._lock:
                self._waiters = tuple(each for each in self._waiters if each is not waiter)

    def start(self, request: Request) -> None:
        """Submit a request, and run it to its end, whoever waits for it."""
        self._driver.submit(request)
        with self._lock:
            self._requests.append(request)
            if not self._is_running:
                threading.Thread(target=self._work, name="localgen-async", daemon=True).start()
                self._is_running = True

    def _work(self) -> None:
        while True:
            with self._lock:
                self._requests = [request for request in self._requests if not request.done]
                if not self._requests:
                    self._is_running = False
                    return
                request = self._requests[0]
            try:
                self._driver.run(request, counts_wait=False)  # ``steps`` counts it
            except BaseException:
                # It is the request's, and is raised where that is awaited.
                continue

    def _wake_tasks(self) -> None:
        """Wake the tasks whose time has come: those of one event loop together, which costs as much
        as one."""
        due: dict[asyncio.AbstractEventLoop, list[_Waiter]] = {}
        for waiter in self._waiters:
            if waiter.is_waiting and waiter.is_time:
                due.setdefault(waiter.loop, []).append(waiter)
        for loop, waiters in due.items():
            try:
                loop.call_soon_threadsafe(_wake, waiters)
            except RuntimeError:
                # The event loop was closed, so nobody waits any more; whoever drives must not
                # suffer.
                for waiter in waiters:
                    waiter.request.is_cancelled = True


@dataclass(slots=True, eq=False)
class _Waiter:
    """A task that waits for its request. is_waiting: read by the thread that drives."""

    request: Request
    is_enough: Callable[[], bool]
    loop: asyncio.AbstractEventLoop
    is_waiting: bool = False
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_time(self) -> bool:
        return self.request.done or self.is_enough()

    async def wait(self) -> None:
        """Return when it is time."""
        self.is_waiting = True  # before it looks, so that no step is missed in between
        while not self.is_time:
            await self.woken.wait()
            self.woken.clear()
        self.is_waiting = False


def _wake(waiters: Iterable[_Waiter]) -> None:
    for waiter in waiters:
        waiter.woken.set()


def check_asyncio() -> asyncio.AbstractEventLoop:
    """Return the running event loop. Raises RuntimeError where none of asyncio runs."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "acomplete(), achat() and astream() need a running asyncio event loop. In trio, run "
            "complete(), chat() or stream() in a thread: await trio.to_thread.run_sync(...)"
        ) from None
