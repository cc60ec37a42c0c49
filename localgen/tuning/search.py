"""Searches settings one after the other; it does not know how they are measured.

The values of a setting are measured in turns, beside the fastest settings so far. The fastest one
is then measured in more rounds beside the default alone, and chosen only if it won all rounds: a
wrong choice would slow down every later load.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from localgen.errors import BackendError, NotEnoughMemoryError
from localgen.tuning.results import NOT_REACHED, Speed, Trial

Settings = Mapping[str, Any]
Measure = Callable[[Settings], Speed]
# Called with what is measured next.
Progress = Callable[[str], object]

# Rounds of all values, and further ones of the fastest. Where nothing but noise differs, one value
# in 16 wins the further rounds.
N_ROUNDS = 3
N_CONFIRMING = 4
# The least gain that counts, and the fewest rounds that are reported.
LEAST_GAIN = 1.02
_LEAST_ROUNDS = 2
CROWDED = "it is faster while other programs use the CPUs, to which the default adapts"
ALL = "all together"


@dataclass(slots=True)
class _Row:
    """A value on its way to a ``Trial``."""

    value: Any
    settings: Settings
    speeds: list[Speed] = field(default_factory=list)
    obstacle: str | None = None
    is_unfinished: bool = False

    @property
    def is_short(self) -> bool:
        return self.is_unfinished or not self.speeds


class Search:
    """A search; ``best`` holds the settings found so far, ``trials`` what was measured.

    is_over: asked before each round whether the time is over.
    """

    def __init__(self, is_over: Callable[[], bool], progress: Progress | None = None) -> None:
        self._is_over = is_over
        self._progress = progress
        self.best: dict[str, Any] = {}
        self.trials: list[Trial] = []
        # Of the setting that is being measured; Ctrl-C leaves whole rounds here.
        self._rows: list[_Row] = []
        self._setting = ""

    def choose(
        self,
        setting: str,
        default: Any,
        values: Sequence[Any],
        measure: Measure,
        least_gain: float = LEAST_GAIN,
        least_cpu_share: float = 0.0,
    ) -> None:
        """Measure ``values`` beside ``default``, and keep the fastest in ``best``.

        least_gain: the default stays if no value is so many times as fast. least_cpu_share: it also
        stays if it had a smaller share of its CPU in the median: what won may have won only because
        other programs ran.
        Raises BackendError only if the settings so far cannot be measured.
        """
        self._setting = setting
        others = (_Row(value, {**self.best, setting: value}) for value in values)
        self._rows = [_Row(default, dict(self.best)), *others]
        self._run_rounds(measure)
        chosen = self._rows[0]
        fastest = max(self._rows, key=self._median_ratio)
        if self._wins(fastest, measure, least_gain):
            if self._cpu_share < least_cpu_share:
                fastest.obstacle = CROWDED
            else:
                chosen = fastest
        self.best = dict(chosen.settings)
        self._finish(chosen)

    @property
    def _cpu_share(self) -> float:
        return statistics.median(speed.cpu_share for speed in self._rows[0].speeds)

    def _wins(self, row: _Row, measure: Measure, least_gain: float) -> bool:
        """Return whether ``row`` also wins further rounds beside the default alone."""
        while self._is_faster(row, least_gain) and len(row.speeds) < N_ROUNDS + N_CONFIRMING:
            if self._is_over():
                row.is_unfinished = True
                return False
            self._run_round([self._rows[0], row], measure)
        return self._is_faster(row, least_gain)

    def skip(self, setting: str, value: Any, reason: str) -> None:
        """Record that a setting was not searched."""
        self.trials.append(
            Trial(setting=setting, value=value, settings=dict(self.best), not_measured=reason)
        )

    def confirm(self, measure: Measure, settings: Settings) -> float | None:
        """Return how fast ``settings`` are, 1.0 being the defaults; None if the time is over.

        Gains that were measured one by one may not add up.
        """
        self._setting = ALL
        self._rows = [_Row("defaults", {}), _Row("chosen", dict(settings))]
        self._run_rounds(measure)
        row = self._rows[1]
        found = self._median_ratio(row) if row.speeds else None
        self._finish(row if found is not None and found > 1 else self._rows[0])
        return found

    def leave(self) -> None:
        """Keep what an interrupted setting's whole rounds gave."""
        if self._rows:
            n_whole = min(len(row.speeds) for row in self._rows if row.obstacle is None)
            for row in self._rows:
                del row.speeds[n_whole:]
            self._finish()

    def _run_rounds(self, measure: Measure) -> None:
        """Measure all rows in turns."""
        for _ in range(N_ROUNDS):
            if self._is_over():
                break
            self._run_round(self._rows, measure)
        if len(self._rows[0].speeds) < _LEAST_ROUNDS:
            for row in self._rows:
                row.speeds.clear()

    def _run_round(self, rows: Sequence[_Row], measure: Measure) -> None:
        """Measure each of ``rows`` once, every other round backwards."""
        rows = [row for row in rows if row.obstacle is None]
        for row in rows if len(rows[0].speeds) % 2 == 0 else rows[::-1]:
            if self._progress is not None:
                self._progress(f"{self._setting} {row.value}")
            self._measure(row, measure)

    def _measure(self, row: _Row, measure: Measure) -> None:
        try:
            row.speeds.append(measure(row.settings))
        except (BackendError, NotEnoughMemoryError) as error:
            if row is self._rows[0]:
                raise
            row.speeds.clear()
            row.obstacle = str(error)

    def _ratios(self, row: _Row) -> list[float]:
        pairs = zip(row.speeds, self._rows[0].speeds, strict=False)
        return [speed.over(base) for speed, base in pairs]

    def _median_ratio(self, row: _Row) -> float:
        ratios = self._ratios(row)
        return statistics.median(ratios) if ratios else 0.0

    def _is_faster(self, row: _Row, least_gain: float) -> bool:
        """Whether ``row`` won all its rounds; the default itself never does."""
        ratios = self._ratios(row)
        return bool(ratios) and min(ratios) > 1 and statistics.median(ratios) >= least_gain

    def _finish(self, chosen: _Row | None = None) -> None:
        self.trials += [
            Trial(
                setting=self._setting,
                value=row.value,
                settings=row.settings,
                speeds=tuple(row.speeds),
                ratios=tuple(self._ratios(row)),
                is_chosen=row is chosen and bool(row.speeds),
                not_measured=row.obstacle
                or (NOT_REACHED if row.is_unfinished or not row.speeds else None),
            )
            for row in self._rows
        ]
        self._rows = []
