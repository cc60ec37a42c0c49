"""Processors that leave only certain tokens: forced ones, and those that a function allows."""

from __future__ import annotations

from typing import cast

import numpy as np
import numpy.typing as npt

from localgen.config import SamplingOptions
from localgen.engine.backend import Logits
from localgen.engine.sampling.allowed_tokens import allowed_tokens
from localgen.engine.sampling.history import Processor
from localgen.engine.sequence import Sequence

Ids = npt.NDArray[np.intp]


# --- pure functions on logits ---


def only_allowed(logits: Logits, ids: Ids, *, forces: bool = True) -> Logits:
    """Return ``logits`` (n_vocab,) with -inf for all tokens but ``ids``; with ``forces``, these get
    0 if every one of them was removed before."""
    allowed = logits[ids]
    row = np.full_like(logits, -np.inf)
    row[ids] = 0.0 if forces and allowed.max() == -np.inf else allowed
    return row


def only_forced(logits: Logits, ids: tuple[int, ...]) -> Logits:
    """Return a row like ``logits`` (n_vocab,) that has 0 for ``ids`` and -inf for all others."""
    row = np.full_like(logits, -np.inf)
    row[list(ids)] = 0.0
    return row


# --- makers ---


def prefix_allowed_tokens_fn(options: SamplingOptions) -> Processor | None:
    if options.prefix_allowed_tokens_fn is None:
        return None
    has_beams = options.num_beams > 1

    def process(logits: Logits, sequence: Sequence) -> None:
        tracker = allowed_tokens(sequence)
        ids = tracker.allowed(len(logits), sequence.index)
        logits[:] = only_allowed(logits, ids, forces=tracker.forces or not has_beams)

    return process


def forced_bos_token_id(options: SamplingOptions) -> Processor | None:
    """Only after a prompt of one token, which is where a decoder starts in transformers."""
    if options.forced_bos_token_id is None:
        return None
    ids = (options.forced_bos_token_id,)

    def process(logits: Logits, sequence: Sequence) -> None:
        if sequence.n_tokens == 1 and not sequence.n_backed_up:
            logits[:] = only_forced(logits, ids)

    return process


def forced_eos_token_id(options: SamplingOptions) -> Processor | None:
    if options.forced_eos_token_id is None:
        return None
    ids = cast("tuple[int, ...]", options.forced_eos_token_id)

    def process(logits: Logits, sequence: Sequence) -> None:
        if sequence.n_tokens == len(sequence.tokens) - 1:  # its length ends it after this token
            logits[:] = only_forced(logits, ids)

    return process
