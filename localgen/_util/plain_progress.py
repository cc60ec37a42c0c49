"""Progress as lines of text, where stderr is a file or a pipe; it draws nothing.

The first line comes after some seconds, and each later one after a longer pause, so that the log of
a night has some dozens.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

_FIRST_SECONDS = 10.0
_LONGEST_PAUSE = 300.0
# Each pause is this part of the time that has passed.
_SHARE = 0.5


class PlainProgress:
    """Prints how far a work is, at most now and then; call ``step`` as often as you like.

    clock: seconds, as ``time.monotonic``.
    """

    def __init__(self, title: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._title = title
        self._clock = clock
        self._started = clock()
        self._due = self._started + _FIRST_SECONDS
        self._first: tuple[int, float] | None = None

    def step(self, n_done: int, n_steps: int, what: str) -> None:
        """Tell that ``n_done`` of ``n_steps`` are done, and what is next."""
        now = self._clock()
        if self._first is None:
            self._first = (n_done, now)
        if now < self._due:
            return
        pause = max(_FIRST_SECONDS, _SHARE * (now - self._started))
        self._due = now + min(_LONGEST_PAUSE, pause)
        number = f"{n_done} of {n_steps}" if n_steps else f"{n_done}"
        left = self._left(n_done, n_steps, now)
        print(f"localgen: {self._title}: {number}{left}; {what}", file=sys.stderr)

    def _left(self, n_done: int, n_steps: int, now: float) -> str:
        """Return how long it will take, by the mean of the steps so far."""
        assert self._first is not None
        n_before, since = self._first
        if n_done <= n_before or not n_steps:
            return ""
        seconds = (now - since) / (n_done - n_before) * (n_steps - n_done)
        return f", about {as_duration(seconds)} left" if seconds >= 1 else ""


def as_duration(seconds: float) -> str:
    """Return a rough duration: 40 s, 3 min, 1.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
