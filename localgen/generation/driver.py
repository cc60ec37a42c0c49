"""Threads take turns at driving one engine; it knows requests, not what is in them.

Whoever waits for a request drives the engine, for all requests, unless another thread already does:
then it sleeps until that one has what it wants or stops driving. There is no thread of its own, so
a call from a single thread costs no switch, and its Ctrl-C is its own.

Ctrl-C raises nothing from before a turn is taken until it was given back, so that neither the turn
nor the engine is torn: those who wait or drive look whether it came.
"""

from __future__ import annotations

import atexit
import functools
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from copy import copy
from weakref import ref

from localgen._util.interrupts import DeferredInterrupt, gets_interrupts, second_interrupt_raises
from localgen._util.threads import thread_in_charge
from localgen.engine.engine import Engine
from localgen.engine.request import Request
from localgen.errors import CLOSED, ClosedError
from localgen.generation.model_backend import ModelBackend

# How often a thread that sleeps looks whether Ctrl-C came; all else wakes it.
_SECONDS_BETWEEN_LOOKS = 0.05
_REENTRY = (
    "the model was called by its own callback (a logits processor, stopping criterion, streamer or "
    "log handler); use a second model there"
)


class Driver:
    """Lets one thread at a time drive ``engine``."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._changed = threading.Condition()
        self._driver: int | None = None
        self._n_asleep = 0
        # Those that need the turn between two steps only: a driver lets them in, every other turn.
        self._n_urgent = 0
        self._was_urgent = False
        self._watchers: tuple[Callable[[], object], ...] = ()
        self._is_closing = False
        self._closed_by: BaseException | None = None

    def announce_passes(self, on_pass: Callable[[Collection[Request]], object]) -> None:
        """Call ``on_pass`` with the requests of each pass before it runs; see ``Engine``."""
        self._engine.on_pass = on_pass

    def run(
        self,
        request: Request,
        is_enough: Callable[[], bool] = lambda: False,
        *,
        counts_wait: bool = True,
    ) -> None:
        """Return once ``is_enough()`` or the request is done.

        counts_wait: add the time in which only others had their turn to the request's timings.
        Raises the request's error. Ctrl-C ends the request and raises KeyboardInterrupt.
        """
        self.refuse_reentry()
        with DeferredInterrupt() as interrupted:
            try:
                while not (request.done or is_enough()):
                    self._drive(request, is_enough, interrupted, counts_wait=counts_wait)
            except BaseException as error:
                if isinstance(error, Exception) and not request.done:
                    request.error = error  # for others that wait for this request
                self.cancel(request)
                raise
        if request.error is not None:
            raise request.error

    def submit(self, request: Request) -> None:
        """Let a request take part; some thread must then drive."""
        self.refuse_reentry()
        try:
            with DeferredInterrupt(), self._changed:
                self._check_open()
                self._engine.submit(request)
        except KeyboardInterrupt:
            request.is_cancelled = True  # nobody will drive for it
            raise

    def watch(self, look: Callable[[], object]) -> None:
        """Call ``look`` after each step and each end of a turn, in whatever thread: in two at a
        time, perhaps. It must not wait."""
        self._watchers += (look,)

    def cancel(self, request: Request) -> None:
        """End a request, and wait until it has ended.

        Ctrl-C ends the waiting: whoever drives then ends the request at its next step.
        """
        self.refuse_reentry()
        request.is_cancelled = True
        with DeferredInterrupt() as interrupted:
            try:
                if self._take_turn(lambda: request.done, interrupted, urgent=True):
                    self._engine.end(request, "cancelled")
            finally:
                self._give_turn_back()

    @contextmanager
    def alone(self) -> Iterator[tuple[Engine, Callable[[], bool]]]:
        """Lend engine and backend between two steps.

        Ctrl-C inside only makes the second function return True, and is raised at the end. It
        ends the waiting for the turn.
        """
        with self._turn() as interrupted:
            self._check_open()
            yield self._engine, interrupted

    def close(self, error: BaseException, free: Callable[[], object]) -> None:
        """End every request with ``error``, as all later ones will, and then ``free()``.

        Ctrl-C ends the waiting for the turn; a second one ends ``free()``, if it waits.
        """
        with self._turn():
            with self._changed:
                self._closed_by = error
            if self._is_closing:
                self._engine.cancel_all()
            self._engine.end_all(error)
            with second_interrupt_raises():
                free()

    def close_within(
        self, seconds: float, error: BaseException, free: Callable[[], object]
    ) -> bool:
        """``close``, unless another thread still drives after ``seconds``; returns whether it was
        closed.

        What runs ends with "cancelled".
        """
        self._is_closing = True
        with self._changed:
            self._n_urgent += 1
            try:
                is_free = self._changed.wait_for(lambda: self._driver is None, seconds)
            finally:
                self._n_urgent -= 1
        if is_free:
            self.close(error, free)
        return is_free

    def refuse_reentry(self) -> None:
        """Raise RuntimeError in a callback of a step, which must not start another."""
        if self._driver == thread_in_charge():
            raise RuntimeError(_REENTRY)

    def _check_open(self) -> None:
        if self._closed_by is not None:
            raise copy(self._closed_by)

    # --- turns ---

    @contextmanager
    def _turn(self) -> Iterator[Callable[[], bool]]:
        self.refuse_reentry()
        with DeferredInterrupt() as interrupted:
            try:
                self._take_turn(lambda: False, interrupted, urgent=True)
                yield interrupted
            finally:
                self._give_turn_back()

    def _take_turn(
        self,
        is_enough: Callable[[], bool],
        interrupted: Callable[[], bool],
        *,
        urgent: bool = False,
    ) -> bool:
        """Sleep while another thread drives; True if this one now has to, False if there is no
        need any more. Raises KeyboardInterrupt if it would sleep and ``interrupted()``."""
        with self._changed:
            self._n_asleep += 1
            self._n_urgent += urgent
            try:
                while not is_enough() and (self._driver is not None or self._yields(urgent)):
                    self._sleep(interrupted)
            finally:
                self._n_asleep -= 1
                self._n_urgent -= urgent
                if urgent:
                    self._changed.notify_all()
            if is_enough():
                return False
            self._driver, self._was_urgent = threading.get_ident(), urgent
            return True

    def _sleep(self, interrupted: Callable[[], bool]) -> None:
        """Wait until something has changed. Ctrl-C wakes nobody, so it is looked for."""
        gets_signals = gets_interrupts()
        is_awake = False
        while not is_awake:
            if interrupted():
                raise KeyboardInterrupt
            is_awake = self._changed.wait(_SECONDS_BETWEEN_LOOKS if gets_signals else None)

    def _wait_for_turn(
        self,
        request: Request,
        is_enough: Callable[[], bool],
        interrupted: Callable[[], bool],
        *,
        counts: bool,
    ) -> bool:
        started, counted = time.perf_counter(), request.timings.total
        try:
            return self._take_turn(lambda: request.done or is_enough(), interrupted)
        finally:
            if counts:
                request.timings.count_wait(started, counted)

    def _yields(self, urgent: bool) -> bool:
        return not urgent and self._n_urgent > 0 and not self._was_urgent

    def _give_turn_back(self) -> None:
        """Give the turn if this thread has it."""
        if self._driver != threading.get_ident():
            return
        with self._changed:
            self._driver = None
            if self._n_asleep or self._n_urgent:
                self._changed.notify_all()
        self._wake()

    def _drive(
        self,
        request: Request,
        is_enough: Callable[[], bool],
        interrupted: Callable[[], bool],
        *,
        counts_wait: bool,
    ) -> None:
        """Take the turn if there still is need, and run steps until there is none or another thread
        needs the turn."""
        should_stop = lambda: interrupted() or self._is_closing  # noqa: E731
        try:
            if not self._wait_for_turn(request, is_enough, interrupted, counts=counts_wait):
                return
            while not (request.done or is_enough()):
                self._engine.step(should_stop)
                if interrupted():
                    self._engine.end(request, "cancelled")
                    raise KeyboardInterrupt
                if self._is_closing:
                    self._engine.cancel_all()
                self._wake()
                if self._n_urgent:
                    break
        finally:
            self._give_turn_back()

    def _wake(self) -> None:
        """Let other threads, and who watches, see what a step has changed."""
        if self._n_asleep:
            with self._changed:
                self._changed.notify_all()
        for look in self._watchers:
            look()


# --- when Python ends ---

# A step takes less; a caller's function that blocks may never return.
_EXIT_SECONDS = 5.0
# Plain references: what a WeakKeyDictionary does in Python when a key dies can lose a Ctrl-C.
_open: list[tuple[ref[Driver], ref[ModelBackend]]] = []


def close_at_exit(driver: Driver, backend: ModelBackend) -> None:
    """Close ``backend`` when Python ends, if it is open then.

    Daemon threads still run at that time: what they generate ends first. If that takes too long,
    nothing is freed.
    """
    _register()
    _open[:] = [pair for pair in _open if pair[0]() is not None]
    _open.append((ref(driver), ref(backend)))


@functools.cache
def _register() -> None:
    # Such functions run in reverse order: as the first backend is there, before its finalizer.
    atexit.register(_close_all)


def _close_all() -> None:
    for driver, backend in [(driver(), backend()) for driver, backend in _open]:
        if driver is None or backend is None:
            continue
        if backend.is_forked:
            backend.close()
        elif not driver.close_within(_EXIT_SECONDS, ClosedError(CLOSED), backend.close):
            backend.leave()
