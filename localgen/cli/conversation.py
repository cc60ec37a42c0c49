"""A chat: its messages, what is asked next, what is forgotten; it knows no terminal."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from localgen._util.atomic_write import write_whole
from localgen.config import DEFAULT_MAX_NEW_TOKENS, GenerationConfig, check_choice
from localgen.errors import ContextFullError, StateError
from localgen.generation.streaming import CompletionStream
from localgen.model import LocalModel

OVERFLOW = ("stop", "drop-oldest")
_ROLES = ("system", "user", "assistant", "tool")


class Conversation:
    """Messages that a model answers; ``messages`` are dicts with "role" and "content".

    overflow: what happens when the next answer has no room in the context: "stop" raises
    ContextFullError, "drop-oldest" forgets the oldest question and its answer, the system message
    never.
    """

    def __init__(
        self,
        model: LocalModel,
        config: GenerationConfig,
        *,
        system: str | None = None,
        overflow: str = "stop",
    ) -> None:
        check_choice("overflow", overflow, OVERFLOW)
        self._model = model
        self._config = config
        self._overflow = overflow
        self._n_asked = 0
        self.messages: list[dict[str, str]] = []
        if system:
            self.set_system(system)

    @property
    def n_tokens(self) -> int:
        """Tokens of the messages so far, as the model's template renders them."""
        return self._count(self.messages) if self.messages else 0

    @property
    def system(self) -> str | None:
        """The system message, if there is one."""
        return self.messages[0]["content"] if self._n_system else None

    def set_system(self, text: str) -> None:
        """Replace the system message; an empty text takes it away."""
        rest = self.messages[self._n_system :]
        self.messages = [{"role": "system", "content": text}, *rest] if text else rest

    def ask(self, text: str) -> tuple[CompletionStream, int]:
        """Begin the answer to ``text``; ``keep`` has to follow when it has ended.

        Returns the answer's stream, and how many messages were forgotten for it. Raises
        ContextFullError, with the messages as they were.
        """
        asked = [*self.messages, {"role": "user", "content": text}]
        kept = self._with_room(asked)
        # Each answer draws anew, and the whole chat again from the same seed.
        config = self._config
        if isinstance(config.seed, int):
            config = replace(config, seed=config.seed + self._n_asked)
        stream = self._model.chat_stream(kept, generation_config=config)
        self._n_asked += 1
        self.messages = kept
        return stream, len(asked) - len(kept)

    def keep(self, stream: CompletionStream) -> None:
        """Add the answer, as far as it came; a question without one is taken back."""
        if stream.completion.text:
            self.messages.append({"role": "assistant", "content": stream.completion.text})
        else:
            self.messages.pop()

    def undo(self) -> str | None:
        """Take the last question and its answer back; returns the question, None without one."""
        for index in range(len(self.messages) - 1, -1, -1):
            if self.messages[index]["role"] == "user":
                question = self.messages[index]["content"]
                del self.messages[index:]
                return question
        return None

    def clear(self) -> None:
        """Forget all but the system message."""
        del self.messages[self._n_system :]

    def save(self, path: Path) -> None:
        """Write the messages as JSON, as a whole or not at all, for their owner alone to read."""
        text = json.dumps({"messages": self.messages}, ensure_ascii=False, indent=1)
        write_whole(path, f"{text}\n".encode(), is_private=True)

    def load(self, path: Path) -> None:
        """Take the messages of a file that ``save`` wrote. Raises StateError, OSError."""
        try:
            self.messages = _saved_messages(path.read_bytes())
        except ValueError as error:
            raise StateError(f"{path} is not a saved chat: {error}") from None

    @property
    def _n_system(self) -> int:
        return int(bool(self.messages) and self.messages[0]["role"] == "system")

    def _count(self, messages: list[dict[str, str]]) -> int:
        ids = self._model.tokenizer.apply_chat_template(
            messages, add_generation_prompt=messages[-1]["role"] == "user", return_dict=False
        )
        return len(ids)

    def _with_room(self, messages: list[dict[str, str]]) -> list[dict[str, str]]:
        """The messages that are sent: all, or without the oldest ones."""
        n_ctx = self._model.config.n_ctx
        wanted = self._config.max_new_tokens or DEFAULT_MAX_NEW_TOKENS
        room = 1 if self._overflow == "stop" else min(wanted, n_ctx // 4)
        kept = list(messages)
        while (n_tokens := self._count(kept)) + room > n_ctx:
            n_system = int(kept[0]["role"] == "system")
            if self._overflow == "stop" or len(kept) - n_system == 1:
                raise ContextFullError(n_tokens, n_ctx)
            del kept[n_system]
            while kept[n_system]["role"] != "user":
                del kept[n_system]
        return kept


def _saved_messages(data: bytes) -> list[dict[str, str]]:
    """The messages of a saved chat. Raises ValueError, which says what is missing."""
    try:
        saved = json.loads(data.decode("utf-8"))
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None
    except (ValueError, RecursionError):
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
