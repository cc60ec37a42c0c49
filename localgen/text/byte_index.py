"""The ordinary tokens of a vocabulary sorted by their bytes; it knows no prompts and no model."""

from __future__ import annotations

import functools
from bisect import bisect_right
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from localgen.text.vocab import Vocab

Ids = npt.NDArray[np.int64]


class ByteIndex:
    """Finds tokens by their bytes: those that begin alike are neighbours in its order.

    pieces: the bytes of each token of the vocabulary; empty for one that is not in the index.
    longest: the most bytes of a token.
    """

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self.pieces = pieces
        self.longest = max(map(len, pieces), default=0)
        order = sorted((i for i, piece in enumerate(pieces) if piece), key=pieces.__getitem__)
        self._sorted = [pieces[token_id] for token_id in order]
        self._ids: Ids = np.array(order, np.int64)

    @functools.cached_property
    def _id_of(self) -> dict[bytes, int]:
        return {piece: token_id for token_id, piece in enumerate(self.pieces) if piece}

    def split(self, data: bytes) -> list[int]:
        """Return tokens that spell ``data``, the longest first; none if no tokens do."""
        found: list[int] = []
        while data:
            sizes = range(min(self.longest, len(data)), 0, -1)
            size = next((size for size in sizes if data[:size] in self._id_of), 0)
            if not size:
                return []
            found.append(self._id_of[data[:size]])
            data = data[size:]
        return found

    def extending(self, data: bytes) -> Ids:
        """Return the tokens that begin with ``data`` and have more bytes."""
        size = len(data)
        first = bisect_right(self._sorted, data)
        end = bisect_right(self._sorted, data, first, key=lambda piece: piece[:size])
        return self._ids[first:end]


def byte_index(vocab: Vocab, token_bytes: Callable[[int], bytes]) -> ByteIndex:
    """Return the index of the tokens that text is made of: not the special and the unused ones.

    token_bytes: ``vocab.token_bytes``, or a faster one.
    """

    def piece(token_id: int) -> bytes:
        is_text = vocab.token_type(token_id) != "unused" and not vocab.is_special(token_id)
        return token_bytes(token_id) if is_text else b""

    return ByteIndex([piece(token_id) for token_id in range(vocab.n_vocab)])
