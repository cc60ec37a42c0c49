"""A vocabulary as llguidance needs it: the bytes of each token, and how text becomes tokens."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from llguidance import LLTokenizer, TokenizerWrapper

from localgen.text.byte_index import ByteIndex, byte_index
from localgen.text.vocab import Vocab

# No token of text has it in its middle, and few merge with it.
_BEFORE = b"\x02"
# Inside a string most tokens are allowed. llguidance keeps ready which of them fit in so many
# characters, for strings of a limited length. Near the limit it looks through all tokens that are
# not in the next smaller of these sets: with only its own, of 10 and 30, that takes milliseconds.
_STRING = r'[^"\\\x00-\x1F\x7F]'
_SLICES = [
    r"[\x20\x0A\x0D\x09]+",
    *(f"{_STRING}{{1,{n}}}" for n in (4, 8, 12, 16, 24)),
    f"{_STRING}+",
]
# Texts that must come, such as the keys of a schema, are asked about in each sequence again. Long
# ones are not kept: each rest of one is another text.
_MOST_TEXTS_KEPT, _MOST_BYTES_KEPT = 2048, 128


class TokenizerForGuidance:
    """What ``LLTokenizer`` asks for, by its names; it is called with a text's bytes.

    Special and unused tokens are no text. The only end that llguidance knows is a token after the
    vocabulary's own: ends are the engine's.
    """

    def __init__(self, vocab: Vocab, token_bytes: Callable[[int], bytes]) -> None:
        self._vocab = vocab
        self._index: ByteIndex = byte_index(vocab, token_bytes)
        pieces = self._index.pieces
        self.eos_token_id = vocab.n_vocab
        self.bos_token_id: int | None = None
        self.special_token_ids = [
            *(token_id for token_id, piece in enumerate(pieces) if not piece),
            self.eos_token_id,
        ]
        self.tokens = [piece or b"<%d>" % i for i, piece in enumerate([*pieces, b""])]
        self._n_before = len(self._tokens(_BEFORE))
        self._kept = functools.lru_cache(_MOST_TEXTS_KEPT)(self._spelled)

    def __call__(self, text: str | bytes) -> list[int]:
        data = text.encode() if isinstance(text, str) else text
        return self._kept(data) if len(data) <= _MOST_BYTES_KEPT else self._spelled(data)

    def _spelled(self, data: bytes) -> list[int]:
        if not self._vocab.adds_space_prefix:
            return self._tokens(data)
        # A space would be put before a text that follows nothing.
        found = self._tokens(_BEFORE + data)[self._n_before :]
        spelled = b"".join(self._index.pieces[each] for each in found)
        return found if spelled == data else self._index.split(data)

    def _tokens(self, data: bytes) -> list[int]:
        ids = self._vocab.tokenize(data, add_special=False, parse_special=False)
        return [int(each) for each in np.asarray(ids)]


def tokenizer_for(vocab: Vocab, token_bytes: Callable[[int], bytes]) -> LLTokenizer:
    """Return llguidance's view of a vocabulary; making it takes some tenths of a second.

    token_bytes: ``vocab.token_bytes``, or a faster one.
    """
    wrapped = TokenizerWrapper(TokenizerForGuidance(vocab, token_bytes))
    return LLTokenizer(wrapped, n_vocab=vocab.n_vocab + 1, slices=_SLICES)
