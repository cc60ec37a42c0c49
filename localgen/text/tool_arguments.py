"""Tool calls as OpenAI's API writes them, for templates: JSON text as arguments, no content.

Most templates take a dict as arguments, as transformers does, and encode it: text would be encoded
twice. Some write the text as it is. Some fail at the content None.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def json_arguments(chat: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the arguments in ``chat`` that are the text of a JSON object."""
    return [
        call["arguments"] for call in _calls(chat) if _decoded(call.get("arguments")) is not None
    ]


def is_encoded_twice(text: str, arguments: Sequence[str]) -> bool:
    """Return whether a rendered ``text`` has one of ``arguments`` as a JSON string."""
    return any(json.dumps(each, ensure_ascii=False) in text for each in arguments)


def as_most_templates_expect(chat: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a copy of ``chat`` with dicts for arguments of JSON text, and no content None."""
    copied = copy.deepcopy(list(chat))
    for call in _calls(copied):
        decoded = _decoded(call.get("arguments"))
        if decoded is not None:
            call["arguments"] = decoded
    for message in copied:
        if message.get("content", "") is None:
            message["content"] = ""
    return copied


def _calls(chat: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for message in chat:
        calls = message.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            function = call.get("function", call) if isinstance(call, dict) else None
            if isinstance(function, dict):
                yield function


def _decoded(arguments: Any) -> dict[str, Any] | None:
    if not isinstance(arguments, str):
        return None
    try:
        decoded = json.loads(arguments)
    except (ValueError, RecursionError):
        return None
    return decoded if isinstance(decoded, dict) else None
