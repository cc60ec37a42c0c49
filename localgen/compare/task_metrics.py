"""What the answers of two levels to the same questions say; pure arithmetic.

Differences are paired: only questions on which the two differ count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

# A p-value below this tells two levels apart. No p-value equals it: each is an integer / 2**n.
SIGNIFICANT = 0.05
# 95 % of a normal distribution are within this many standard deviations.
_Z = 1.959963984540054


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDifference:
    """How a level's accuracy differs from the reference's on the same questions.

    difference: level minus reference; low, high: its 95 % interval. flips: the share of questions
    whose answer changes, right or wrong. n_lost, n_gained: questions that only the reference, or
    only the level answers right. p_value: McNemar's exact test, two-sided: how likely a split at
    least as uneven is if neither is better.

    The p-value decides whether the two differ; the interval says by how much. They are computed by
    different methods, and near ``SIGNIFICANT`` an interval may exclude 0 while the exact test does
    not reject.
    """

    difference: float
    low: float
    high: float
    flips: float
    n_lost: int
    n_gained: int
    p_value: float

    @property
    def is_significant(self) -> bool:
        """Whether the test tells the level and the reference apart: p below ``SIGNIFICANT``."""
        return self.p_value < SIGNIFICANT


def accuracy(right: Sequence[bool]) -> tuple[float, float]:
    """Return the share of right answers and its standard error, sqrt(p (1 - p) / (n - 1))."""
    n = len(right)
    share = sum(right) / n
    return share, math.sqrt(share * (1 - share) / (n - 1)) if n > 1 else 0.0


def paired_difference(
    reference: Sequence[bool],
    right: Sequence[bool],
    reference_answers: Sequence[str],
    answers: Sequence[str],
) -> PairedDifference:
    """Compare a level's answers with the reference's, question by question.

    The interval is method 10 of Newcombe, Statistics in Medicine 17 (1998), 2635: it stays within
    -1 to 1, and has a width even where no answer differs.
    """
    n = len(right)
    n_lost = sum(a and not b for a, b in zip(reference, right, strict=True))
    n_gained = sum(b and not a for a, b in zip(reference, right, strict=True))
    n_both = sum(a and b for a, b in zip(reference, right, strict=True))
    low, high = _newcombe(n_both, n_gained, n_lost, n)
    changed = sum(a != b for a, b in zip(reference_answers, answers, strict=True))
    return PairedDifference(
        difference=(n_gained - n_lost) / n,
        low=low,
        high=high,
        flips=changed / n,
        n_lost=n_lost,
        n_gained=n_gained,
        p_value=mcnemar(n_lost, n_gained),
    )


def mcnemar(n_lost: int, n_gained: int) -> float:
    """Return the two-sided p-value of McNemar's exact test: 2 P(X <= smaller), X ~ B(n, 1/2).

    The test is from McNemar, Psychometrika 12 (1947), 153; its exact form, a sign test of the n
    questions on which only one of the two is right, is formula (1) of Fagerland, Lydersen and
    Laake, BMC Medical Research Methodology 13 (2013), 91.
    """
    n, smaller = n_lost + n_gained, min(n_lost, n_gained)
    tail = sum(math.comb(n, k) for k in range(smaller + 1))
    # Integers until the end: 2**n is no float for many questions.
    return min(1.0, float(2 * tail / 2**n))


def wilson(count: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share by Wilson's score.

    Source: Wilson, Journal of the American Statistical Association 22 (1927), 209.
    """
    centre = count + _Z**2 / 2
    half = _Z * math.sqrt(count * (n - count) / n + _Z**2 / 4)
    return (centre - half) / (n + _Z**2), (centre + half) / (n + _Z**2)


def _newcombe(n_both: int, n_gained: int, n_lost: int, n: int) -> tuple[float, float]:
    level, reference = n_both + n_gained, n_both + n_lost
    n_neither = n - n_both - n_gained - n_lost
    product = level * (n - level) * reference * (n - reference)
    association = float(n_both * n_neither - n_gained * n_lost)
    if association > 0:
        association = max(association - n / 2, 0.0)  # the correction for continuity
    correlation = association / math.sqrt(product) if product else 0.0
    low, high = wilson(level, n)
    other_low, other_high = wilson(reference, n)
    share, other = level / n, reference / n
    down = _length(share - low, other_high - other, correlation)
    up = _length(high - share, other - other_low, correlation)
    difference = share - other
    return difference - down, difference + up


def _length(a: float, b: float, correlation: float) -> float:
    return math.sqrt(max(0.0, a * a - 2 * correlation * a * b + b * b))
