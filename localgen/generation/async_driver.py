"""Requests of asyncio tasks: a thread drives the engine for them while there are any."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable

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
        loop = check_asyncio()
        started, counted = time.perf_counter(), request.timings.total
        try:
            self._driver.submit(request)
            self._drive(request)
            while not request.done:
                woken = asyncio.Event()
                self._driver.call_when(
                    lambda: request.done or is_enough(),
                    lambda woken=woken: _wake(loop, woken, request),  # type: ignore[misc]
                )
                await woken.wait()
                request.timings.count_wait(started, counted)
                if not request.done:
                    yield
                    started, counted = time.perf_counter(), request.timings.total
            if request.error is not None:
                raise request.error
            yield
        finally:
            request.is_cancelled = True

    def _drive(self, request: Request) -> None:
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


def check_asyncio() -> asyncio.AbstractEventLoop:
    """Return the running event loop. Raises RuntimeError where none of asyncio runs."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "acomplete(), achat() and astream() need a running asyncio event loop. In trio, run "
            "complete(), chat() or stream() in a thread: await trio.to_thread.run_sync(...)"
        ) from None


def _wake(loop: asyncio.AbstractEventLoop, woken: asyncio.Event, request: Request) -> None:
    """Tell a task, from another thread, that its request has moved on."""
    try:
        loop.call_soon_threadsafe(woken.set)
    except RuntimeError:
        # The event loop was closed, so nobody waits any more; whoever drives must not suffer.
        request.is_cancelled = True
