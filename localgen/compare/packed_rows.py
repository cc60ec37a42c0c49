"""Packs predictions into few bytes, and measures another model's against them; pure NumPy.

A packed position keeps the log-probabilities of the most likely tokens, and of a sample of the
others, the *tail*, drawn in proportion to their probability. So the divergence within the tail is
estimated without bias instead of being left out, where an eighth of it would be lost.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from localgen.compare.metrics import TokenMetrics, Values
from localgen.engine.backend import Logits, TokenIds

Packed = npt.NDArray[np.void]

N_TOP = 512
N_SAMPLES = 64
_MOST = np.iinfo(np.uint16).max
# Rows processed at a time, few enough for a CPU's caches.
_BLOCK = 4
# What ``are_possible`` accepts: logits of float32 differ by less, in any model that works.
_LEAST_LOGPROB, _ROUNDING = -1e5, 1e-3
_OF_SUM = 1e-2
# What float32 leaves of a tail whose tokens underflow one by one.
_LEAST_TAIL = 1e-40


def packed_type(n_vocab: int, n_top: int, n_samples: int) -> np.dtype[np.void]:
    """Return the dtype of a packed position.

    target: the log-probability of the text's token. tail: the probability of all tokens that are
    not among the top. best: the most likely token. top_ids, sample_ids: in rising order, a sampled
    token as often as it was drawn. top, sample: their log-probabilities, ``low + step * value``.
    """
    token_id = np.dtype(np.uint16 if n_vocab - 1 <= _MOST else np.uint32).newbyteorder("<")
    n_top = min(n_top, n_vocab)
    return np.dtype(
        [
            *((name, "<f4") for name in ("target", "tail", "low", "step")),
            ("best", token_id),
            ("top_ids", token_id, (n_top,)),
            ("top", "<u2", (n_top,)),
            ("sample_ids", token_id, (n_samples,)),
            ("sample", "<u2", (n_samples,)),
        ]
    )


def are_possible(packed: Packed) -> bool:
    """Return whether packed positions hold log-probabilities, and of the tail a probability.

    Rounding may take them a little beyond 0 or 1, and their sum a little from 1.
    """
    highest = packed["low"].astype(np.float64) + packed["step"].astype(np.float64) * _MOST
    in_range = [
        (_LEAST_LOGPROB, packed["target"], _ROUNDING),
        (_LEAST_LOGPROB, packed["low"], _ROUNDING),
        (0.0, packed["tail"], 1 + _ROUNDING),
        (0.0, packed["step"], -_LEAST_LOGPROB / _MOST),
    ]
    allowed = _ROUNDING - 1e-6 * packed["low"]  # which float32 rounds
    is_flat = packed["step"] == 1.0  # of equal values, which are all ``low``
    if not bool((packed["top_ids"][:, 1:] > packed["top_ids"][:, :-1]).all()):
        return False
    is_in_range = bool(
        all(((low <= values) & (values <= high)).all() for low, values, high in in_range)
        and ((highest <= allowed) | is_flat).all()
    )
    return is_in_range and _add_up_to_one(packed)


def _add_up_to_one(packed: Packed) -> bool:
    with np.errstate(over="ignore"):  # infinite is not 1, either
        total = np.exp(_logprobs(packed, "top")).sum(axis=1) + packed["tail"]
    return bool((np.abs(total - 1) <= _OF_SUM + np.minimum(packed["step"], 1.0)).all())


def pack_rows(
    logits: Logits, targets: TokenIds, dtype: np.dtype[np.void], rng: np.random.Generator
) -> Packed:
    """Return logits (n, n_vocab) as ``dtype`` (n,), which is of ``packed_type``."""
    packed = np.zeros(len(targets), dtype)
    for row, values, target in zip(packed, logits, targets, strict=True):
        _pack_row(row, values, int(target), rng.random())
    return packed


def _pack_row(row: Any, logits: npt.NDArray[np.float32], target: int, offset: float) -> None:
    shifted = logits.astype(np.float64)
    shifted -= shifted.max()
    probabilities = np.exp(shifted)
    total = probabilities.sum()
    logprobs = shifted - np.log(total)
    probabilities /= total
    n_top, n_samples = len(row["top_ids"]), len(row["sample_ids"])
    top = np.sort(np.argpartition(logits, -n_top)[-n_top:])
    probabilities[top] = 0
    sample = _systematic_sample(probabilities, n_samples, offset)
    kept = logprobs[np.concatenate([top, sample])]
    low = kept.min()
    step = (kept.max() - low) / _MOST or 1.0
    values = np.rint((kept - low) / step)
    row["target"], row["tail"] = logprobs[target], probabilities.sum()
    row["low"], row["step"], row["best"] = low, step, logits.argmax()
    row["top_ids"], row["sample_ids"] = top, sample
    row["top"], row["sample"] = values[:n_top], values[n_top:]


def _systematic_sample(weights: Values, n: int, offset: float) -> npt.NDArray[np.int64]:
    """Return ``n`` indices, each as often as its share of the weights on average, rising.

    They are found at evenly spaced points of the cumulative sum, of which the first is at
    ``offset`` (0 to 1), and so spread more evenly than independent draws.
    """
    sums = weights.cumsum()
    points = (np.arange(n) + offset) / n * sums[-1]
    last = np.searchsorted(sums, sums[-1])  # rounding may put a point on the end
    indices: npt.NDArray[np.int64] = np.minimum(np.searchsorted(sums, points, side="right"), last)
    return indices


def packed_metrics(packed: Packed, logits: Logits, targets: TokenIds) -> TokenMetrics:
    """Compare a model's logits (n, n_vocab) with packed predictions (n,) for the same positions."""
    blocks = [
        _block(packed[i : i + _BLOCK], logits[i : i + _BLOCK], targets[i : i + _BLOCK])
        for i in range(0, len(targets), _BLOCK)
    ]
    return TokenMetrics.joined(blocks)


def _block(packed: Packed, logits: Logits, targets: TokenIds) -> TokenMetrics:
    """Compute the metrics of a few rows.

    With r and s the probabilities of the tail in the reference p and the candidate q, the KLD is
    sum(p ln(p/q)) over the top, + r ln(r/s), + r times the tail's own divergence. That is the mean
    of w - 1 - ln w over the sample, w = (q/s) / (p/r): the mean of w is 1, so this has the same
    expectation as -ln w, but is never negative and varies less.
    """
    rows = np.arange(len(targets))
    best = logits.argmax(axis=1)
    shifted = logits - logits[rows, best][:, None]
    of_top, of_sample = (
        np.take_along_axis(shifted, packed[ids].astype(np.int64), axis=1).astype(np.float64)
        for ids in ("top_ids", "sample_ids")
    )
    nll = -shifted[rows, targets].astype(np.float64)
    weights = np.exp(shifted, out=shifted)
    z = weights.sum(axis=1, dtype=np.float64)
    np.put_along_axis(weights, packed["top_ids"].astype(np.int64), 0, axis=1)
    log_z = np.log(z)
    nll += log_z
    kld, variance = _divergence(
        packed,
        of_top - log_z[:, None],
        of_sample - log_z[:, None],
        weights.sum(axis=1, dtype=np.float64) / z,
    )
    nll_reference = -packed["target"].astype(np.float64)
    return TokenMetrics(
        nll_reference=nll_reference,
        nll=nll,
        kld=kld,
        delta_p=np.exp(-nll) - np.exp(-nll_reference),
        same_top=(best == packed["best"]).astype(np.float64),
        confidence_reference=np.exp(_logprobs(packed, "top").max(axis=1)),
        confidence=1 / z,
        is_right_reference=(packed["best"] == targets).astype(np.float64),
        is_right=(best == targets).astype(np.float64),
        kld_variance=variance,
    )


def _divergence(
    packed: Packed, of_top: Values, of_sample: Values, tail: Values
) -> tuple[Values, Values]:
    """Return the KLD of each row, and the variance that it has because the tail was sampled.

    of_top, of_sample: the candidate's log-probabilities of these tokens. tail: its probability of
    the tail.
    """
    top, sample = _logprobs(packed, "top"), _logprobs(packed, "sample")
    # Rounded values do not add up to 1, and a divergence of weights that do not may be negative.
    tail_reference = packed["tail"].astype(np.float64)
    total = np.exp(top).sum(axis=1) + tail_reference
    top -= np.log(total)[:, None]
    kld = (np.exp(top) * (top - of_top)).sum(axis=1)
    has_tail = tail_reference > 0
    log_tail_reference = np.log(np.where(has_tail, tail_reference, 1))
    log_tail = np.log(np.maximum(tail, _LEAST_TAIL))
    log_w = (of_sample - log_tail[:, None]) - (sample - log_tail_reference[:, None])
    log_w[~has_tail] = 0
    with np.errstate(over="ignore"):  # of a corrupt pack: the result is not finite, and refused
        within = np.expm1(log_w) - log_w
    share = tail_reference / total
    kld += share * (log_tail_reference - np.log(total) - log_tail + within.mean(axis=1))
    return kld, share**2 * within.var(axis=1) / max(1, within.shape[1] - 1)


def _logprobs(packed: Packed, name: str) -> Values:
    low, step = (packed[each].astype(np.float64)[:, None] for each in ("low", "step"))
    found: Values = low + step * packed[name]
    return found
