"""Puts rows together whose prompts begin alike, so that one actor computes the beginning once.

It knows texts only. Sorting a window of rows by the beginnings of their prompts leaves those
neighbours that share most.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

Item = TypeVar("Item")

# A longer common beginning is one for which the rest no longer matters.
_MOST_CHARACTERS = 2048
# What the template of a chat writes before the messages.
_BEFORE_MESSAGES = ("chat_template", "template_variables", "tools", "documents")


def beginning_of(fields: Mapping[str, Any]) -> str:
    """Return a text that rows have in common as far as their prompts are the same."""
    prompt = fields.get("prompt")
    messages = fields.get("messages")
    if messages is not None:
        parts = [fields.get(name) for name in _BEFORE_MESSAGES]
        prompt = json.dumps([*parts, messages], default=str)
    elif prompt is None:
        prompt = json.dumps(fields.get("prompt_token_ids"), default=str)
    return str(prompt)[:_MOST_CHARACTERS]


def windows(
    items: Iterable[Item], size_of: Callable[[Item], int], *, most_items: int, most_bytes: int
) -> Iterator[list[Item]]:
    """Yield the items in lists of ``most_items``, or fewer where they have ``most_bytes``."""
    window: list[Item] = []
    n_bytes = 0
    for item in items:
        window.append(item)
        n_bytes += size_of(item)
        if len(window) >= most_items or n_bytes >= most_bytes:
            yield window
            window, n_bytes = [], 0
    if window:
        yield window
