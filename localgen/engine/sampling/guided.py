"""The processor of ``guidance_scale``: it combines the logits of a sequence and of its guide."""

from __future__ import annotations

import numpy as np

from localgen.config import SamplingOptions
from localgen.engine.backend import Logits
from localgen.engine.sampling.filters import log_softmax
from localgen.engine.sampling.history import Processor
from localgen.engine.sequence import Sequence


def guided(logprobs: Logits, guide_logprobs: Logits, scale: float) -> Logits:
    """Return log-probabilities (n_vocab,) moved away from those of a guide:
    scale * (logprobs - guide_logprobs) + guide_logprobs (Sanchez et al. 2023, equation 7)."""
    moved: Logits = np.float32(scale) * (logprobs - guide_logprobs)
    moved += guide_logprobs
    return moved


def is_guided(options: SamplingOptions) -> bool:
    """Return whether sequences need a guide beside them; see ``engine.guidance``."""
    return options.guidance_scale not in (None, 1.0)


def guidance_scale(options: SamplingOptions) -> Processor | None:
    scale = options.guidance_scale
    if scale is None or not is_guided(options):
        return None

    def process(logits: Logits, sequence: Sequence) -> None:
        assert sequence.guide_logprobs is not None, "set by guidance.GuidanceStrategy"
        removed = np.isneginf(logits)  # by a mask
        with np.errstate(invalid="ignore"):
            logits[:] = guided(log_softmax(logits), sequence.guide_logprobs, scale)
        logits[removed] = -np.inf

    return process
