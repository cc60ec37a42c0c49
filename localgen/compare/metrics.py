"""Measures how far one model's predictions are from another's; pure NumPy.

The conventions are those of llama-perplexity, so that figures are comparable: natural logarithms,
the probabilities of the same text's tokens under both models, standard errors of means over tokens.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from localgen.compare.calibration import calibration
from localgen.errors import CompareError

Rows = npt.NDArray[np.float32]
Values = npt.NDArray[np.float64]

# The stored quantiles of the tokens' KLD: those that llama-perplexity prints, deciles and
# quartiles. They are part of the schema of a comparison's JSON.
KLD_PROBABILITIES = (
    0.0, 0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.3, 0.4,
    0.5, 0.6, 0.7, 0.75, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999, 1.0,
)  # fmt: skip

# Of a token, in nats; the perplexity is its exponential.
_MOST_NLL = 700.0
# Rows processed at a time, few enough for a CPU's caches.
_BLOCK = 4


@dataclass(frozen=True, slots=True)
class TokenMetrics:
    """Metrics per token, float64 (n,).

    nll_reference, nll: -ln of the probability of the text's token. kld: KL(reference || candidate)
    of the predicted distributions, in nats. delta_p: the candidate's probability of the text's
    token minus the reference's. same_top: 1 where both have the same most likely token.
    confidence: the probability of the most likely token. is_right: 1 where the text has that token.
    kld_variance: of the kld, if it is estimated from a sample; 0 if it is exact.
    """

    nll_reference: Values
    nll: Values
    kld: Values
    delta_p: Values
    same_top: Values
    confidence_reference: Values
    confidence: Values
    is_right_reference: Values
    is_right: Values
    kld_variance: Values

    @classmethod
    def joined(cls, parts: list[TokenMetrics]) -> TokenMetrics:
        """Return the metrics of all parts, one after another."""
        names = cls.__slots__
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def token_metrics(reference: Rows, candidate: Rows, targets: npt.NDArray[np.int32]) -> TokenMetrics:
    """Compare two models' logits for the same positions.

    reference, candidate: (n, n_vocab), not modified. targets: (n,), the text's tokens there.
    """
    blocks = [
        _block(reference[i : i + _BLOCK], candidate[i : i + _BLOCK], targets[i : i + _BLOCK])
        for i in range(0, len(targets), _BLOCK)
    ]
    return TokenMetrics.joined(blocks)


def _block(reference: Rows, candidate: Rows, targets: npt.NDArray[np.int32]) -> TokenMetrics:
    """Compute the metrics of a few rows.

    With s = logits - max and Z = sum(exp(s)), ln p = s - ln Z, so that
    KLD = sum(p_ref * (s_ref - s)) - ln Z_ref + ln Z, which is exactly 0 for equal rows.
    """
    rows = np.arange(len(targets))
    tops = reference.argmax(axis=1), candidate.argmax(axis=1)
    shifted_ref = reference - reference[rows, tops[0]][:, None]
    shifted = candidate - candidate[rows, tops[1]][:, None]
    nll_ref = -shifted_ref[rows, targets].astype(np.float64)
    nll = -shifted[rows, targets].astype(np.float64)
    difference = shifted_ref - shifted
    weights = np.exp(shifted_ref, out=shifted_ref)
    z_ref = weights.sum(axis=1, dtype=np.float64)
    z = np.exp(shifted, out=shifted).sum(axis=1, dtype=np.float64)
    log_z_ref, log_z = np.log(z_ref), np.log(z)
    weights *= difference
    kld = weights.sum(axis=1, dtype=np.float64) / z_ref - log_z_ref + log_z
    nll_ref += log_z_ref
    nll += log_z
    return TokenMetrics(
        nll_reference=nll_ref,
        nll=nll,
        kld=kld,
        delta_p=np.exp(-nll) - np.exp(-nll_ref),
        same_top=(tops[0] == tops[1]).astype(np.float64),
        confidence_reference=1 / z_ref,
        confidence=1 / z,
        is_right_reference=(tops[0] == targets).astype(np.float64),
        is_right=(tops[1] == targets).astype(np.float64),
        kld_variance=np.zeros_like(kld),
    )


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over tokens and its standard error."""

    value: float
    se: float


def mean(values: Values) -> Mean:
    """Return the mean and its standard error, sqrt((mean(x^2) - mean(x)^2) / (n - 1))."""
    variance = float(np.var(values)) / max(1, len(values) - 1)
    return Mean(float(np.mean(values)), math.sqrt(variance))


@dataclass(frozen=True, slots=True)
class Quality:
    """Statistics of a candidate against its reference over one text; see ``TokenMetrics``.

    perplexity: exp of the mean nll; its error is propagated from the mean's. ln_ppl_ratio:
    ln(PPL / PPL of the reference), a mean of paired differences, so its error is small.
    kld_sampling_se: how far kld_mean may be from that of the whole distributions, as a standard
    error, if it is estimated from a reference pack; 0 if not.
    kld_quantiles: at ``KLD_PROBABILITIES``, interpolated linearly. top1_agreement: 0 to 1. flips:
    the share of tokens whose most likely token differs from the reference's. delta_p_rms: the root
    mean square. The others: see ``calibration.Calibration``.
    """

    n_tokens: int
    perplexity: float
    perplexity_se: float
    ln_ppl_ratio: float
    ln_ppl_ratio_se: float
    kld_mean: float
    kld_se: float
    kld_sampling_se: float
    kld_median: float
    kld_p90: float
    kld_p99: float
    kld_p999: float
    kld_max: float
    kld_quantiles: tuple[float, ...]
    top1_agreement: float
    flips: float
    flips_se: float
    delta_p_rms: float
    ece: float
    ece_by_chance: float
    confidence: float
    accuracy: float


def quality(tokens: TokenMetrics) -> Quality:
    """Return the statistics of a whole text.

    Raises CompareError for a perplexity or a KL divergence that no number can hold.
    """
    if not np.isfinite(tokens.kld).all():
        raise CompareError(
            "the KL divergence is not finite: the weights or the reference pack are corrupt"
        )
    nll, ratio, kld = mean(tokens.nll), mean(tokens.nll - tokens.nll_reference), mean(tokens.kld)
    flips = mean(1 - tokens.same_top)
    quantiles = tuple(float(q) for q in np.quantile(tokens.kld, KLD_PROBABILITIES))
    at = dict(zip(KLD_PROBABILITIES, quantiles, strict=True))
    if nll.value > _MOST_NLL:
        raise CompareError(
            f"the text's tokens have a mean negative log-likelihood of {nll.value:.0f} nats, too "
            f"large for a perplexity: the weights are probably corrupt"
        )
    perplexity = math.exp(nll.value)
    calibrated = calibration(tokens.confidence, tokens.is_right)
    return Quality(
        n_tokens=len(tokens.kld),
        perplexity=perplexity,
        perplexity_se=perplexity * nll.se,
        ln_ppl_ratio=ratio.value,
        ln_ppl_ratio_se=ratio.se,
        kld_mean=kld.value,
        kld_se=kld.se,
        kld_sampling_se=math.sqrt(float(tokens.kld_variance.sum())) / len(tokens.kld),
        kld_median=at[0.5],
        kld_p90=at[0.9],
        kld_p99=at[0.99],
        kld_p999=at[0.999],
        kld_max=at[1.0],
        kld_quantiles=quantiles,
        top1_agreement=float(tokens.same_top.mean()),
        flips=flips.value,
        flips_se=flips.se,
        delta_p_rms=math.sqrt(float(np.mean(tokens.delta_p**2))),
        **dataclasses.asdict(calibrated),
    )
