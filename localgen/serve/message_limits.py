"""How many messages a chat may have, and how long each may be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from localgen.serve.config import ServeConfig
from localgen.serve.refusals import Refusal


def check_messages(messages: Sequence[Any], config: ServeConfig, param: str = "messages") -> None:
    """Raise Refusal, 400, for too many messages or one that is too long.

    messages: as JSON has them. param: the field of the request that they stand in.
    """
    if len(messages) > config.max_messages:
        raise Refusal(
            400,
            f"{param} has {len(messages)} messages; this server takes at most "
            f"{config.max_messages} (--max-messages)",
            param=param,
            code="array_above_max_length",
        )
    for number, message in enumerate(messages):
        n_chars = _n_chars(message)
        if n_chars > config.max_message_chars:
            raise Refusal(
                400,
                f"{param}[{number}] has {n_chars} characters; this server takes at most "
                f"{config.max_message_chars} in a message (--max-message-chars)",
                param=f"{param}[{number}]",
                code="string_above_max_length",
            )


def _n_chars(value: Any) -> int:
    """Return the characters of all texts in a value, names of its fields excluded."""
    n_chars, left = 0, [value]
    while left:
        each = left.pop()
        if isinstance(each, str):
            n_chars += len(each)
        elif isinstance(each, Mapping):
            left.extend(each.values())
        elif isinstance(each, list | tuple):
            left.extend(each)
    return n_chars
