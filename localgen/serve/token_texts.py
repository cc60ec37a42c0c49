"""Token ids and log-probabilities → what answers say of tokens: their text, bytes and places."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from localgen.completion import TokenLogprob

# JSON has no infinity.
_LEAST = -9999.0

TokenBytes = Callable[[int], bytes]


def chat_logprobs(
    found: Iterable[TokenLogprob], n_top: int, token_bytes: TokenBytes
) -> list[dict[str, Any]]:
    """Return the ``content`` of a chat's logprobs. n_top: alternatives of each token."""
    return [
        {
            **_entry(each.token_id, each.logprob, token_bytes),
            "top_logprobs": [_entry(*pair, token_bytes) for pair in each.top[:n_top]],
        }
        for each in found
    ]


def _entry(token_id: int, logprob: float, token_bytes: TokenBytes) -> dict[str, Any]:
    data = token_bytes(token_id)
    text = data.decode("utf-8", errors="replace")
    return {"token": text, "logprob": max(logprob, _LEAST), "bytes": list(data)}


class TextLogprobs:
    """The logprobs of /v1/completions; it knows where in the text each token begins.

    n_top: alternatives of each token.
    """

    def __init__(self, n_top: int, token_bytes: TokenBytes) -> None:
        self._n_top = n_top
        self._token_bytes = token_bytes
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self._n_chars = 0

    def first(self, token_id: int) -> dict[str, Any]:
        """Return the entry of a text's first token, which nothing comes before."""
        return self._entries([token_id], [None], [None])

    def add(self, found: Sequence[TokenLogprob]) -> dict[str, Any]:
        """Return the entries of the next tokens."""
        tops = [self._top(each.top[: self._n_top]) for each in found]
        logprobs = [max(each.logprob, _LEAST) for each in found]
        return self._entries([each.token_id for each in found], logprobs, tops)

    def _entries(
        self, token_ids: list[int], logprobs: Sequence[float | None], tops: Sequence[Any]
    ) -> dict[str, Any]:
        places = []
        for token_id in token_ids:
            places.append(self._n_chars)
            self._n_chars += len(self._decode(self._token_bytes(token_id)))
        return {
            "tokens": [self._spelled(token_id) for token_id in token_ids],
            "token_logprobs": list(logprobs),
            "top_logprobs": list(tops) if self._n_top else None,
            "text_offset": places,
        }

    def _top(self, pairs: Iterable[tuple[int, float]]) -> dict[str, float]:
        return {self._spelled(token_id): max(logprob, _LEAST) for token_id, logprob in pairs}

    def _spelled(self, token_id: int) -> str:
        """Return a token's text; of a part of a character, its bytes, as OpenAI spells them."""
        data = self._token_bytes(token_id)
        try:
            return data.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def joined(parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the entries of several calls of ``TextLogprobs`` as one."""
    found: dict[str, Any] = {}
    for part in parts:
        for name, values in part.items():
            found[name] = values if values is None else [*found.get(name, ()), *values]
    return found
