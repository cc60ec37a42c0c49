"""Chooses a token by a look at the few that min_p can keep; it knows the most common chains only.

A forward pass leaves the caches cold. Choosing a token then takes some microseconds for each NumPy
call, whatever it does, and one for each call of a Python function: three times what it takes in a
loop of its own. So this makes few of both, and leaves to the sampler what is rare.

The sampler would choose the same, with one exception. Where the k-th of top_k is one of several
equals far below the likely ones, all of them count for top_p there, and here as many as make up k.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from itertools import accumulate

import numpy as np

from localgen.engine.backend import Logits
from localgen.engine.sampling.filters import SLACK
from localgen.engine.sequence import Sequence

# Without top_p a look down to min_p is enough. With it, what top_k keeps below the look counts, of
# which only the number is known. At this part of min_p that decides 99 rows of SmolLM2 in 100, by
# some 16 ids (at 0.3: 96 rows, 9 ids; at 0.01: 99.8 rows, 54 ids).
_BELOW_MIN_P = 0.1
# A look down to a lower one finds more than a few.
LEAST_MIN_P = 1e-3
# In a longer row the large logits are found faster by the sampler's way.
LONGEST_ROW = 2**16
# More ids than these are penalized faster by the sampler's way.
_FEW = 256


class FirstLook:
    """Draws from what top_k (0: off), top_p (1.0: off) and min_p keep.

    min_p is at least LEAST_MIN_P, and top_k is on unless top_p is off. penalty: repetition_penalty,
    at least 1.0: it only lowers logits, so what is not likely before it is not likely after it.
    """

    def __init__(
        self,
        n_vocab: int,
        *,
        temperature: float,
        top_k: int,
        top_p: float,
        min_p: float,
        penalty: float,
    ) -> None:
        self._temperature = np.float32(temperature)
        self._top_k, self._top_p, self._min_p = top_k, top_p, min_p
        self._least = min_p * (_BELOW_MIN_P if top_p < 1.0 else 1.0)
        self._depth = -temperature * math.log(self._least)
        # A logit by this, both rounded to float32, is the same as in float32.
        self._penalty = float(np.float32(penalty))
        # Scratch: as arrays that are there, neither has to be converted or made.
        self._bound = np.empty((), np.float32)
        self._is_likely = np.empty(n_vocab, np.bool_)

    def choose(self, logits: Logits, sequence: Sequence) -> int | None:
        """The token id by the model's own ``logits`` (n_vocab,); None, with no uniform drawn, if a
        look is not enough."""
        penalty = self._penalty
        seen = sequence.counts.places if sequence.counts is not None else {}
        # argmax stops at the first NaN.
        place = int(logits.argmax())
        best = logits.item(place)
        if not math.isfinite(best):
            return None
        if place in seen:  # after the penalty the best one is not below that
            best = best / penalty if best > 0.0 else best * penalty
        bound = best - self._depth
        bound -= max(abs(bound), abs(best)) * SLACK
        self._bound[()] = bound
        ids = np.greater_equal(logits, self._bound, self._is_likely).nonzero()[0]
        if len(ids) > _FEW:
            return None
        values = logits[ids]
        n_unseen = self._top_k - len(values)
        if seen:
            for i, token_id in enumerate(ids.tolist()):
                if token_id in seen:
                    logit = values.item(i)
                    logit = logit / penalty if logit > 0.0 else logit * penalty
                    values[i] = logit
                    n_unseen += logit < bound  # top_k may keep an id that was not looked at instead
        # From here on the likeliest comes last.
        order = values.argsort()
        scores = values[order]
        scores /= self._temperature
        if 0 < self._top_k < len(scores):
            if scores[-self._top_k - 1] == scores[-self._top_k]:
                return None
            scores = scores[-self._top_k :]
        scores -= scores[-1]
        weights = np.exp(scores.astype(np.float64)).tolist()
        n_kept = len(weights) - bisect_left(weights, self._min_p)
        weights.reverse()
        running = list(accumulate(weights))
        if self._top_p < 1.0:
            total = running[-1]
            n_top_p = bisect_left(running, self._top_p * total) + 1
            if n_top_p < n_kept:
                n_kept = n_top_p
                most = self._top_p * (total + n_unseen * self._least)
                if n_unseen > 0 and bisect_left(running, most) + 1 != n_kept:
                    return None
        position = bisect_right(running, sequence.uniform() * running[n_kept - 1])
        return int(ids[order[-1 - position]])
