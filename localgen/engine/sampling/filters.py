"""Filters and draws as pure NumPy functions on one row of logits; they know no options.

Order, as in transformers: processors (on all logits) → temperature → top_k → top_p → min_p →
typical_p → draw. Sorting a whole vocabulary takes milliseconds, so the filters work on
*candidates*: the few ids that can survive, found by a ``*_candidates`` function that is provably
complete, and then sorted.

A row of logits, reshaped to a matrix of a few rows, has the largest of each column as its *maxima*:
they take one pass, and show where the large logits are. Candidates are then found in a few columns.

Sorted candidates have weights exp(score - best score), falling from 1. top_k, top_p and min_p each
keep a prefix of them, so a filter only returns how many candidates it keeps.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from localgen.engine.backend import Logits

RowWeights = npt.NDArray[np.float32]
# Weights of candidates are few, and float64, so that sums need no conversion.
Weights = RowWeights | npt.NDArray[np.float64]
CumSum = npt.NDArray[np.float64]
Ids = npt.NDArray[np.intp]

# More rows make fewer columns to find, and fewer rows make shorter ones to read.
_MATRIX_ROWS, _LONG_MATRIX_ROWS = 32, 64
_LONG = 2**16
# Maxima whose own maximum stands for them where a bound is looked for.
_GROUP = 4
_ROW_NUMBERS = np.arange(_LONG_MATRIX_ROWS)[:, None]
# Temperature is applied after the candidates are chosen. Two logits that differ by less than
# this part of their size can become equal when divided in float32, so candidates are taken this
# much below an exact bound; the exact filter on the scaled scores then decides.
SLACK = 1e-6
# A bound not below this leaves out -inf, the mark of a removed token.
_LOWEST = float(np.finfo(np.float32).min)
# Weights of this many tokens stay in a core's L2 cache from one pass to the next.
_PIECE = 2**16
# Weights in a block of ``draw``.
_BLOCK = 512


# --- candidates: which ids can survive a filter ---


def column_maxima(logits: Logits) -> Logits:
    """Return the maxima of ``logits`` (n_vocab,): (n_vocab // rows,), and then the few logits that
    the matrix leaves over. NaN if a logit is, so their largest shows whether a row is finite."""
    n_rows, width = _matrix_shape(len(logits))
    n_in_matrix = n_rows * width
    maxima: Logits = np.maximum.reduce(logits[:n_in_matrix].reshape(n_rows, width))
    if n_in_matrix == len(logits):
        return maxima
    return np.concatenate([maxima, logits[n_in_matrix:]])


def _matrix_shape(n_vocab: int) -> tuple[int, int]:
    n_rows = _LONG_MATRIX_ROWS if n_vocab > _LONG else _MATRIX_ROWS
    return n_rows, n_vocab // n_rows


def reaching(logits: Logits, maxima: Logits, bound: float) -> Ids:
    """Return the ids whose logits are at least ``bound``, in no particular order."""
    places = (maxima >= bound).nonzero()[0]
    if len(places) > len(maxima) // 4:
        return (logits >= bound).nonzero()[0]
    n_rows, width = _matrix_shape(len(logits))
    columns = places if len(maxima) == width else places[places < width]
    in_columns = _ROW_NUMBERS[:n_rows] * width + columns
    ids: Ids = in_columns[logits[in_columns] >= bound]
    if len(columns) == len(places):
        return ids
    return np.concatenate([ids, places[len(columns) :] + width * (n_rows - 1)])


def top_k_candidates(logits: Logits, k: int, maxima: Logits | None = None) -> Ids:
    """Return every id among the k largest of ``logits`` (n_vocab,), ties of the k-th included, and
    a few more, but never one at -inf. ``k`` is at most n_vocab."""
    if maxima is None:
        maxima = column_maxima(logits)
    # Each of the maxima is a different logit: the k-th largest of them is a lower bound for the
    # k-th largest logit. The fewer they are, the sooner it is found, but it is a poor one if k is
    # near their number.
    n_groups = len(maxima) // _GROUP
    if k <= n_groups // 4:
        values = np.maximum.reduce(maxima[: _GROUP * n_groups].reshape(_GROUP, n_groups))
    else:
        values = (maxima if k <= len(maxima) // 4 else logits).copy()
    values.partition(len(values) - k)
    kth = float(values[len(values) - k])
    return reaching(logits, maxima, max(kth - abs(kth) * SLACK, _LOWEST))


def min_p_candidates(
    logits: Logits, maxima: Logits, best: float, temperature: float, min_p: float
) -> Ids:
    """Return every id whose probability at ``temperature`` is at least ``min_p`` times that of
    ``best``, the largest logit."""
    return reaching(logits, maxima, _logit_bound(best, temperature, min_p))


def top_p_candidates(
    logits: Logits,
    maxima: Logits,
    best: float,
    temperature: float,
    top_p: float,
    scratch: RowWeights | None = None,
) -> tuple[Ids, float]:
    """Return every id that top_p at ``temperature`` can keep, and the sum of all weights; ``best``
    is the largest logit.

    The likeliest ids are enough as soon as they hold top_p. Ids with a probability below
    (1 - top_p) / n_vocab together hold less than 1 - top_p, so the filter removes them all.
    """
    weights = row_weights(logits, best, temperature, out=scratch)
    total = float(weights.sum())
    for share in (1e-3, 1e-5):
        bound = _logit_bound(best, temperature, min(share * total, 1.0))
        ids = reaching(logits, maxima, bound)
        # The margin is far above what float32 sums are off by.
        if float(weights[ids].sum()) >= total * (top_p + 1e-4):
            return ids, total
    # Half of the bound, for the same reason.
    bound = _logit_bound(best, temperature, total * (1.0 - top_p) / len(logits) * 0.5)
    return reaching(logits, maxima, bound), total


def _logit_bound(best: float, temperature: float, weight: float) -> float:
    """Return a logit that every id with at least ``weight`` reaches; ``best`` is the largest."""
    bound = best + temperature * math.log(weight)
    return max(bound - max(abs(bound), abs(best)) * SLACK, _LOWEST)


# --- filters on sorted candidates ---


def n_top_k(scores: Logits, k: int) -> int:
    """Return how many candidates top_k keeps: k, and the ties of the k-th, as in transformers."""
    if k >= len(scores) or scores[k] < scores[k - 1]:
        return min(k, len(scores))
    return int(np.count_nonzero(scores >= scores[k - 1]))


def n_top_p(cumsum: CumSum, total: float, top_p: float) -> int:
    """Return how many candidates top_p keeps: the fewest whose weights reach ``top_p * total``
    (Holtzman et al. 2020, nucleus sampling); ``cumsum`` are the weights' cumulative sums."""
    return min(int(cumsum.searchsorted(top_p * total)) + 1, len(cumsum))


def n_min_p(weights: Weights, min_p: float) -> int:
    """Return how many candidates min_p keeps: those with at least ``min_p`` times the best's."""
    return len(weights) - int(weights[::-1].searchsorted(min_p))


def typical(weights: Weights, mass: float, at_least: int = 1) -> Ids:
    """Return the positions, rising, of the candidates whose surprise is nearest to the entropy,
    until they hold ``mass`` (Meister et al. 2022, locally typical sampling) and are ``at_least`` as
    many; ties of the last stay. The weights may be in any order."""
    p = weights.astype(np.float64)
    p /= p.sum()
    surprise = -np.log(p, out=np.full_like(p, -np.inf), where=p > 0)
    entropy = float((p * np.where(p > 0, surprise, 0.0)).sum())
    distance = np.abs(surprise - entropy)
    order = distance.argsort()
    n_before = int(p[order].cumsum().searchsorted(mass))
    last = min(max(n_before, at_least - 1), len(p) - 1)
    return np.flatnonzero(distance <= distance[order[last]])


# --- choosing ---


def shifted(logits: Logits, best: float) -> Logits:
    """Return ``logits`` minus ``best``, the largest of them; where that is +inf, the logits that
    are become 0, and all others -inf."""
    if best == math.inf:
        result: Logits = np.where(logits == np.inf, np.float32(0), np.float32(-np.inf))
    else:
        result = logits - np.float32(best)
    return result


def row_weights(
    logits: Logits, best: float, temperature: float, out: RowWeights | None = None
) -> RowWeights:
    """Return the weights of all ids, (n_vocab,), in ``out`` if given; ``best`` is the largest
    logit."""
    weights = np.empty_like(logits) if out is None else out
    for start in range(0, len(logits), _PIECE):
        piece = weights[start : start + _PIECE]
        np.subtract(logits[start : start + _PIECE], np.float32(best), out=piece)
        if temperature != 1.0:
            piece /= np.float32(temperature)
        np.exp(piece, out=piece)
    return weights


def cumulative_sum(weights: Weights) -> CumSum:
    """Return the sums of the first 1, 2, 3, … weights."""
    return np.add.accumulate(weights, dtype=np.float64)


def draw(weights: Weights, uniform: float) -> int:
    """Return a position by inverse transform: the first whose cumulative sum passes ``uniform`` (in
    [0, 1)) times the sum of all. Its weight is above zero."""
    if len(weights) <= _BLOCK:
        return draw_from_cumsum(cumulative_sum(weights), uniform)
    # Running sums of everything are slow: first find the block, then the place in it.
    sums = cumulative_sum(np.add.reduceat(weights, np.arange(0, len(weights), _BLOCK)))
    target = uniform * float(sums[-1])
    block = _passing(sums, target)
    before = float(sums[block - 1]) if block else 0.0
    start = block * _BLOCK
    return start + _passing(cumulative_sum(weights[start : start + _BLOCK]), target - before)


def draw_from_cumsum(cumsum: CumSum, uniform: float) -> int:
    """``draw`` for given cumulative sums of the weights."""
    return _passing(cumsum, uniform * float(cumsum[-1]))


def _passing(cumsum: CumSum, target: float) -> int:
    """Return the first position whose cumulative sum is above ``target``, or above the highest
    target that one can pass if rounding took ``target`` beyond it."""
    target = min(target, math.nextafter(float(cumsum[-1]), 0.0))
    return int(cumsum.searchsorted(target, side="right"))


def log_softmax(logits: Logits) -> Logits:
    """Return log(softmax(logits)) along the last axis, float32."""
    with np.errstate(over="ignore"):  # of a logit far below the largest
        logprobs: Logits = logits - logits.max(axis=-1, keepdims=True)
    logprobs -= np.log(np.exp(logprobs).sum(axis=-1, keepdims=True))
    return logprobs


def normalized(scores: Logits) -> Logits:
    """Return the log-probabilities of ``scores`` (n_vocab,), which may hold infinite ones."""
    with np.errstate(over="ignore"):  # of a score far below the largest
        return log_softmax(shifted(scores, float(scores.max())))


def log_sum_exp(logits: Logits) -> float:
    """Return the log of the sum of exp over ``logits`` (n_vocab,)."""
    top = logits.max()
    with np.errstate(over="ignore"):  # of a logit far below the largest
        return float(top) + math.log(float(np.exp(logits - top).sum()))
