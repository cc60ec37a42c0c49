"""DRY's sequence breakers as token ids: which tokens a breaker's text may begin in, and end in.

As llama.cpp finds them (``llama_sampler_init_dry`` in its src/llama-sampler.cpp): a token that
holds the whole text is a breaker by itself. A token that ends with the text's begin is one together
with the tokens of the rest. Of a breaker, only the first 40 bytes count, and of the rest only the
first 20 tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from localgen.engine.sampling.dry import Breakers
from localgen.text.vocab import Vocab

_MAX_BYTES, _MAX_TAIL = 40, 20


def breakers_of(
    texts: Iterable[str], vocab: Vocab, token_bytes: Callable[[int], bytes]
) -> Breakers:
    """Return the breakers of ``texts``; token_bytes: ``vocab.token_bytes``, or a faster one.

    It looks at every token.
    """
    tails: dict[int, dict[tuple[int, ...], None]] = {}
    words = [_as_text(token_bytes(token_id), vocab) for token_id in range(vocab.n_vocab)]
    for text in texts:
        breaker = text.encode()[:_MAX_BYTES]
        rests = {length: _tail(breaker[length:], vocab) for length in range(1, len(breaker))}
        for token_id, word in enumerate(words):
            if breaker in word:
                tails.setdefault(token_id, {})[()] = None
                continue
            for length, rest in rests.items():
                if word.endswith(breaker[:length]):
                    tails.setdefault(token_id, {})[rest] = None
    return {token_id: tuple(each) for token_id, each in tails.items()}


def _as_text(word: bytes, vocab: Vocab) -> bytes:
    """Return a token as a text of its own, which begins without the space that was put there."""
    return word.removeprefix(b" ") if vocab.adds_space_prefix else word


def _tail(rest: bytes, vocab: Vocab) -> tuple[int, ...]:
    ids = vocab.tokenize(rest, add_special=False, parse_special=False)
    return tuple(ids[:_MAX_TAIL].tolist())
