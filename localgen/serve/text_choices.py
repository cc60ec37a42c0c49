"""The rows of a completion → the choices of its answer: whole ones, and the pieces of a stream."""

from __future__ import annotations

from typing import Any

from localgen.engine.sequence import FinishReason
from localgen.generation.row_stream import RowUpdate
from localgen.serve.chat_choices import finish_reason
from localgen.serve.prompt_echo import Echo
from localgen.serve.token_texts import TextLogprobs, TokenBytes, joined


class TextChoice:
    """One choice of an answer. n_top: likeliest tokens of each; None without log-probabilities.
    echo: the prompt, if the text begins with it."""

    def __init__(
        self, index: int, n_top: int | None, token_bytes: TokenBytes, echo: Echo | None
    ) -> None:
        self.index = index
        self._entries = None if n_top is None else TextLogprobs(n_top, token_bytes)
        self._echo = echo
        self._texts = [] if echo is None else [echo.text]
        self._logprobs = self._echoed_logprobs()
        self._reason: FinishReason = "length"  # of a text of which only the prompt was wanted

    @property
    def n_prompt(self) -> int:
        """Tokens of the prompt, if it is part of the answer."""
        return 0 if self._echo is None else len(self._echo.token_ids)

    def begin(self, *, ends: bool) -> list[dict[str, Any]]:
        """Return the chunks before anything was generated. ends: whether nothing will be."""
        if self._echo is None:
            return []
        logprobs = joined(self._logprobs) or None
        reason = finish_reason(self._reason) if ends else None
        return [self._chunk(self._echo.text, logprobs, reason)]

    def add(self, update: RowUpdate) -> list[dict[str, Any]]:
        """Take what is new, and return it as the choices of chunks."""
        text = "".join(delta.text for delta in update.deltas)
        self._texts.append(text)
        logprobs = None
        if self._entries is not None and update.logprobs:
            found = update.logprobs[:-1] if update.finish_reason == "eos" else update.logprobs
            logprobs = self._entries.add(found) if found else None
            self._logprobs += [logprobs] if logprobs else []
        reason = None
        if update.finish_reason is not None:
            self._reason = update.finish_reason
            reason = finish_reason(update.finish_reason)
        return [self._chunk(text, logprobs, reason)] if text or logprobs or reason else []

    @property
    def whole(self) -> dict[str, Any]:
        """The choice of an answer that is not streamed."""
        logprobs = None
        if self._entries is not None:
            logprobs = joined([self._entries.add([]), *self._logprobs])
        return self._chunk("".join(self._texts), logprobs, finish_reason(self._reason))

    def _echoed_logprobs(self) -> list[dict[str, Any]]:
        if self._entries is None or self._echo is None or self._echo.logprobs is None:
            return []
        first = self._entries.first(self._echo.token_ids[0])
        return [first, self._entries.add(self._echo.logprobs)]

    def _chunk(
        self, text: str, logprobs: dict[str, Any] | None, reason: str | None
    ) -> dict[str, Any]:
        return {"index": self.index, "text": text, "logprobs": logprobs, "finish_reason": reason}
