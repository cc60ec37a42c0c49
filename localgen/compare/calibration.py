"""Measures whether a model is right as often as it is confident; pure NumPy.

A token's confidence is the probability of the most likely token. It is right if the text has that
token. The expected calibration error is that of Guo et al., "On Calibration of Modern Neural
Networks" (2017): tokens are put into bins of equal width by their confidence, and the gaps between
the mean confidence and the share that is right are averaged over the tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

N_BINS = 15

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Calibration:
    """ece: the expected calibration error, 0 to 1. ece_by_chance: what a perfectly calibrated model
    of these confidences has on average, because tokens are few. confidence: its mean. accuracy: the
    share of tokens that are right."""

    ece: float
    ece_by_chance: float
    confidence: float
    accuracy: float


def calibration(confidence: Values, is_right: Values) -> Calibration:
    """Return the calibration of at least one token.

    confidence: (n,), above 0 and at most 1. is_right: (n,), 1 or 0.
    """
    # Bin b holds b / N_BINS < confidence <= (b + 1) / N_BINS. Both means have the bin's size as
    # their denominator, and so has its weight, so only the sum of the differences is left.
    bins = np.clip(np.ceil(confidence * N_BINS).astype(np.intp) - 1, 0, N_BINS - 1)
    gaps = np.bincount(bins, weights=confidence - is_right, minlength=N_BINS)
    # If confidences are right, a bin's gap is a sum of independent draws with this variance: nearly
    # normal, so its absolute value is sqrt(2 / pi) standard deviations on average.
    variances = np.bincount(bins, weights=confidence * (1 - confidence), minlength=N_BINS)
    return Calibration(
        ece=float(np.abs(gaps).sum() / len(confidence)),
        ece_by_chance=float(np.sqrt(2 / np.pi * variances).sum() / len(confidence)),
        confidence=float(confidence.mean()),
        accuracy=float(is_right.mean()),
    )
