"""Log-probabilities of tokens → those of the texts of a response."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from localgen.completion import TokenLogprob
from localgen.serve.token_texts import TokenBytes, chat_logprobs


class TextTokens:
    """Gives the pieces of a text their tokens, some of which come before the piece does.

    n_top: likeliest tokens of each place; None without log-probabilities.
    """

    def __init__(self, n_top: int | None, token_bytes: TokenBytes) -> None:
        self._n_top = n_top
        self._token_bytes = token_bytes
        self._waiting: list[dict[str, Any]] = []

    def add(self, found: Sequence[TokenLogprob]) -> None:
        """Take the next tokens."""
        if self._n_top is not None:
            self._waiting += chat_logprobs(found, self._n_top, self._token_bytes)

    def take(self) -> list[dict[str, Any]]:
        """Return the tokens that no piece has yet."""
        taken, self._waiting = self._waiting, []
        return taken

    def take_first(self, piece: str) -> list[dict[str, Any]]:
        """Return the tokens of a text's first piece, without those of marks before it."""
        taken = self.take()
        while taken and not _may_begin(taken, piece):
            del taken[0]
        return taken


def _may_begin(tokens: Iterable[dict[str, Any]], piece: str) -> bool:
    """Return whether a text of these tokens may begin with a piece, apart from space."""
    data = b"".join(bytes(each["bytes"]) for each in tokens).lstrip()
    begun = piece.lstrip().encode()
    return data.startswith(begun) or begun.startswith(data)
