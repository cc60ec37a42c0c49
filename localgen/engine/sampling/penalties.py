"""Processors that raise or lower logits: penalties on tokens and on length, and biases."""

from __future__ import annotations

from typing import cast

import numpy as np
import numpy.typing as npt

from localgen.config import SamplingOptions
from localgen.engine.backend import Logits
from localgen.engine.sampling.history import Processor, ends_with, tokens_of
from localgen.engine.sequence import Sequence

_LARGEST = float(np.finfo(np.float32).max)


# --- pure functions on logits ---


def repetition_penalized(values: Logits, penalty: float) -> Logits:
    """Return the logits of seen tokens after the repetition penalty: divided by ``penalty``, or if
    < 0 multiplied (Keskar et al. 2019, CTRL, section 4.1)."""
    # Of the two results that is the smaller one for a penalty above 1, else the larger one.
    choose = np.minimum if penalty > 1.0 else np.maximum
    with np.errstate(over="ignore"):
        penalized: Logits = choose(values * penalty, values / penalty)
    return penalized


def counts_penalized(
    values: Logits, counts: npt.NDArray[np.float32], frequency: float, presence: float
) -> Logits:
    """Return the logits of tokens with these counts after OpenAI's penalties:
    logit - count * frequency - (count > 0) * presence."""
    penalized: Logits = values - counts * np.float32(frequency)
    penalized -= (counts > 0) * np.float32(presence)
    return penalized


def decayed(values: Logits, factor: float, n_over: int) -> Logits:
    """Return the end tokens' logits ``n_over`` tokens after the decay began:
    logit + abs(logit) * (factor ** n_over - 1); what is not finite stays as it is."""
    with np.errstate(over="ignore", invalid="ignore"):
        growth = min(float(np.float64(factor) ** n_over) - 1.0, _LARGEST)
        raised = values + np.abs(values) * np.float32(growth)
    result: Logits = np.where(np.isfinite(values), raised, values)
    return result


# --- makers ---


def sequence_bias(options: SamplingOptions) -> Processor | None:
    biases = cast("tuple[tuple[tuple[int, ...], float], ...]", options.sequence_bias or ())
    if not biases:
        return None

    def process(logits: Logits, sequence: Sequence) -> None:
        tokens = tokens_of(sequence)
        added: dict[int, float] = {}
        for ids, bias in biases:
            *prefix, last = ids
            if ends_with(tokens, prefix):
                added[last] = added.get(last, 0.0) + bias
        if added:
            with np.errstate(invalid="ignore"):  # -inf added to a logit of +inf
                logits[list(added)] += np.array(list(added.values()), np.float32)

    return process


def encoder_repetition_penalty(options: SamplingOptions) -> Processor | None:
    if options.encoder_repetition_penalty == 1.0:
        return None
    penalty = 1.0 / options.encoder_repetition_penalty

    def process(logits: Logits, sequence: Sequence) -> None:
        # An id that comes twice is read twice, and then written the same.
        logits[sequence.prompt_ids] = repetition_penalized(logits[sequence.prompt_ids], penalty)

    return process


def penalizes_counts(options: SamplingOptions) -> bool:
    """Return whether an option needs the ``TokenCounts`` of a sequence."""
    return bool(
        options.repetition_penalty != 1.0 or options.frequency_penalty or options.presence_penalty
    )


def penalized(values: Logits, sequence: Sequence, options: SamplingOptions) -> Logits:
    """Return the logits ``values`` of a sequence's seen tokens after all penalties."""
    if options.repetition_penalty != 1.0:
        values = repetition_penalized(values, options.repetition_penalty)
    if options.frequency_penalty or options.presence_penalty:
        assert sequence.counts is not None
        values = counts_penalized(
            values, sequence.counts.generated, options.frequency_penalty, options.presence_penalty
        )
    return values


def token_penalties(options: SamplingOptions) -> Processor | None:
    """All penalties on seen tokens, of which the sequence keeps counts."""
    if not penalizes_counts(options):
        return None

    def process(logits: Logits, sequence: Sequence) -> None:
        assert sequence.counts is not None
        seen = sequence.counts.seen
        logits[seen] = penalized(logits[seen], sequence, options)

    return process


def exponential_decay_length_penalty(options: SamplingOptions) -> Processor | None:
    if options.exponential_decay_length_penalty is None:
        return None
    start, factor = options.exponential_decay_length_penalty

    def process(logits: Logits, sequence: Sequence) -> None:
        if sequence.n_after_prompt > start:
            ends = list(sequence.eos_token_ids)
            logits[ends] = decayed(logits[ends], factor, sequence.n_after_prompt - start)

    return process
