"""What a forward pass costs by its number of tokens, and which drafts are worth that.

It knows seconds and chances, no tokens. A pass of n tokens takes less time than n passes, but how
much less depends on the machine and the weights, so it is measured.
"""

from __future__ import annotations

from collections.abc import Sequence as Items
from itertools import accumulate
from operator import mul

# Until it is measured, one more token in a pass is taken to cost this share of the pass.
_UNMEASURED = 0.2
# Passes are slower than usual by chance, never faster: a lower time counts for more.
_DOWN, _UP = 0.5, 0.1
# A number of tokens that lost by its measured times is tried again after so many passes.
_RETRY_AFTER = 64


class PassCosts:
    """The usual seconds of a pass, by its number of tokens."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}

    def measured(self, n_tokens: int, seconds: float) -> None:
        """Take note of a pass in which no prompt was computed."""
        usual = self._seconds.get(n_tokens)
        if usual is None:
            self._seconds[n_tokens] = seconds
        else:
            rate = _DOWN if seconds < usual else _UP
            self._seconds[n_tokens] = usual + rate * (seconds - usual)

    def is_measured(self, n_tokens: int) -> bool:
        return n_tokens in self._seconds

    def seconds(self, n_tokens: int) -> float:
        """Return what a pass of ``n_tokens`` takes: measured, or estimated by those that were; 1.0
        for one token if nothing was."""
        known = self._seconds
        if n_tokens in known:
            return known[n_tokens]
        below = max((n for n in known if n < n_tokens), default=None)
        above = min((n for n in known if n > n_tokens), default=None)
        if below is not None and above is not None:
            share = (n_tokens - below) / (above - below)
            return known[below] + share * (known[above] - known[below])
        if below is not None:
            return known[below] * (1 + _UNMEASURED * (n_tokens - below) / below)
        if above is not None:
            return known[above] / (1 + _UNMEASURED * (above - n_tokens) / n_tokens)
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
    best, n_best = expected / costs.seconds(n_tokens), 0
    for number, (chance, _) in enumerate(ranked, 1):
        expected -= chance
        speed = expected / costs.seconds(n_tokens + number)
        if speed > best:
            best, n_best = speed, number
    for _, index in ranked[:n_best]:
        lengths[index] += 1
    return lengths
