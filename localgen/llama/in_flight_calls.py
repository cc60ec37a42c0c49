"""Calls into C that any thread may make at any time, and the end that waits for them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from localgen.errors import CLOSED, ClosedError

Result = TypeVar("Result")


class InFlightCalls:
    """What reads a model outside of its turns: until ``end`` any number at once, then none."""

    def __init__(self) -> None:
        # The thread of each running call, by a lock that the call holds. ``with`` gives a lock back
        # even if Ctrl-C comes at the worst moment, which would leave a mere count wrong.
        self._running: dict[Any, int] = {}
        self._has_ended = False
        self._pid = os.getpid()

    def run(self, call: Callable[[], Result]) -> Result:
        """What ``call`` returns. Raises ClosedError after ``end``."""
        is_running = threading.Lock()
        with is_running:
            self._running[is_running] = threading.get_ident()
            try:
                if self._has_ended:  # looked at once ``end`` can see this call
                    raise ClosedError(CLOSED)
                return call()
            finally:
                self._running.pop(is_running, None)

    def end(self) -> None:
        """Return once no call runs, and let none begin any more.

        Ctrl-C ends the waiting; it may be called again. Raises RuntimeError in a signal handler
        that came in the middle of a call, which could not go on before the handler is done.
        """
        running, here = tuple(self._running.items()), threading.get_ident()
        if any(thread == here and is_running.locked() for is_running, thread in running):
            raise RuntimeError(
                "the model cannot be closed by a signal's handler while it tokenizes"
            )
        self._has_ended = True
        if os.getpid() != self._pid:
            return  # the threads that a fork lacks would never be done
        for is_running in tuple(self._running):
            with is_running:
                pass
