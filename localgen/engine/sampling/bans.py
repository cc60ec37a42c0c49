"""Processors that remove tokens: repeated n-grams, bad words, ends that come too early."""

from __future__ import annotations

from typing import cast

import numpy as np

from localgen.config import SamplingOptions
from localgen.engine.backend import Logits
from localgen.engine.sampling.history import Processor, ends_with, ngram_repeats, tokens_of
from localgen.engine.sequence import Sequence


def no_repeat_ngram_size(options: SamplingOptions) -> Processor | None:
    size = options.no_repeat_ngram_size
    if not size:
        return None

    def process(logits: Logits, sequence: Sequence) -> None:
        logits[ngram_repeats(tokens_of(sequence), size)] = -np.inf

    return process


def encoder_no_repeat_ngram_size(options: SamplingOptions) -> Processor | None:
    size = options.encoder_no_repeat_ngram_size
    if not size:
        return None

    def process(logits: Logits, sequence: Sequence) -> None:
        repeats = ngram_repeats(tokens_of(sequence), size, among=sequence.prompt_ids)
        logits[repeats] = -np.inf

    return process


def bad_words_ids(options: SamplingOptions) -> Processor | None:
    words = cast("tuple[tuple[int, ...], ...]", options.bad_words_ids or ())
    if not words:
        return None

    def process(logits: Logits, sequence: Sequence) -> None:
        tokens = tokens_of(sequence)
        for *prefix, last in words:
            bans_eos = not prefix and last in sequence.eos_token_ids
            if not bans_eos and ends_with(tokens, prefix):
                logits[last] = -np.inf

    return process


def min_length(options: SamplingOptions) -> Processor | None:
    """Counts the prompt; ``min_new_tokens`` wins, as in transformers."""
    n_tokens = options.min_length
    if not n_tokens or options.min_new_tokens is not None:
        return None

    def process(logits: Logits, sequence: Sequence) -> None:
        if sequence.n_tokens < n_tokens:
            logits[list(sequence.eos_token_ids)] = -np.inf

    return process


def min_new_tokens(options: SamplingOptions) -> Processor | None:
    n_tokens = options.min_new_tokens
    if not n_tokens:
        return None

    def process(logits: Logits, sequence: Sequence) -> None:
        if sequence.n_after_prompt < n_tokens:
            logits[list(sequence.eos_token_ids)] = -np.inf

    return process


def suppress_tokens(options: SamplingOptions) -> Processor | None:
    if not options.suppress_tokens:
        return None
    suppressed = np.array(tuple(options.suppress_tokens))

    def process(logits: Logits, _sequence: Sequence) -> None:
        logits[suppressed] = -np.inf

    return process


def begin_suppress_tokens(options: SamplingOptions) -> Processor | None:
    """The output begins after a token that ``forced_bos_token_id`` forces, as in transformers."""
    if not options.begin_suppress_tokens:
        return None
    suppressed = np.array(tuple(options.begin_suppress_tokens))
    forces_bos = options.forced_bos_token_id is not None

    def process(logits: Logits, sequence: Sequence) -> None:
        is_forced = forces_bos and sequence.n_prompt == 1
        if sequence.n_after_prompt == int(is_forced):
            logits[suppressed] = -np.inf

    return process
