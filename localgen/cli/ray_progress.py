"""The progress of a job on Ray, as text; it knows neither Ray nor models."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

from localgen._util.plain_progress import as_duration

SECONDS_BETWEEN_LINES = 10.0
# More workers are summed up.
_MOST_NAMED = 8


class RayProgress:
    """Counts rows and tokens, in all and by worker; a thread may print what another one counts.

    step: what happens before rows run. n_rows: how many this run has; 0 if unknown. clock: seconds,
    as ``time.monotonic``.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.RLock()
        self.step = ""
        self.n_rows = 0
        self.n_done = 0
        self.n_failed = 0
        self._clock = clock
        self._n_new = 0
        self._started: float | None = None
        # Since the last line, by worker: tokens. All that have ever worked.
        self._recent: Counter[str] = Counter()
        self._since = 0.0
        self._step_since = 0.0

    def begin_step(self, step: str) -> None:
        """Note what happens now, before rows run."""
        with self._lock:
            self.step = step
            self._step_since = self._clock()

    @property
    def has_started(self) -> bool:
        """Whether rows run."""
        return self._started is not None

    def start(self, n_rows: int | None = None) -> None:
        """Note that rows run from now on, and how many there are if that was unknown."""
        with self._lock:
            if n_rows is not None:
                self.n_rows = n_rows
            self._started = self._since = self._clock()

    def add(self, worker: str, n_new: int, *, is_failed: bool) -> None:
        """Note that a row has ended."""
        with self._lock:
            if self._started is None:
                self.start()
            self.n_done += not is_failed
            self.n_failed += is_failed
            self._n_new += n_new
            self._recent[worker] += n_new

    @property
    def n_ended(self) -> int:
        """How many rows have ended, those that failed included."""
        return self.n_done + self.n_failed

    def line(self) -> str:
        """Return what has ended, how fast, how long the rest takes, and each worker's speed since
        the last line; before rows run, the step and how long it has taken."""
        with self._lock:
            now = self._clock()
            if not self.has_started:
                return f"{self.step}, for {as_duration(now - self._step_since)} now"
            workers = self._workers(now - self._since)
            self._since = now
            self._recent = Counter(dict.fromkeys(self._recent, 0))
            return "; ".join(part for part in (self.summary(), workers) if part)

    def counts(self) -> str:
        """Return how many rows have ended."""
        done = f"{self.n_done} of {self.n_rows} done" if self.n_rows else f"{self.n_done} done"
        return f"{done}, {self.n_failed} failed" if self.n_failed else done

    def summary(self) -> str:
        """Return what has ended, how fast, and how long the rest takes."""
        n_ended = self.n_ended
        parts = [self.counts()]
        seconds = 0.0 if self._started is None else self._clock() - self._started
        if seconds >= 1 and not n_ended:
            parts.append(f"running for {as_duration(seconds)}")
        elif seconds >= 1:
            parts.append(f"{n_ended / seconds:.1f} rows/s")
            parts.append(f"{self._n_new / seconds:.0f} tokens/s")
        if seconds >= 1 and 0 < n_ended < self.n_rows:
            left = (self.n_rows - n_ended) * seconds / n_ended
            parts.append(f"about {as_duration(left)} left")
        return ", ".join(parts)

    def _workers(self, seconds: float) -> str:
        """Return the tokens per second of each worker, or of the slowest and the fastest."""
        if seconds <= 0 or not self._recent:
            return ""
        speeds = {name: n / seconds for name, n in sorted(self._recent.items())}
        if len(speeds) > _MOST_NAMED:
            slowest, fastest = min(speeds.values()), max(speeds.values())
            return f"{len(speeds)} workers, {slowest:.0f} to {fastest:.0f} tokens/s each"
        return "tokens/s by worker: " + ", ".join(f"{name} {n:.0f}" for name, n in speeds.items())
