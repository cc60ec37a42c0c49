"""Speculative sampling: keep or replace drawn tokens so that the text is the target model's.

A token drawn from q is kept with probability min(1, p / q), else replaced by one drawn from what p
has more than q, (p - q)⁺, normalized. Either way the token is distributed as p (Leviathan et al.
2023, Fast Inference from Transformers via Speculative Decoding). It knows no models.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from localgen.engine.sampling import filters
from localgen.engine.sampling.filters import Ids

Probabilities = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Distribution:
    """The tokens that can be drawn: ``ids`` (n,), rising, and their ``probabilities`` (n,)."""

    ids: Ids
    probabilities: Probabilities

    def of(self, ids: Ids) -> Probabilities:
        """Return the probabilities of some tokens, 0.0 where one cannot be drawn."""
        places = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        return np.where(self.ids[places] == ids, self.probabilities[places], 0.0)

    def of_one(self, token_id: int) -> float:
        """Return the probability of one token."""
        return float(self.of(np.array([token_id]))[0])

    def draw(self, uniform: float) -> int:
        """Return the token of a uniform in [0, 1)."""
        return int(self.ids[filters.draw(self.probabilities, uniform)])


def distribution(ids: Ids, weights: Probabilities) -> Distribution:
    """Return the distribution of tokens in any order by their weights, which need not sum to 1."""
    if len(ids) > 1 and not (ids[1:] > ids[:-1]).all():
        order = ids.argsort()
        ids, weights = ids[order], weights[order]
    return Distribution(ids, weights / weights.sum())


def residual(p: Distribution, q: Distribution) -> Distribution:
    """Return (p - q)⁺, normalized; p itself where rounding leaves nothing."""
    left = np.maximum(p.probabilities - q.of(p.ids), 0.0)
    total = left.sum()
    return Distribution(p.ids, left / total) if total > 0.0 else p


def is_kept(p: Distribution, q: Distribution, token_id: int, uniform: float) -> bool:
    """Return whether a token drawn from q is kept, by a uniform in [0, 1)."""
    return uniform * q.of_one(token_id) < p.of_one(token_id)
