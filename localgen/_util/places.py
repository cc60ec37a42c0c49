"""Places: so many threads do something at a time; the others wait, unless nobody wants it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from localgen._util.wanted import SECONDS_BETWEEN_LOOKS, check_wanted


class Places:
    """Lets ``most`` threads through at a time."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.reset()

    def reset(self) -> None:
        """Free all places, as in a fork, where the threads that held them do not run."""
        self._free = threading.Semaphore(self._most)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Wait for a place, and hold it while the block runs. Raises Unwanted."""
        free = self._free
        while not free.acquire(timeout=SECONDS_BETWEEN_LOOKS):
            check_wanted()
        try:
            check_wanted()
            yield
        finally:
            free.release()
