"""The text of single tokens, and the token of a text; it knows bytes, not vocabulary formats."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property


class TokenTexts:
    """The texts of the tokens 0 to ``n_vocab`` - 1.

    Bytes that are not a complete character are written as \\xNN. Several tokens may have the same
    text: a vocabulary with a token for each byte has more of them for the letters.
    """

    def __init__(
        self,
        n_vocab: int,
        token_bytes: Callable[[int], bytes],
        is_special: Callable[[int], bool],
    ) -> None:
        self._n_vocab = n_vocab
        self._token_bytes = token_bytes
        self._is_special = is_special

    def text(self, token_id: int) -> str:
        return self._token_bytes(token_id).decode("utf-8", errors="backslashreplace")

    def id_of(self, text: str) -> int | None:
        """Return the token whose text is ``text``, or None; a special token wins over others.

        Raises ValueError if several tokens have that text.
        """
        ids = self._ids.get(text, [])
        if len(ids) > 1:
            ids = [i for i in ids if self._is_special(i)] or ids
        if len(ids) > 1:
            raise ValueError(f"several tokens have the text {text!r}: {', '.join(map(str, ids))}")
        return ids[0] if ids else None

    @cached_property
    def _ids(self) -> dict[str, list[int]]:
        ids: dict[str, list[int]] = {}
        for token_id in range(self._n_vocab):
            ids.setdefault(self.text(token_id), []).append(token_id)
        return ids
