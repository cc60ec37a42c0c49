"""What a forward pass costs by its number of tokens, and which drafts are worth that.

It knows seconds and chances, no tokens. A pass of n tokens takes less time than n passes, but how
much less depends on the machine and the weights, so it is measured.
"""

from __future__ import annotations

from bisect import bisect, insort
from collections import Counter
from collections.abc import Mapping
from collections.abc import Sequence as Items
from itertools import accumulate, zip_longest
from operator import mul
from typing import Any

# Until it is measured, one more token is taken to cost this share of a pass of one.
_UNMEASURED = 0.2
# How far one pass moves what is known, and the largest factor that it counts for: some are slow by
# chance.
_RATE = 0.2
_MOST = 2.0
# A size that was run less often is not kept: its time may have been bad by chance.
_LEAST_RUNS = 4
# No pass takes so many times as long as one of a token, or as little: such numbers are damage.
_MOST_RATIO = 1e6
# What drafts must gain at least: making and checking them takes time, too.
_LEAST_GAIN = 1.03


class PassCosts:
    """The usual seconds of a pass, by its number of tokens.

    They are ratios and one scale for all: where passes get slower, as with a longer context or
    beside another program, those that were not run lately are taken to get slower alike.

    shape: ratios that were measured earlier; the first pass gives them a scale.
    """

    def __init__(self, shape: Mapping[int, float] | None = None) -> None:
        self._scale: float | None = None
        self._shape = dict(shape or {})
        self._sizes = sorted(self._shape)
        self._kept = frozenset(self._shape)
        self._n_runs: Counter[int] = Counter()

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> PassCosts:
        """Return costs with the ratios of ``as_data``. Raises ValueError for anything else."""
        shape = {int(size): ratio for size, ratio in data.items()}
        for size, ratio in shape.items():
            is_likely = isinstance(ratio, float) and 1 / _MOST_RATIO < ratio < _MOST_RATIO
            if size < 1 or not is_likely:
                raise ValueError(f"no time of a pass: {size}: {ratio!r:.80}")
        return cls(shape)

    def as_data(self) -> dict[str, float]:
        """Return the ratios that are worth keeping, which JSON can hold; none if nothing is new."""
        if not self._n_runs:
            return {}
        known = {n for n, n_runs in self._n_runs.items() if n_runs >= _LEAST_RUNS} | self._kept
        return {str(n): self._shape[n] for n in sorted(known)}

    def measured(self, n_tokens: int, seconds: float) -> None:
        """Take note of a pass in which no prompt was computed."""
        if self._scale is None:
            self._scale = seconds / self._shape_of(n_tokens)
        if n_tokens in self._shape:
            ratio = seconds / (self._scale * self._shape[n_tokens])
            factor = min(max(ratio, 1 / _MOST), _MOST) ** _RATE
            self._scale *= factor
            self._shape[n_tokens] *= factor
        else:
            self._shape[n_tokens] = seconds / self._scale
            insort(self._sizes, n_tokens)
        self._n_runs[n_tokens] += 1

    def seconds(self, n_tokens: int) -> float:
        """Return what a pass of ``n_tokens`` takes, estimated by those that were measured; before
        the first one, in units of a pass of one token."""
        return (self._scale or 1.0) * self._shape_of(n_tokens)

    def _shape_of(self, n_tokens: int) -> float:
        known, sizes = self._shape, self._sizes
        if n_tokens in known:
            return known[n_tokens]
        if not sizes:
            return _unmeasured(n_tokens)
        index = bisect(sizes, n_tokens)
        if 0 < index < len(sizes):
            below, above = sizes[index - 1], sizes[index]
            share = (n_tokens - below) / (above - below)
            return known[below] + share * (known[above] - known[below])
        nearest = sizes[index - 1 if index else 0]
        return known[nearest] * _unmeasured(n_tokens) / _unmeasured(nearest)


def _unmeasured(n_tokens: int) -> float:
    return 1 + _UNMEASURED * (n_tokens - 1)


def best_lengths(chances: Items[Items[float]], costs: PassCosts, n_others: int = 0) -> list[int]:
    """Return how much of each draft to put into the next pass, for the most tokens per second.

    chances: a draft for each sequence; of each of its tokens, the chance that it is accepted if all
    before it are. n_others: the tokens of other sequences in the pass.
    """
    lengths = [0] * len(chances)
    ranked = sorted(
        (-chance, index) for index, row in enumerate(chances) for chance in accumulate(row, mul)
    )
    n_tokens = n_others + len(chances)
    expected = float(len(chances))
    best, n_best = _LEAST_GAIN * expected / costs.seconds(n_tokens), 0
    for number, (chance, _) in enumerate(ranked, 1):
        expected -= chance
        speed = expected / costs.seconds(n_tokens + number)
        if speed > best:
            best, n_best = speed, number
    for _, index in ranked[:n_best]:
        lengths[index] += 1
    return lengths


def equal_lengths(chances: Items[Items[float]], costs: PassCosts, n_others: int = 0) -> list[int]:
    """Return the same as ``best_lengths``, but one length for all: where sequences have cells of
    their own, llama.cpp computes a pass in parts with equally many tokens of each sequence."""
    n_all = n_others + len(chances)
    expected = float(n_all)
    best, best_length = _LEAST_GAIN * expected / costs.seconds(n_all), 0
    rows = [accumulate(row, mul) for row in chances]
    for length, gained in enumerate(zip_longest(*rows, fillvalue=0.0), 1):
        expected += sum(gained)
        n_drafted = length * len(chances)
        if n_others:
            seconds = costs.seconds(n_all) + costs.seconds(n_drafted)
        else:
            seconds = costs.seconds(n_all + n_drafted)
        if expected / seconds > best:
            best, best_length = expected / seconds, length
    return [best_length] * len(chances)
