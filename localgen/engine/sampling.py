"""The filters and draws as pure NumPy functions on one row; they know logits, not options.

Order, as in transformers: processors (on all logits) → temperature → top_k → top_p → min_p →
typical_p → draw. Sorting a whole vocabulary costs milliseconds, so the filters work on
*candidates*: the few ids that can survive, found by a ``*_candidates`` function that is provably
complete, and then sorted.

Sorted candidates have weights exp(score - best score), falling from 1. top_k, top_p and min_p each
keep a beginning of them, so a filter is just the number of candidates that it keeps.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from localgen.engine.backend import Logits, TokenIds

Weights = npt.NDArray[np.float32]
RunningSums = npt.NDArray[np.float64]
Ids = npt.NDArray[np.intp]

# Temperature is applied after the candidates are chosen. Two logits that differ by less than
# this part of their size can become equal when divided in float32, so candidates are taken this
# much below an exact bound; the exact filter on the scaled scores then decides.
_SLACK = 1e-6
_BLOCKS = 64


# --- processors: each edits a scratch copy of one row of logits, (n_vocab,) float32 ---


def penalize_repetition(logits: Logits, seen: Ids, penalty: float) -> None:
    """Keskar et al. 2019 (CTRL), section 4.1: seen tokens' logits are divided, or if < 0
    multiplied, by ``penalty``."""
    values = logits[seen]
    logits[seen] = np.where(values < 0, values * penalty, values / penalty)


def penalize_counts(
    logits: Logits, ids: Ids, counts: npt.NDArray[np.float32], frequency: float, presence: float
) -> None:
    """OpenAI's penalties: logit - count * frequency - (count > 0) * presence."""
    logits[ids] -= counts * np.float32(frequency) + (counts > 0) * np.float32(presence)


def ngram_repeats(tokens: TokenIds, size: int) -> TokenIds:
    """The ids that would complete an n-gram of ``size`` that ``tokens`` (n,) already holds."""
    n_windows = len(tokens) - size + 1
    if n_windows <= 0:
        return tokens[:0]
    matches = np.ones(n_windows, np.bool_)
    for offset in range(size - 1):
        matches &= tokens[offset : offset + n_windows] == tokens[len(tokens) - size + 1 + offset]
    return tokens[size - 1 :][matches]


# --- candidates: which ids can survive a filter ---


def reaching(logits: Logits, bound: float) -> Ids:
    """The ids whose logits are at least ``bound``, rising."""
    return (logits >= bound).nonzero()[0]


def top_k_candidates(logits: Logits, k: int) -> Ids:
    """Every id among the k largest of ``logits`` (n_vocab,), ties of the k-th included, and a few
    more; rising. ``k`` is at most n_vocab."""
    n_vocab = len(logits)
    width = n_vocab // _BLOCKS
    if k > width // 4:
        kth = float(np.partition(logits, n_vocab - k)[n_vocab - k])
        return reaching(logits, kth - abs(kth) * _SLACK)
    # Seen as 64 rows, each column's maximum is a different element: the k-th largest maximum is
    # a lower bound for the k-th largest element, and only columns that reach it need a look.
    blocks = logits[: width * _BLOCKS].reshape(_BLOCKS, width)
    maxima = blocks.max(axis=0)
    bound = float(np.partition(maxima, width - k)[width - k])
    bound -= abs(bound) * _SLACK
    columns = reaching(maxima, bound)
    found = reaching(blocks.take(columns, axis=1).ravel(), bound)
    ids, column = np.divmod(found, len(columns))
    ids *= width
    ids += columns[column]
    if width * _BLOCKS < n_vocab:
        ids = np.append(ids, reaching(logits[width * _BLOCKS :], bound) + width * _BLOCKS)
    return ids


def min_p_candidates(logits: Logits, temperature: float, min_p: float) -> Ids:
    """Every id whose probability at ``temperature`` is at least ``min_p`` times the largest."""
    top = float(logits.max())
    bound = top + temperature * math.log(min_p)
    return reaching(logits, bound - max(abs(bound), abs(top)) * _SLACK)


def top_p_candidates(logits: Logits, temperature: float, top_p: float) -> tuple[Ids, float]:
    """Every id that top_p at ``temperature`` can keep, rising, and the sum of the weights of all.

    Ids with a probability below (1 - top_p) / n_vocab sum to less than 1 - top_p, so the filter
    removes them all. Ids above a far higher bound usually hold top_p already, and then are enough.
    """
    weights = logits - logits.max()
    if temperature != 1.0:
        weights /= np.float32(temperature)
    np.exp(weights, out=weights)
    total = float(weights.sum())
    ids = reaching(weights, total * 1e-3)
    # The margin is far above what float32 sums are off by.
    if float(weights[ids].sum()) < total * (top_p + 1e-4):
        ids = reaching(weights, total * (1.0 - top_p) / len(logits) * 0.5)
    return ids, total


# --- filters on sorted candidates ---


def n_top_k(weights: Weights, k: int) -> int:
    """How many of the candidates top_k keeps: k, and the ties of the k-th, as in transformers."""
    if k >= len(weights):
        return len(weights)
    return int(np.count_nonzero(weights >= weights[k - 1]))


def n_top_p(running: RunningSums, total: float, top_p: float) -> int:
    """How many of the candidates top_p keeps: the fewest whose weights reach ``top_p * total``
    (Holtzman et al. 2020, nucleus sampling). ``running`` are the weights' running sums."""
    return min(int(running.searchsorted(top_p * total)) + 1, len(running))


def n_min_p(weights: Weights, min_p: float) -> int:
    """How many of the candidates min_p keeps: those with at least ``min_p`` times the best's."""
    return len(weights) - int(weights[::-1].searchsorted(min_p))


def typical(weights: Weights, mass: float) -> Ids:
    """The positions, rising, of the candidates whose surprise is nearest to the entropy, until
    they hold ``mass`` (Meister et al. 2022, locally typical sampling); ties of the last stay."""
    p = weights / weights.sum(dtype=np.float64)
    surprise = -np.log(p, out=np.full_like(p, -np.inf), where=p > 0)
    entropy = float((p * np.where(p > 0, surprise, 0.0)).sum())
    distance = np.abs(surprise - entropy)
    order = np.argsort(distance, kind="stable")
    last = min(int(np.count_nonzero(p[order].cumsum() < mass)), len(p) - 1)
    return np.flatnonzero(distance <= distance[order[last]])


# --- choosing ---


def draw(running: RunningSums, uniform: float) -> int:
    """A position by inverse transform: the first whose running sum passes ``uniform`` (in [0, 1))
    times the last one."""
    # A target that rounds up to the total would fall behind the last candidate.
    position = int(running.searchsorted(uniform * running[-1], side="right"))
    return min(position, len(running) - 1)


def log_softmax(logits: Logits) -> Logits:
    """log(softmax(logits)) along the last axis, float32."""
    shifted: Logits = logits - logits.max(axis=-1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return shifted


def log_sum_exp(logits: Logits) -> float:
    """log of the sum of exp over ``logits`` (n_vocab,)."""
    top = logits.max()
    return float(top) + math.log(float(np.exp(logits - top).sum()))
