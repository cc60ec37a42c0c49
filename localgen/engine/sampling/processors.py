"""Processors edit a scratch copy of one row of logits before any filter.

Each is a function of one option that returns None where the option is off; ``_MAKERS`` lists them
in transformers' order (``GenerationMixin._get_logits_processor``). The caller's own come last. To
add one: a field of ``SamplingOptions``, a maker in the module that it fits, and a test.

``penalties`` raise or lower logits, ``bans`` remove tokens, ``forced`` leaves only certain ones.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Items
from typing import Any

import numpy as np

from localgen.config import SamplingOptions
from localgen.engine.backend import Logits, TokenIds
from localgen.engine.sampling import bans, forced, guided, penalties
from localgen.engine.sampling.history import Maker, Processor, tokens_of
from localgen.engine.sequence import Sequence
from localgen.engine.trackers import Mask

CustomProcessor = Callable[[TokenIds, Logits], Any]

_FLOAT32 = np.finfo(np.float32)
_MASKED_BELOW = -1e30


def apply_masks(logits: Logits, masks: Items[Mask]) -> None:
    """Remove the tokens that one of ``masks`` does not allow."""
    for mask in masks:
        logits[~mask] = -np.inf


def _remove_invalid_values(options: SamplingOptions) -> Processor | None:
    if not options.remove_invalid_values:
        return None

    def process(logits: Logits, _sequence: Sequence) -> None:
        largest, lowest = float(_FLOAT32.max), float(_FLOAT32.min)
        np.nan_to_num(logits, copy=False, nan=0.0, posinf=largest, neginf=lowest)

    return process


_MAKERS: tuple[Maker, ...] = (
    guided.guidance_scale,
    penalties.sequence_bias,
    penalties.encoder_repetition_penalty,
    penalties.token_penalties,
    bans.no_repeat_ngram_size,
    bans.encoder_no_repeat_ngram_size,
    bans.bad_words_ids,
    bans.min_length,
    bans.min_new_tokens,
    forced.prefix_allowed_tokens_fn,
    forced.forced_bos_token_id,
    forced.forced_eos_token_id,
    _remove_invalid_values,
    penalties.exponential_decay_length_penalty,
    bans.suppress_tokens,
    bans.begin_suppress_tokens,
)


def make_processors(
    options: SamplingOptions, custom: Items[CustomProcessor] = ()
) -> list[Processor]:
    """Return the processors that ``options`` need, in transformers' order, then the caller's."""
    made = [processor for make in _MAKERS if (processor := make(options)) is not None]
    return [*made, *map(_custom, custom)]


def only_penalizes(options: SamplingOptions, custom: Items[CustomProcessor] = ()) -> bool:
    """Return whether the penalties of seen tokens are all that processors do."""
    makers = [make for make in _MAKERS if make(options) is not None]
    return makers == [penalties.token_penalties] and not custom


# Whatever text comes, these leave a token that is not an end alone.
_KEEP_TEXT: tuple[Maker, ...] = (
    guided.guidance_scale,
    penalties.encoder_repetition_penalty,
    penalties.token_penalties,
    bans.min_length,
    bans.min_new_tokens,
    _remove_invalid_values,
    penalties.exponential_decay_length_penalty,
)


def may_remove(options: SamplingOptions, custom: Items[CustomProcessor] = ()) -> bool:
    """Return whether a processor may remove tokens that are no ends."""
    others = (make for make in _MAKERS if make not in _KEEP_TEXT)
    return bool(custom) or any(make(options) is not None for make in others)


# These change the score of each token by itself, whatever the scores of the others are, and give
# none back that was removed.
_SCORE_EACH_ALONE: tuple[Maker, ...] = (
    penalties.sequence_bias,
    penalties.encoder_repetition_penalty,
    penalties.token_penalties,
    bans.no_repeat_ngram_size,
    bans.encoder_no_repeat_ngram_size,
    bans.bad_words_ids,
    bans.min_length,
    bans.min_new_tokens,
    bans.suppress_tokens,
    bans.begin_suppress_tokens,
)


def score_each_alone(options: SamplingOptions, custom: Items[CustomProcessor] = ()) -> bool:
    """Return whether no processor looks at the scores of several tokens, gives removed ones back,
    or is the caller's."""
    others = (make for make in _MAKERS if make not in _SCORE_EACH_ALONE)
    return not custom and all(make(options) is None for make in others)


def _custom(processor: CustomProcessor) -> Processor:
    def process(logits: Logits, sequence: Sequence) -> None:
        result = processor(tokens_of(sequence), logits.copy())
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
    is_masked = scores < _MASKED_BELOW
    is_masked &= scores.max(axis=-1, keepdims=True) >= _MASKED_BELOW  # else nothing would be left
    scores[is_masked] = -np.inf
    return scores
