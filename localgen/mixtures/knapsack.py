"""Chooses one option of each group: the least loss for a size, the least size for a loss.

The multiple-choice knapsack by dynamic programming, over sizes in units: exact in them, and a size
is rounded up, so that a solution always fits. NumPy alone; it knows no model.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

# At most so many units; rounding wastes less than one for each group.
_MOST_UNITS = 2**15


class Frontier:
    """The least loss for each size of a choice of options.

    sizes, losses: for each group the sizes (integers) and losses of its options.
    """

    def __init__(self, sizes: Sequence[Sequence[int]], losses: Sequence[Sequence[float]]) -> None:
        self._sizes = [np.array(options, np.int64) for options in sizes]
        largest = sum(int(options.max()) for options in self._sizes)
        self._unit = -(-largest // _MOST_UNITS)
        units = [-(-options // self._unit) for options in self._sizes]
        n_units = 1 + sum(int(options.max()) for options in units)
        best = np.zeros(n_units)
        self._units, self._taken = units, []
        for options, costs in zip(units, losses, strict=True):
            found = np.stack(
                [_later(best, n) + cost for n, cost in zip(options, costs, strict=True)]
            )
            taken = found.argmin(axis=0)
            self._taken.append(taken)
            best = found[taken, np.arange(n_units)]
        self._best = best

    def smallest(self, loss: float) -> list[int] | None:
        """Return the options of the smallest size with at most this loss; None without any."""
        fitting = np.flatnonzero(self._best <= loss)
        return self._options(int(fitting[0])) if len(fitting) else None

    def best(self, size: int) -> list[int] | None:
        """Return the options of the least loss with at most this size; None without any."""
        at = min(size // self._unit, len(self._best) - 1)
        return self._options(at) if at >= 0 and np.isfinite(self._best[at]) else None

    def _options(self, at: int) -> list[int]:
        """Walk back from a size to the option of each group."""
        chosen = []
        for units, taken in zip(reversed(self._units), reversed(self._taken), strict=True):
            option = int(taken[at])
            chosen.append(option)
            at -= int(units[option])
        return chosen[::-1]


def _later(values: npt.NDArray[np.float64], n: int) -> npt.NDArray[np.float64]:
    """Return values moved by n places, with infinity before them."""
    return np.concatenate([np.full(n, np.inf), values[: len(values) - n]])
