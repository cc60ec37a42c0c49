"""Files of chats → messages: JSON Lines, as jobs read them. It asks no model.

A line is {"messages": [{"role": "user", "content": "…"}, …]}, and ends with what a model answers.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from localgen._util.home import expand_user
from localgen._util.json_text import read_json
from localgen._util.text_file import read_text
from localgen.errors import CompareError

AUTO = "auto"

# Short requests of different kinds: facts, explanations, code, arithmetic, lists, other languages.
OWN_CHATS = (
    "What is the capital of Portugal, and on which river does it lie?",
    "Explain in two sentences why the sky is blue.",
    "Write a Python function that returns the n-th Fibonacci number.",
    "A train travels 180 km in two and a half hours. What is its average speed?",
    "List five vegetables that grow well in a cold climate.",
    "Translate into French: The library closes at six o'clock.",
    "Write a short poem about the first snow of the year.",
    "What is the difference between a virus and a bacterium?",
    "Give me a recipe for pancakes with four ingredients.",
    "Rewrite this politely: Send me the report now.",
    "What does the SQL keyword GROUP BY do? Give an example.",
    "Name three causes of the First World War.",
    "Is 91 a prime number? Explain your answer.",
    "Wie viele Tage hat ein Schaltjahr, und warum?",
    "Summarise the story of Romeo and Juliet in three sentences.",
    "Write an email that cancels a dentist's appointment on Monday.",
)

Message = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatFile:
    """name: of the file, or "auto" for ``OWN_CHATS``. chats: the messages of each.

    sha256: of its text.
    """

    name: str
    sha256: str
    chats: tuple[tuple[Message, ...], ...]


def read_chats(source: str | os.PathLike[str]) -> ChatFile:
    """Return the chats of a file; those of ``OWN_CHATS`` for "auto".

    Raises CompareError with the line's number for a line that is not a chat, OSError.
    """
    if source == AUTO:
        chats = tuple(({"role": "user", "content": text},) for text in OWN_CHATS)
        return ChatFile(name=AUTO, sha256=_sha256("\n".join(OWN_CHATS)), chats=chats)
    path = expand_user(source)
    try:
        text = read_text(path)
    except ValueError as error:
        raise CompareError(f"{path} cannot be chats: {error}") from None
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise CompareError(f"{path} has no chats: each line must be {_FORM}")
    found = tuple(_chat(f"{path}, line {number}", line) for number, line in lines)
    return ChatFile(name=path.name, sha256=_sha256(text), chats=found)


_FORM = '{"messages": [{"role": "user", "content": "…"}]}'


def _chat(where: str, line: str) -> tuple[Message, ...]:
    try:
        data = read_json(line)
    except ValueError as error:
        raise CompareError(f"{where} is not JSON: {error}") from None
    messages = data.get("messages") if isinstance(data, dict) else None
    if not (isinstance(messages, list) and messages):
        raise CompareError(f"{where} is not a chat: a line must be {_FORM}")
    if others := [name for name in data if name != "messages"]:
        raise CompareError(f"{where} has {others[0]!r}: a line has messages and nothing else")
    for number, message in enumerate(messages, 1):
        _check_message(f"{where} is not a chat: message {number}", message)
    return tuple(messages)


def _check_message(what: str, message: object) -> None:
    """Raise CompareError unless it has a role and text; tool calls may stand in for the text."""
    if not (isinstance(message, dict) and isinstance(message.get("role"), str)):
        raise CompareError(f"{what} has no role; a line must be {_FORM}")
    content = message.get("content")
    if not (isinstance(content, str) or (content is None and message.get("tool_calls"))):
        raise CompareError(f"{what} must have text as its content, got {content!r:.40}")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
