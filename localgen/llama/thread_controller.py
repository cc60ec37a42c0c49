"""Chooses how many threads the next forward pass gets, by the time that earlier ones took.

It knows no llama.cpp and no clock: it is told what each pass took.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

# Other programs take CPUs from a calling thread that has computed for less than this share of its
# passes' time. On a quiet machine it is 0.97 or more, since waiting threads spin; beside as many
# busy processes as CPUs it is a half.
_CROWDED = 0.8
# The share is taken over so many seconds: Windows counts a thread's time in steps of 16 ms.
_WINDOW_SECONDS = 0.25
# Trials that changed nothing may take this part of the time.
_TRIAL_SHARE = 0.02
_LEAST_REST = 0.25
# A trial has so many turns with each number of threads.
_N_TURNS = 2
# What is tried is given up after its first turn if it takes this many times as long.
_CLEARLY_SLOWER = 1.4
# Otherwise it must take less than this share of the time of what is used.
_FASTER = 0.95
# A trial among passes of many sizes ends undecided after so many of them.
_MOST_PASSES = 200


class ThreadController:
    """Starts with ``most`` threads and uses fewer while other programs take CPUs.

    n_passes: those of each turn of a trial. With several, neither the first pass after a change nor
    a disturbance decides it alone; long passes are too dear for that.

    Ask ``threads_for`` before each pass, and ``note`` what it took. Only a trial decides: passes of
    one size in turns with the present number of threads and with a smaller or larger one. Fewer
    threads are tried when the calling thread does not get its CPU, and still fewer if that does not
    help: all numbers above that of the free CPUs may be as slow. More threads are tried again and
    again, since only a trial shows that the machine is quiet.

    levels: the numbers of threads that it may choose, rising.
    """

    def __init__(self, most: int, n_passes: int = 3) -> None:
        self._n_passes = n_passes
        self.levels = thread_counts(most)
        self._level = len(self.levels) - 1
        self._trial: _Trial | None = None
        self._rest = 0.0
        self._went_up = False
        self._step_down = 1
        self._seconds = self._cpu_seconds = 0.0

    @property
    def n_threads(self) -> int:
        """The threads of passes that belong to no trial."""
        return self.levels[self._level]

    def threads_for(self, n_tokens: int) -> int:
        """Return how many threads a pass of ``n_tokens`` should have."""
        trial = self._trial
        if trial is not None and trial.n_tokens == n_tokens and trial.tries_next:
            return self.levels[trial.level]
        return self.n_threads

    def note(self, n_tokens: int, seconds: float, cpu_seconds: float) -> None:
        """Learn from a pass that had the threads of ``threads_for``.

        cpu_seconds: for how long the calling thread had a CPU.
        """
        if len(self.levels) == 1:
            return
        if self._trial is not None:
            self._trial.note(n_tokens, seconds)
            if self._trial.is_faster is not None:
                self._end(self._trial)
            return
        self._rest -= seconds
        self._seconds += seconds
        self._cpu_seconds += cpu_seconds
        if self._seconds < _WINDOW_SECONDS:
            return
        is_crowded = self._cpu_seconds < _CROWDED * self._seconds
        self._seconds = self._cpu_seconds = 0.0
        if self._rest <= 0:
            self._start(n_tokens, is_crowded=is_crowded)

    def _start(self, n_tokens: int, *, is_crowded: bool) -> None:
        """Try fewer threads if the machine is crowded, else more; both in turns where it is crowded
        although there are few already."""
        may_fall = is_crowded and self._level > 0
        may_rise = self._level < len(self.levels) - 1
        if not (may_fall or may_rise):
            return
        self._went_up = may_rise and not (may_fall and self._went_up)
        level = self._level + 1 if self._went_up else max(0, self._level - self._step_down)
        self._trial = _Trial(n_tokens, level, self._n_passes)

    def _end(self, trial: _Trial) -> None:
        self._trial = None
        if not (self._went_up or trial.is_faster):
            self._step_down = self._step_down + 1 if trial.level else 1
        if trial.is_faster:
            self._step_down = 1
            self._level = trial.level
            self._rest = 0.0 if self._went_up else _LEAST_REST
        else:
            self._rest = max(_LEAST_REST, trial.loss / _TRIAL_SHARE)


def thread_counts(most: int) -> list[int]:
    """Return the numbers of threads that are tried, rising: each at least 3/4 of the next one."""
    counts = [most]
    while counts[-1] > 1:
        counts.append(min(counts[-1] - 1, -(-counts[-1] * 3 // 4)))
    return counts[::-1]


@dataclass(slots=True)
class _Trial:
    """Passes of ``n_tokens``, in turns of ``n_passes`` with the threads of ``level`` and with those
    used so far.

    tries_next: whether the next such pass has those of ``level``.
    """

    n_tokens: int
    level: int
    n_passes: int
    _seconds: list[float] = field(default_factory=list)
    _n_others: int = 0

    @property
    def tries_next(self) -> bool:
        return len(self._seconds) // self.n_passes % 2 == 0

    def note(self, n_tokens: int, seconds: float) -> None:
        if n_tokens == self.n_tokens:
            self._seconds.append(seconds)
        else:
            self._n_others += 1

    @property
    def is_faster(self) -> bool | None:
        """Whether the threads of ``level`` are faster; None while that is open."""
        if self._n_others >= _MOST_PASSES:
            return False
        n_turns, rest = divmod(len(self._seconds), 2 * self.n_passes)
        if rest or not n_turns:
            return None
        tried, used = self._sums()
        if n_turns == _N_TURNS:
            return tried < _FASTER * used
        return False if tried > _CLEARLY_SLOWER * used else None

    @property
    def loss(self) -> float:
        """The seconds that the trial has cost."""
        tried, used = self._sums()
        return max(0.0, tried - used)

    def _sums(self) -> tuple[float, float]:
        turns = [sum(turn) for turn in self._turns()]
        return sum(turns[::2]), sum(turns[1::2])

    def _turns(self) -> Iterator[list[float]]:
        for first in range(0, len(self._seconds), self.n_passes):
            yield self._seconds[first : first + self.n_passes]
