"""Tokens as texts, in the vocabulary's spelling and in plain text; it knows no formats."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from localgen.text.vocab import Vocab


class TokenTexts:
    """The texts of a vocabulary's tokens.

    A token's spelling is the vocabulary's own and unique: "Ġthe". Its text is what it stands for:
    " the"; bytes that are not a complete character are written as \\xNN. Several tokens may have
    the same text: a vocabulary with a token for each byte has more of them for the letters.
    """

    def __init__(self, vocab: Vocab, token_bytes: Callable[[int], bytes]) -> None:
        """token_bytes: ``vocab.token_bytes``, or a faster one."""
        self._vocab = vocab
        self._token_bytes = token_bytes

    def spelling(self, token_id: int) -> str:
        return self._vocab.token_text(token_id)

    @cached_property
    def ids(self) -> dict[str, int]:
        """The token of each spelling."""
        return {self.spelling(token_id): token_id for token_id in range(self._vocab.n_vocab)}

    def text(self, token_id: int) -> str:
        return self._token_bytes(token_id).decode("utf-8", errors="backslashreplace")

    def id_of_text(self, text: str) -> int | None:
        """Return the token whose text is ``text``, or None.

        A special token wins over ordinary ones, and those over a token for a single byte. Raises
        ValueError if several tokens are left.
        """
        ids = self._ids_of_texts.get(text, [])
        for wins in (self._vocab.is_special, lambda i: self._vocab.token_type(i) != "byte"):
            if len(ids) > 1:
                ids = [token_id for token_id in ids if wins(token_id)] or ids
        if len(ids) > 1:
            raise ValueError(f"several tokens have the text {text!r}: {', '.join(map(str, ids))}")
        return ids[0] if ids else None

    @cached_property
    def _ids_of_texts(self) -> dict[str, list[int]]:
        ids: dict[str, list[int]] = {}
        for token_id in range(self._vocab.n_vocab):
            ids.setdefault(self.text(token_id), []).append(token_id)
        return ids
