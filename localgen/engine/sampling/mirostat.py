"""Mirostat: keep as many tokens as bring the surprise near a target; it knows no options.

Basu et al. 2020 (Mirostat: A Neural Text Decoding Algorithm that Directly Controls Perplexity),
with the definitions of llama.cpp (``llama_sampler_init_mirostat`` and ``…_mirostat_v2`` in
src/llama-sampler.cpp). Surprise is in bits. ``mu``, the most surprise allowed, starts at twice the
target tau, and after each token goes down by eta times what its surprise had above tau.
"""

from __future__ import annotations

import math

import numpy as np

from localgen.engine.backend import Logits
from localgen.engine.sampling import keep
from localgen.engine.sampling.filters import Ids

# Mirostat 1 estimates the distribution's exponent from so many tokens, as llama.cpp does.
_M = 100


def version_1(scores: Logits, mu: float, n_vocab: int) -> Ids:
    """Return the positions kept, rising: the k likeliest of ``scores`` (n,), with k by ``mu`` and
    the Zipf exponent of the 100 likeliest."""
    p = keep.probabilities(scores)
    n_likely = int(np.count_nonzero(p))
    k = min(n_kept(np.sort(p[keep.likeliest(scores, _M)])[::-1], mu, n_vocab), n_likely)
    return np.sort(keep.likeliest(scores, k))


def n_kept(p: keep.Probabilities, mu: float, n_vocab: int) -> int:
    """Return mirostat 1's k for the ``p`` of the likeliest tokens, falling: from 1 to n_vocab.

    Tokens without probability do not count. Where llama.cpp's formula has no value, k is its limit:
    for equal probabilities all tokens, or 1 if 2^mu is below their number.
    """
    p = p[p > 0]
    if len(p) < 2:
        return 1
    ranks = np.arange(1, len(p))
    t = np.log((ranks + 1) / ranks)
    b = np.log(p[:-1] / p[1:])
    s_hat = float(t @ b) / float(t @ t)
    if s_hat <= 0:
        return n_vocab if mu > math.log2(n_vocab - 1) else 1
    rate = s_hat - 1
    # (1 - n^-rate) / rate, which tends to log(n).
    n = math.log(n_vocab)
    shrinking = n if abs(rate) < 1e-9 else -math.expm1(-rate * n) / rate
    log_k = (mu * math.log(2) - math.log(shrinking)) / s_hat
    return max(1, min(n_vocab, int(math.exp(min(log_k, n + 1)))))


def version_2(scores: Logits, mu: float) -> Ids:
    """Return the positions kept, rising: those with a surprise of at most ``mu``, or the
    likeliest."""
    p = keep.probabilities(scores)
    surprise = -np.log2(p, out=np.full_like(p, -np.inf), where=p > 0)
    kept = np.flatnonzero(surprise <= mu)
    return kept if len(kept) else np.array([scores.argmax()])


class MirostatTracker:
    """Follows ``mu`` of one sequence; never stops it and masks nothing.

    A token that no draw chose, such as a forced one, leaves ``mu`` as it is.
    """

    stops = False

    def __init__(self, tau: float, eta: float) -> None:
        self._tau, self._eta = tau, eta
        self._history = [2.0 * tau]
        self._next: float | None = None

    @property
    def mu(self) -> float:
        return self._history[-1]

    def chose(self, probability: float) -> None:
        """Take note of a choice among the tokens kept; the next token accepted is it."""
        surprise = -math.log2(probability)
        self._next = self.mu - self._eta * (surprise - self._tau)

    def accept(self, token_id: int) -> None:
        self._history.append(self.mu if self._next is None else self._next)
        self._next = None

    def rollback(self, n_tokens: int) -> None:
        del self._history[len(self._history) - n_tokens :]
        self._next = None

    def mask(self) -> None:
        return None

    def copy(self) -> MirostatTracker:
        clone = MirostatTracker(self._tau, self._eta)
        clone._history, clone._next = list(self._history), self._next
        return clone
