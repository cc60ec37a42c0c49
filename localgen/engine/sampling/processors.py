"""Processors edit a scratch copy of one row of logits before any filter: penalties, bans, biases.

Each is a function of one option that returns None where the option is off; ``_MAKERS`` lists them
in transformers' order. To add one: a field of ``SamplingOptions``, a maker here, and a test.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Items
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from localgen.config import SamplingOptions
from localgen.engine.backend import Logits, TokenIds
from localgen.engine.sampling.filters import log_softmax
from localgen.engine.sequence import Sequence
from localgen.engine.trackers import Mask

Processor = Callable[[Logits, Sequence], None]
CustomProcessor = Callable[[TokenIds, Logits], Any]
Ids = npt.NDArray[np.intp]

_MASKED_BELOW = -1e30


# --- pure functions on logits ---


def guided(logprobs: Logits, guide_logprobs: Logits, scale: float) -> Logits:
    """Return log-probabilities (n_vocab,) moved away from those of a guide:
    scale * (logprobs - guide_logprobs) + guide_logprobs (Sanchez et al. 2023, equation 7)."""
    moved: Logits = np.float32(scale) * (logprobs - guide_logprobs)
    moved += guide_logprobs
    return moved


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


def ngram_repeats(tokens: TokenIds, size: int) -> TokenIds:
    """Return the ids that would complete an n-gram of ``size`` that ``tokens`` (n,) already has."""
    n_windows = len(tokens) - size + 1
    if n_windows <= 0:
        return tokens[:0]
    matches = np.ones(n_windows, np.bool_)
    for offset in range(size - 1):
        matches &= tokens[offset : offset + n_windows] == tokens[len(tokens) - size + 1 + offset]
    return tokens[size - 1 :][matches]


def apply_masks(logits: Logits, masks: Items[Mask]) -> None:
    """Remove the tokens that one of ``masks`` does not allow."""
    for mask in masks:
        logits[~mask] = -np.inf


# --- makers ---


def _guidance(options: SamplingOptions) -> Processor | None:
    scale = options.guidance_scale
    if not is_guided(options) or scale is None:
        return None

    def process(logits: Logits, sequence: Sequence) -> None:
        assert sequence.guide_logprobs is not None, "set by guidance.GuidanceStrategy"
        removed = np.isneginf(logits)  # by a mask
        with np.errstate(invalid="ignore"):
            logits[:] = guided(log_softmax(logits), sequence.guide_logprobs, scale)
        logits[removed] = -np.inf

    return process


def is_guided(options: SamplingOptions) -> bool:
    """Return whether sequences need a guide beside them; see ``engine.guidance``."""
    return options.guidance_scale not in (None, 1.0)


def _sequence_bias(options: SamplingOptions) -> Processor | None:
    biases = cast("tuple[tuple[tuple[int, ...], float], ...]", options.sequence_bias or ())
    if not biases:
        return None

    def process(logits: Logits, sequence: Sequence) -> None:
        tokens = sequence.tokens[: sequence.n_tokens]
        added: dict[int, float] = {}
        for ids, bias in biases:
            *prefix, last = ids
            if _ends_with(tokens, prefix):
                added[last] = added.get(last, 0.0) + bias
        if added:
            logits[list(added)] += np.array(list(added.values()), np.float32)

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


def _penalties(options: SamplingOptions) -> Processor | None:
    if not penalizes_counts(options):
        return None

    def process(logits: Logits, sequence: Sequence) -> None:
        assert sequence.counts is not None
        seen = sequence.counts.seen
        logits[seen] = penalized(logits[seen], sequence, options)

    return process


def _no_repeat_ngram(options: SamplingOptions) -> Processor | None:
    size = options.no_repeat_ngram_size
    if not size:
        return None

    def process(logits: Logits, sequence: Sequence) -> None:
        logits[ngram_repeats(sequence.tokens[: sequence.n_tokens], size)] = -np.inf

    return process


def _bad_words(options: SamplingOptions) -> Processor | None:
    words = cast("tuple[tuple[int, ...], ...]", options.bad_words_ids or ())
    if not words:
        return None

    def process(logits: Logits, sequence: Sequence) -> None:
        tokens = sequence.tokens[: sequence.n_tokens]
        for *prefix, last in words:
            bans_eos = not prefix and last in sequence.eos_token_ids
            if not bans_eos and _ends_with(tokens, prefix):
                logits[last] = -np.inf

    return process


def _min_new_tokens(options: SamplingOptions) -> Processor | None:
    n_tokens = options.min_new_tokens
    if not n_tokens:
        return None

    def process(logits: Logits, sequence: Sequence) -> None:
        if sequence.n_new < n_tokens:
            logits[list(sequence.eos_token_ids)] = -np.inf

    return process


def _suppress_tokens(options: SamplingOptions) -> Processor | None:
    if not options.suppress_tokens:
        return None
    suppressed = np.array(tuple(options.suppress_tokens))

    def process(logits: Logits, _sequence: Sequence) -> None:
        logits[suppressed] = -np.inf

    return process


_MAKERS: tuple[Callable[[SamplingOptions], Processor | None], ...] = (
    _guidance,
    _sequence_bias,
    _penalties,
    _no_repeat_ngram,
    _bad_words,
    _min_new_tokens,
    _suppress_tokens,
)


def make_processors(
    options: SamplingOptions, custom: Items[CustomProcessor] = ()
) -> list[Processor]:
    """Return the processors that ``options`` need, in transformers' order, then the caller's."""
    made = [processor for make in _MAKERS if (processor := make(options)) is not None]
    return [*made, *map(_custom, custom)]


def only_penalizes(options: SamplingOptions, custom: Items[CustomProcessor] = ()) -> bool:
    """Return whether the penalties of seen tokens are all that processors do."""
    others = [make for make in _MAKERS if make is not _penalties and make(options) is not None]
    return penalizes_counts(options) and not others and not custom


def _custom(processor: CustomProcessor) -> Processor:
    def process(logits: Logits, sequence: Sequence) -> None:
        result = processor(sequence.tokens[: sequence.n_tokens], logits.copy())
        logits[:] = checked_scores(result, logits)

    return process


def checked_scores(result: Any, given: Logits) -> Logits:
    """Return what a caller's processor made of the scores ``given``, as float32.

    Raises ValueError unless it has their shape.
    """
    array = np.asarray(result)
    if array.shape != given.shape or array.dtype.kind not in "fiu":
        raise ValueError(
            f"a logits processor must return numbers of shape {given.shape} like its scores, got "
            f"{array.dtype} {array.shape}"
        )
    with np.errstate(over="ignore"):
        scores = array.astype(np.float32)
    # Some processors mask with the lowest float, which overflows when divided by a temperature.
    scores[scores < _MASKED_BELOW] = -np.inf
    return scores


def _ends_with(tokens: TokenIds, prefix: list[int]) -> bool:
    return not prefix or tokens[-len(prefix) :].tolist() == prefix
