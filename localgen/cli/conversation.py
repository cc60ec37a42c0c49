"""A chat: its messages, the next question, what is dropped; it knows nothing of terminals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from localgen._util.atomic_write import atomic_write_bytes
from localgen._util.checks import check_choice
from localgen._util.json_text import read_json
from localgen._util.text_file import read_text
from localgen.config import DEFAULT_MAX_NEW_TOKENS, GenerationConfig
from localgen.errors import ContextFullError, StateError
from localgen.generation.streaming import ChatStream
from localgen.model import LocalModel
from localgen.text.replies.reasoning import Reasoning

OVERFLOW = ("stop", "drop-oldest")
_QUESTION = {"role": "user", "content": "Hi"}
_ROLES = ("system", "user", "assistant", "tool")


class MessageTooLongError(ContextFullError):
    """The system message and a question do not fit the context, even without what came before."""


class Conversation:
    """A chat with a model; ``messages`` are dicts with "role" and "content".

    config: the options of each answer.
    overflow: what to do if the context has no room for the next answer: "stop" raises
    ContextFullError; "drop-oldest" drops the oldest question and its answer, but never the system
    message. reasoning: see ``LocalModel.chat``; ValueError if the model's template cannot do it.
    """

    def __init__(
        self,
        model: LocalModel,
        config: GenerationConfig,
        *,
        system: str | None = None,
        overflow: str = "stop",
        reasoning: Reasoning | None = None,
    ) -> None:
        check_choice("overflow", overflow, OVERFLOW)
        self._model = model
        self.config = config
        self._overflow = overflow
        self._reasoning = reasoning
        self._n_asked = 0
        self.messages: list[dict[str, str]] = []
        if system:
            self.set_system(system)
        if reasoning is not None:  # an error now, not after the first question
            model.chat_prompt([*self.messages, _QUESTION], reasoning=reasoning)

    @property
    def n_tokens(self) -> int:
        """The number of tokens of all messages, as the model's template renders them."""
        return self._count(self.messages) if self.messages else 0

    @property
    def system(self) -> str | None:
        """The system message, or None."""
        return self.messages[0]["content"] if self._n_system else None

    def set_system(self, text: str) -> None:
        """Replace the system message; an empty text removes it."""
        rest = self.messages[self._n_system :]
        self.messages = [{"role": "system", "content": text}, *rest] if text else rest

    def ask(self, text: str) -> tuple[ChatStream, int]:
        """Start the answer to ``text``; call ``keep`` when it has ended.

        Returns the answer's stream and how many messages were dropped to make room. Raises
        ContextFullError and leaves the messages as they were.
        """
        asked = [*self.messages, {"role": "user", "content": text}]
        kept = self._with_room(asked)
        # A seed of its own for each answer, and the same chat again for the same first seed.
        config = self.config
        if isinstance(config.seed, int):
            config = replace(config, seed=config.seed + self._n_asked)
        stream = self._model.chat_stream(kept, generation_config=config, reasoning=self._reasoning)
        self._n_asked += 1
        self.messages = kept
        return stream, len(asked) - len(kept)

    def keep(self, stream: ChatStream) -> None:
        """Add the answer as far as it was generated; if it is empty, remove the question."""
        if stream.completion.text:
            self.messages.append({"role": "assistant", "content": stream.completion.text})
        else:
            self.messages.pop()

    def undo(self) -> str | None:
        """Remove the last question and its answer; return the question, or None."""
        for index in range(len(self.messages) - 1, -1, -1):
            if self.messages[index]["role"] == "user":
                question = self.messages[index]["content"]
                del self.messages[index:]
                return question
        return None

    def clear(self) -> None:
        """Remove all messages but the system message."""
        del self.messages[self._n_system :]

    def save(self, path: Path) -> None:
        """Write the messages as JSON, atomically; only the owner may read the file."""
        text = json.dumps({"messages": self.messages}, ensure_ascii=False, indent=1)
        atomic_write_bytes(path, f"{text}\n".encode(), is_private=True)

    def load(self, path: Path) -> None:
        """Replace the messages by those that ``save`` wrote. Raises StateError, OSError."""
        try:
            self.messages = _saved_messages(read_text(path))
        except ValueError as error:
            raise StateError(f"{path} is not a saved chat: {error}") from None

    @property
    def _n_system(self) -> int:
        return int(bool(self.messages) and self.messages[0]["role"] == "system")

    def _count(self, messages: list[dict[str, str]]) -> int:
        if messages[-1]["role"] == "user":
            return len(self._model.chat_prompt(messages, reasoning=self._reasoning).token_ids)
        ids = self._model.tokenizer.apply_chat_template(messages, return_dict=False)
        return len(ids)

    def _with_room(self, messages: list[dict[str, str]]) -> list[dict[str, str]]:
        """Return the messages to send: all, or without the oldest ones."""
        n_ctx = self._model.config.n_ctx
        wanted = self.config.max_new_tokens or DEFAULT_MAX_NEW_TOKENS
        room = 1 if self._overflow == "stop" else min(wanted, n_ctx // 4)
        kept = list(messages)
        while (n_tokens := self._count(kept)) + room > n_ctx:
            n_system = int(kept[0]["role"] == "system")
            if self._overflow == "stop" or len(kept) - n_system == 1:
                n_alone = self._count([*kept[:n_system], kept[-1]])
                if n_alone + room > n_ctx:
                    raise MessageTooLongError(n_alone, n_ctx)
                raise ContextFullError(n_tokens, n_ctx)
            del kept[n_system]
            while kept[n_system]["role"] != "user":
                del kept[n_system]
        return kept


def _saved_messages(text: str) -> list[dict[str, str]]:
    """Return the messages of a saved chat. Raises ValueError with what is wrong."""
    try:
        saved = read_json(text)
    except ValueError:
        raise ValueError("it is not JSON") from None
    messages = saved.get("messages") if isinstance(saved, dict) else None
    if not isinstance(messages, list):
        raise ValueError("it has no list of messages")
    return [_saved_message(number, each) for number, each in enumerate(messages, 1)]


def _saved_message(number: int, message: Any) -> dict[str, str]:
    if not isinstance(message, dict):
        raise ValueError(f"message {number} is not an object with a 'role' and a 'content'")
    for name in ("role", "content"):
        if name not in message:
            raise ValueError(f"message {number} has no {name!r}")
        if not isinstance(message[name], str):
            raise ValueError(f"the {name!r} of message {number} is not a string")
    if message["role"] not in _ROLES:
        raise ValueError(
            f"message {number} has the role {message['role']!r}, expected one of "
            f"{', '.join(_ROLES)}"
        )
    return {"role": message["role"], "content": message["content"]}
