"""The rows of a chat → the choices of its answer: whole ones, and the pieces of a stream."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from typing import Any

from localgen.engine.sequence import FinishReason
from localgen.generation.row_stream import RowUpdate
from localgen.serve.token_texts import TokenBytes, chat_logprobs
from localgen.serve.usage import ReasoningCount
from localgen.text.replies.results import ReplyDelta

_REASONS: dict[FinishReason, str] = {
    "eos": "stop",
    "stop": "stop",
    "length": "length",
    "time": "length",  # the server's limit of time, which OpenAI's API has no word for
    "cancelled": "length",
}


def finish_reason(reason: FinishReason, *, has_calls: bool = False) -> str:
    """Return OpenAI's name of why a text ended."""
    return "tool_calls" if has_calls and reason in ("eos", "stop") else _REASONS[reason]


def new_call_id() -> str:
    """Return an id of a tool call: nine letters and digits, as Mistral's templates need them."""
    return secrets.token_hex(5)[:9]


class ChatChoice:
    """One choice of an answer. n_top: likeliest tokens of each; None without log-probabilities."""

    def __init__(self, index: int, n_top: int | None, token_bytes: TokenBytes) -> None:
        self.index = index
        self._reasoning = ReasoningCount()
        self._n_top = n_top
        self._token_bytes = token_bytes
        self._texts: dict[str, list[str]] = {"text": [], "reasoning": []}
        self._calls: list[dict[str, Any]] = []
        self._logprobs: list[dict[str, Any]] = []
        self._reason: FinishReason | None = None

    def add(self, update: RowUpdate) -> list[dict[str, Any]]:
        """Take what is new, and return it as the choices of chunks."""
        self._reasoning.add(update)
        logprobs = self._new_logprobs(update)
        deltas = [delta for each in update.deltas for delta in self._delta(each)]
        if logprobs and not deltas:
            deltas = [{"content": ""}]
        chunks = [self._chunk(delta) for delta in deltas]
        if logprobs:
            chunks[0]["logprobs"] = {"content": logprobs, "refusal": None}
        if update.finish_reason is not None:
            self._reason = update.finish_reason
            chunks.append({**self._chunk({}), "finish_reason": self._finish_reason})
        return chunks

    def begin(self) -> dict[str, Any]:
        """Return the first choice of a stream."""
        return self._chunk({"role": "assistant", "content": ""})

    @property
    def n_reasoning(self) -> int:
        """The tokens of the reasoning so far."""
        return self._reasoning.n_tokens

    @property
    def whole(self) -> dict[str, Any]:
        """The choice of an answer that is not streamed."""
        text, reasoning = ("".join(self._texts[kind]) for kind in ("text", "reasoning"))
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
        if reasoning:
            message["reasoning_content"] = reasoning
        if self._calls:
            message["content"] = text or None
            message["tool_calls"] = self._calls
        logprobs = None if self._n_top is None else {"content": self._logprobs, "refusal": None}
        return {
            "index": self.index,
            "message": message,
            "logprobs": logprobs,
            "finish_reason": self._finish_reason,
        }

    @property
    def _finish_reason(self) -> str:
        return finish_reason(self._reason or "cancelled", has_calls=bool(self._calls))

    def _chunk(self, delta: dict[str, Any]) -> dict[str, Any]:
        return {"index": self.index, "delta": delta, "logprobs": None, "finish_reason": None}

    def _delta(self, delta: ReplyDelta) -> Iterable[dict[str, Any]]:
        if delta.kind in self._texts:
            self._texts[delta.kind].append(delta.text)
            name = "content" if delta.kind == "text" else "reasoning_content"
            return [{name: delta.text}]
        assert delta.index is not None
        if delta.kind == "tool_name":
            return [self._open_call(delta.index, delta.text)]
        if delta.kind == "tool_arguments":
            self._calls[delta.index]["function"]["arguments"] += delta.text
            function = {"arguments": delta.text}
            return [{"tool_calls": [{"index": delta.index, "function": function}]}]
        if delta.index == len(self._calls):  # a call without a name
            return [self._open_call(delta.index, "")]
        return []

    def _open_call(self, index: int, name: str) -> dict[str, Any]:
        function = {"name": name, "arguments": ""}
        call = {"id": new_call_id(), "type": "function", "function": function}
        self._calls.append(call)
        return {"tool_calls": [{"index": index, **call, "function": dict(function)}]}

    def _new_logprobs(self, update: RowUpdate) -> list[dict[str, Any]]:
        if self._n_top is None:
            return []
        found = update.logprobs[:-1] if update.finish_reason == "eos" else update.logprobs
        logprobs = chat_logprobs(found, self._n_top, self._token_bytes)
        self._logprobs += logprobs
        return logprobs


def choices_of(
    n_rows: int, n_top: int | None, token_bytes: Callable[[int], bytes]
) -> list[ChatChoice]:
    """Return the choices of a chat before anything came."""
    return [ChatChoice(index, n_top, token_bytes) for index in range(n_rows)]
