"""Who sends a request: the name by which places are shared and which the log has."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

_CLIENT = "localgen.client"
Scope = MutableMapping[str, Any]


def set_client(scope: Scope, name: str) -> None:
    """Name a request's client: the number of its key."""
    scope[_CLIENT] = name


def client_of(scope: Scope) -> str:
    """Return the name of a request's client: of its key, or else its address."""
    if _CLIENT in scope:
        return str(scope[_CLIENT])
    address = scope.get("client")
    return str(address[0]) if address else "local"
