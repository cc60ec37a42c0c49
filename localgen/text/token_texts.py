"""Single tokens as texts, and back; it knows their bytes, not how a vocabulary spells them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property


class TokenTexts:
    """The texts that the tokens 0 to ``n_vocab`` - 1 stand for.

    Bytes that are no whole character are written as \\xNN, so two tokens may have one text: a
    vocabulary with a token for each byte has further ones for the letters.
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
        """The token of a text, None if there is none: a special one before others of that text.

        ValueError where it may be one of several.
        """
        ids = self._ids.get(text, [])
        if len(ids) > 1:
            ids = [i for i in ids if self._is_special(i)] or ids
        if len(ids) > 1:
            raise ValueError(f"several tokens stand for {text!r}: {', '.join(map(str, ids))}")
        return ids[0] if ids else None

    @cached_property
    def _ids(self) -> dict[str, list[int]]:
        ids: dict[str, list[int]] = {}
        for token_id in range(self._n_vocab):
            ids.setdefault(self.text(token_id), []).append(token_id)
        return ids
