"""Threads take turns at driving one loop; it knows requests, not what is in them.

Whoever waits for a request drives the loop, for all requests, unless another thread already does:
then it sleeps until that one has what it wants or stops driving. There is no thread of its own, so
a call from a single thread costs no switch, and its Ctrl-C is its own.
"""

from __future__ import annotations

import importlib
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from types import FrameType
from typing import Any

from localgen.engine.engine import Engine
from localgen.engine.request import Request

_REENTRY = (
    "the model was called by its own callback (a logits processor, stopping criterion or "
    "streamer); use a second model there"
)


# ``signal`` wraps these to make an enum of what they give, which for a function fails by way of an
# exception: of all that a stream does for a token, only choosing it took longer.
_signals: Any = importlib.import_module("_signal")
_get_handler, _set_handler = _signals.getsignal, _signals.signal
_SIGINT = int(signal.SIGINT)


class Driver:
    """The right to drive ``loop``, which one thread has at a time."""

    def __init__(self, loop: Engine) -> None:
        self._loop = loop
        self._changed = threading.Condition()
        self._driver: int | None = None
        self._n_asleep = 0
        # Those that need the turn between two steps only: a driver lets them in, every other turn.
        self._n_urgent = 0
        self._was_urgent = False
        self._alarms: list[tuple[Callable[[], bool], Callable[[], object]]] = []
        self._closed_by: BaseException | None = None

    def run(self, request: Request, is_enough: Callable[[], bool] = lambda: False) -> None:
        """Return once ``is_enough()`` or the request is done.

        Raises the request's error. Ctrl-C ends the request and raises KeyboardInterrupt.
        """
        self.refuse_reentry()
        try:
            while not (request.done or is_enough()):
                if self._take_turn(lambda: request.done or is_enough()):
                    self._drive(request, is_enough)
        except BaseException as error:
            with _DeferredInterrupt():
                self._give_turn_back()
                if isinstance(error, Exception) and not request.done:
                    request.error = error  # for others that wait for this request
                self.cancel(request)
            raise
        if request.error is not None:
            raise request.error

    def submit(self, request: Request) -> None:
        """Let a request take part; some thread must then drive."""
        self.refuse_reentry()
        with self._changed:
            self._check_open()
            self._loop.submit(request)

    def call_when(self, is_time: Callable[[], bool], call: Callable[[], object]) -> None:
        """Call once, after a step in whatever thread, as soon as ``is_time()``."""
        with self._changed:
            if not is_time():
                self._alarms.append((is_time, call))
                return
        call()

    def cancel(self, request: Request) -> None:
        """End a request, and wait until it has ended."""
        self.refuse_reentry()
        request.is_cancelled = True
        try:
            if self._take_turn(lambda: request.done, urgent=True):
                self._loop.end(request, "cancelled")
        finally:
            self._give_turn_back()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """The right to use loop and backend between two steps."""
        with self._turn():
            self._check_open()
            yield

    def close(self, error: BaseException, free: Callable[[], object]) -> None:
        """End every request with ``error``, as all later ones will, and then ``free()``."""
        with self._turn():
            with self._changed:
                self._closed_by = error
            self._loop.end_all(error)
            free()

    def close_within(
        self, seconds: float, error: BaseException, free: Callable[[], object]
    ) -> bool:
        """``close``, unless another thread still drives after ``seconds``; whether it was closed.

        What runs ends with "cancelled".
        """
        self._loop.stop_all()
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
        """RuntimeError in a callback of a step, which must not start another."""
        if self._driver == threading.get_ident():
            raise RuntimeError(_REENTRY)

    def _check_open(self) -> None:
        if self._closed_by is not None:
            raise copy(self._closed_by)

    # --- turns ---

    @contextmanager
    def _turn(self) -> Iterator[None]:
        self.refuse_reentry()
        try:
            self._take_turn(lambda: False, urgent=True)
            yield
        finally:
            self._give_turn_back()

    def _take_turn(self, is_enough: Callable[[], bool], *, urgent: bool = False) -> bool:
        """Sleep while another thread drives; True if this one now has to, False if there is no
        need any more."""
        with self._changed:
            self._n_asleep += 1
            self._n_urgent += urgent
            try:
                while not is_enough() and (self._driver is not None or self._yields(urgent)):
                    self._changed.wait()
            finally:
                self._n_asleep -= 1
                self._n_urgent -= urgent
                if urgent:
                    self._changed.notify_all()
            if is_enough():
                return False
            self._driver, self._was_urgent = threading.get_ident(), urgent
            return True

    def _yields(self, urgent: bool) -> bool:
        return not urgent and self._n_urgent > 0 and not self._was_urgent

    def _give_turn_back(self) -> None:
        """Give the turn if this thread has it, as after a Ctrl-C when it was just taken."""
        if self._driver == threading.get_ident():
            self._give_turn()

    def _give_turn(self) -> None:
        with self._changed:
            self._driver = None
            if self._n_asleep or self._n_urgent:
                self._changed.notify_all()
        self._wake()

    def _drive(self, request: Request, is_enough: Callable[[], bool]) -> None:
        with _DeferredInterrupt() as interrupted:
            try:
                while not (request.done or is_enough()):
                    self._loop.step(interrupted)
                    if interrupted():
                        self._loop.end(request, "cancelled")
                        raise KeyboardInterrupt
                    self._wake()
                    if self._n_urgent:
                        break
            finally:
                self._give_turn()

    def _wake(self) -> None:
        """Let other threads, and alarms, see what a step has changed."""
        if not (self._n_asleep or self._alarms):
            return
        with self._changed:
            self._changed.notify_all()
            due = [alarm for alarm in self._alarms if alarm[0]()]
            self._alarms = [alarm for alarm in self._alarms if alarm not in due]
        for _, call in due:
            call()


class _DeferredInterrupt:
    """Ctrl-C inside only makes the function that this gives return True: a step is not torn apart.

    A second one is raised at once, as in ``asyncio.run``. Another handler than Python's own is left
    alone, and other threads get no signals. A class, since a stream makes one for each token, and a
    generator takes longer to make.
    """

    __slots__ = ("_defers", "_is_interrupted")

    def __enter__(self) -> Callable[[], bool]:
        self._is_interrupted = False
        self._defers = (
            threading.get_ident() == threading.main_thread().ident
            and _get_handler(_SIGINT) is signal.default_int_handler
        )
        if self._defers:
            _set_handler(_SIGINT, self._note)
        return self._interrupted

    def __exit__(self, error: object, *_: object) -> None:
        if self._defers:
            _set_handler(_SIGINT, signal.default_int_handler)
            if self._is_interrupted and error is None:
                raise KeyboardInterrupt

    def _interrupted(self) -> bool:
        return self._is_interrupted

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        if self._is_interrupted:
            # Here, for it may come where the handler of before is about to be put back.
            _set_handler(_SIGINT, signal.default_int_handler)
            raise KeyboardInterrupt
        self._is_interrupted = True
