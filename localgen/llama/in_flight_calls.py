"""Tracks calls into C that any thread may make at any time, so that closing can wait for them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from localgen.errors import CLOSED, ClosedError

Result = TypeVar("Result")


class InFlightCalls:
    """Calls that read a model without the driver: any number at once until ``end``, then none."""

    def __init__(self) -> None:
        # Each running call's thread, keyed by a lock that the call holds. ``with`` releases a lock
        # even if Ctrl-C arrives at the worst moment, which would leave a plain counter wrong.
        self._running: dict[Any, int] = {}
        self._has_ended = False
        self._pid = os.getpid()

    def run(self, call: Callable[[], Result]) -> Result:
        """Return the result of ``call``. Raises ClosedError after ``end``."""
        is_running = threading.Lock()
        with is_running:
            self._running[is_running] = threading.get_ident()
            try:
                if self._has_ended:  # checked only when ``end`` can see this call
                    raise ClosedError(CLOSED)
                return call()
            finally:
                self._running.pop(is_running, None)

    def end(self) -> None:
        """Wait until no call runs, and let no new one start.

        Ctrl-C stops the waiting; ``end`` may be called again. Raises RuntimeError in a signal
        handler that interrupted a call, since that call cannot continue before the handler returns.
        """
        running, here = tuple(self._running.items()), threading.get_ident()
        if any(thread == here and is_running.locked() for is_running, thread in running):
            raise RuntimeError("the model cannot be closed by a signal handler while it tokenizes")
        self._has_ended = True
        if os.getpid() != self._pid:
            return  # a fork lacks the other threads, so their calls would never end
        for is_running in tuple(self._running):
            with is_running:
                pass
