"""DRY: lower the score of a token that would continue a repetition; it knows token ids only.

By p-e-w (oobabooga/text-generation-webui#5677), with the definitions of llama.cpp
(``llama_sampler_init_dry`` in src/llama-sampler.cpp): a token that would extend a match of n tokens
loses multiplier · base^(n - allowed_length), if n is at least ``allowed_length``. The match is of
the last n tokens with an earlier place among the last ``penalty_last_n``; prompt tokens count like
new ones. A match never reaches back over a sequence breaker, and a token that holds a whole breaker
is never penalized.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from localgen.engine.backend import TokenIds

# The first token of each breaker → what follows it: () where that token holds all of it.
Breakers = Mapping[int, tuple[tuple[int, ...], ...]]
Lengths = npt.NDArray[np.intp]

# Beyond, llama.cpp's penalty would overflow a float32: base to at most log(its largest)/log(base).
_LOG_LARGEST = 88.7228391
_NEAR_ONE = 1.000001


def penalties(
    tokens: TokenIds,
    breakers: Breakers,
    *,
    multiplier: float,
    base: float,
    allowed_length: int,
) -> tuple[TokenIds, npt.NDArray[np.float32]]:
    """Return the distinct ids to penalize, (n,), and by how much, float32 (n,).

    tokens: the last ``penalty_last_n`` of the sequence, or fewer at its begin.
    """
    none = tokens[:0], np.zeros(0, np.float32)
    if len(tokens) <= allowed_length:
        return none
    longest = n_since_breaker(tokens, breakers)
    if longest < allowed_length:
        return none
    lengths = suffix_lengths(tokens, longest)
    continues = lengths >= allowed_length
    next_ids, lengths = tokens[1:][continues], lengths[continues]
    ids, inverse = np.unique(next_ids, return_inverse=True)
    longest_of = np.zeros(len(ids), np.intp)
    np.maximum.at(longest_of, inverse, lengths)
    exponents = longest_of - allowed_length
    if base > _NEAR_ONE:
        exponents = np.minimum(exponents, int(_LOG_LARGEST / math.log(base)))
    penalty = (multiplier * base ** exponents.astype(np.float64)).astype(np.float32)
    stays = np.array([() not in breakers.get(token_id, ()) for token_id in ids.tolist()], np.bool_)
    return ids[stays], penalty[stays]


def n_since_breaker(tokens: TokenIds, breakers: Breakers) -> int:
    """Return how many tokens follow the last breaker; all of them if there is none."""
    listed = tokens.tolist()
    for n_after in range(len(listed)):
        tails = breakers.get(listed[-1 - n_after])
        if tails is None:
            continue
        after = tuple(listed[len(listed) - n_after :])
        matching = [len(tail) for tail in tails if after[: len(tail)] == tail]
        if matching:
            return n_after - max(matching)
    return len(listed)


def suffix_lengths(tokens: TokenIds, longest: int) -> Lengths:
    """Return for each token but the last how many tokens up to it are also the last ones of
    ``tokens``, counted to ``longest``.

    By the Z algorithm on the reversed tokens, in linear time: a text that repeats itself is what
    DRY is for.
    """
    reverse = tokens.tolist()[::-1]
    lengths = [0] * len(reverse)
    begin = end = 0  # of the match that reaches furthest, which the text begins with as well
    for at in range(1, len(reverse)):
        length = min(lengths[at - begin], end - at) if at < end else 0
        most = min(longest, len(reverse) - at)
        while length < most and reverse[length] == reverse[at + length]:
            length += 1
        lengths[at] = length
        if at + length > end:
            begin, end = at, at + length
    return np.array(lengths[:0:-1], np.intp)
