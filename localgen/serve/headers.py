"""Headers of ASGI requests and answers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Header = tuple[bytes, bytes]


def header(scope: Any, name: bytes) -> str | None:
    """Return a request's header by its name in lower case; None without it, or if it has two."""
    found = [value for key, value in scope["headers"] if key == name]
    return found[0].decode("latin-1") if len(found) == 1 else None


def has_header(scope: Any, name: bytes) -> bool:
    """Return whether a request has a header, once or more."""
    return any(key == name for key, _ in scope["headers"])


def with_headers(message: Any, more: Iterable[Header]) -> dict[str, Any]:
    """Return the start of an answer with further headers, which replace its own of these names."""
    added = list(more)
    names = {name for name, _ in added}
    own = [(name, value) for name, value in message.get("headers", ()) if name.lower() not in names]
    return {**message, "headers": [*own, *added]}
