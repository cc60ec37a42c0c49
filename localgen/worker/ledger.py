"""Which calls were running when the worker ended: one that was twice is not run again."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

_MOST_CALLS = 1024
_SECONDS_KEPT = 3600.0
N_ALLOWED = 1  # ends of the worker


class CrashLedger:
    """Counts how often the worker ended while it computed a call, by the call's fingerprint.

    The least recent entries are dropped, as are those that are an hour old.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._entries: OrderedDict[bytes, tuple[int, float]] = OrderedDict()

    def count(self, fingerprint: bytes) -> int:
        """Return how often the worker ended while it computed this call."""
        n_ends, noted_at = self._entries.get(fingerprint, (0, 0.0))
        if n_ends and self._clock() - noted_at > _SECONDS_KEPT:
            del self._entries[fingerprint]
            return 0
        return n_ends

    def blame(self, fingerprint: bytes) -> int:
        """Count one more end of the worker; return the count."""
        n_ends = self.count(fingerprint) + 1
        self._entries[fingerprint] = n_ends, self._clock()
        self._entries.move_to_end(fingerprint)
        while len(self._entries) > _MOST_CALLS:
            self._entries.popitem(last=False)
        return n_ends

    def clear(self, fingerprint: bytes) -> None:
        """Forget a call, which has run to its end."""
        self._entries.pop(fingerprint, None)
