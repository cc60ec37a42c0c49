"""Filters for any order: pure functions from scores to the positions kept; they know no options.

Each takes float32 scores (n,) in any order, -inf where a token is removed, and returns the rising
positions of those it keeps, never none. ``at_least``: how many it keeps at least, the likeliest
first, if there are as many. ``filters.py`` has the same top_k, top_p and min_p for a whole row in
transformers' order, where they share their work.

Sources: epsilon and eta cutoff, Hewitt et al. 2022 (Truncation Sampling as Language Model
Desmoothing); top_h, Potraghloo et al. 2025 (Top-H Decoding); both with transformers' definitions.
top_n_sigma, Tang et al. 2024 (Top-n-sigma); XTC, oobabooga/text-generation-webui#6335; dynamic
temperature, Zhang et al. 2023 (EDT); these with llama.cpp's (src/llama-sampler.cpp).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from localgen.engine.backend import Logits
from localgen.engine.sampling import filters
from localgen.engine.sampling.filters import Ids

Probabilities = npt.NDArray[np.float64]

# top_h looks at no more tokens, as in transformers.
_TOP_H_TOKENS = 100
# Below, sorting everything is faster than finding what to sort.
_FEW = 2048


def top_k(scores: Logits, k: int, at_least: int = 1) -> Ids:
    """Keep the k likeliest, and the ties of the k-th."""
    k = max(k, at_least)
    if k >= len(scores):
        return np.arange(len(scores))
    positions = _falling(scores, filters.top_k_candidates(scores, k))
    return np.sort(positions[: filters.n_top_k(scores[positions], k)])


def top_p(scores: Logits, p: float, at_least: int = 1) -> Ids:
    """Keep the fewest of the likeliest that together have probability ``p``."""
    best = float(scores.max())
    if len(scores) <= _FEW:
        positions = _falling(scores, np.arange(len(scores)))
        total = float(weights(scores).sum())
    else:
        maxima = filters.column_maxima(scores)
        found, total = filters.top_p_candidates(scores, maxima, best, 1.0, p)
        positions = _falling(scores, found)
    cumsum = filters.cumulative_sum(np.exp((scores[positions] - best).astype(np.float64)))
    kept = np.sort(positions[: filters.n_top_p(cumsum, total, p)])
    return _with_likeliest(scores, kept, at_least)


def min_p(scores: Logits, p: float, at_least: int = 1) -> Ids:
    """Keep those with at least ``p`` times the probability of the likeliest."""
    return _with_likeliest(scores, np.flatnonzero(weights(scores) >= p), at_least)


def typical(scores: Logits, mass: float, at_least: int = 1) -> Ids:
    """Keep those whose surprise is nearest to the entropy, until they hold ``mass``."""
    return filters.typical(weights(scores), mass, at_least)


def epsilon(scores: Logits, cutoff: float, at_least: int = 1) -> Ids:
    """Keep those with a probability of at least ``cutoff``, and always the likeliest and ties."""
    best = scores[likeliest(scores, at_least)[-1]]
    return np.flatnonzero((probabilities(scores) >= cutoff) | (scores >= best))


def eta(scores: Logits, cutoff: float, at_least: int = 1) -> Ids:
    """Keep those with a probability of at least min(cutoff, sqrt(cutoff) · exp(-entropy))."""
    return epsilon(scores, min(cutoff, math.sqrt(cutoff) * math.exp(-entropy(scores))), at_least)


def top_h(scores: Logits, share: float, at_least: int = 1) -> Ids:
    """Keep the likeliest while their part of the entropy is at most ``share`` of it all; of the
    distribution, only the 100 likeliest tokens count."""
    positions = likeliest(scores, _TOP_H_TOKENS)
    p = probabilities(scores[positions])
    terms = -p * np.log(p, out=np.zeros_like(p), where=p > 0)
    stays = (filters.cumulative_sum(terms) <= share * float(terms.sum())) & (p > 0)
    return _with_likeliest(scores, np.sort(positions[stays]), at_least)


def top_n_sigma(scores: Logits, n: float, at_least: int = 1) -> Ids:
    """Keep those at most ``n`` standard deviations of all scores below the best; removed tokens
    do not count."""
    valid = scores if scores.min() > -np.inf else scores[scores > -np.inf]
    lowest = float(valid.max()) - n * float(valid.std(dtype=np.float64))
    return _with_likeliest(scores, np.flatnonzero(scores >= lowest), at_least)


def xtc(scores: Logits, threshold: float, at_least: int = 1) -> Ids:
    """Remove the likeliest down to, but without, the last that has a probability of at least
    ``threshold``. Where fewer than two have it, or fewer than ``at_least`` would stay, keep all."""
    p = probabilities(scores)
    above = np.flatnonzero((p >= threshold) & (p > 0))  # what is banned is no choice
    n_left = len(scores) - len(above) + 1
    if len(above) < 2 or n_left < at_least:
        return np.arange(len(scores))
    last = above[scores[above].argmin()]
    stays = np.ones(len(scores), np.bool_)
    stays[above] = False
    stays[last] = True
    return np.flatnonzero(stays)


def dynamic_temperature(
    scores: Logits, temperature: float, spread: float, exponent: float
) -> float:
    """Return the temperature between ``temperature`` ± ``spread``, at least 0, by the entropy of
    the scores, as a part of the largest possible, to the power of ``exponent``; 1 for one score."""
    if len(scores) == 1:
        return 1.0
    low, high = max(0.0, temperature - spread), temperature + spread
    # Rounding may take the entropy of a flat row above the largest possible, or below 0.
    part = max(0.0, entropy(scores) / math.log(len(scores)))
    return low + (high - low) * float(part**exponent)


def weights(scores: Logits) -> Probabilities:
    """Return exp(score - best score), float64; of a long row with the precision of float32."""
    with np.errstate(over="ignore"):  # of a score far below the best
        falls = scores - scores.max()
    if len(scores) <= _FEW:
        falls = falls.astype(np.float64)
    result: Probabilities = np.exp(falls).astype(np.float64, copy=False)
    return result


def probabilities(scores: Logits) -> Probabilities:
    """Return softmax(scores), float64."""
    result = weights(scores)
    result /= result.sum()
    return result


def entropy(scores: Logits) -> float:
    """Return the entropy of softmax(scores), in nats."""
    w = weights(scores)
    with np.errstate(over="ignore"):
        falls = scores - scores.max()
    falls[w == 0] = 0  # also of a removed token, which is infinitely far below
    total = float(w.sum())
    return math.log(total) - float((w * falls).sum()) / total


def likeliest(scores: Logits, n: int) -> Ids:
    """Return the positions of the ``n`` likeliest, their scores falling, or of all that are not
    removed."""
    found = filters.top_k_candidates(scores, min(n, len(scores)))
    return _falling(scores, found)[:n]


def _falling(scores: Logits, positions: Ids) -> Ids:
    """Return ``positions`` with their scores falling."""
    return positions[np.argsort(-scores[positions], kind="stable")]


def _with_likeliest(scores: Logits, kept: Ids, n: int) -> Ids:
    """Return ``kept`` and, where those are fewer than ``n``, the ``n`` likeliest."""
    if len(kept) >= n:
        return kept
    if n == 1:
        return np.array([scores.argmax()])
    return np.union1d(kept, likeliest(scores, n))
