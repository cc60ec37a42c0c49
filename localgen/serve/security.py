"""Who may use the server: checks of Host, Origin and API key, as pure ASGI middleware.

A web page must not reach a server on loopback by a name that it controls (DNS rebinding: the Host
header then has that name), nor by requests that need no answer (the Origin header has its site).
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Iterable
from typing import Any

from localgen.serve.client import set_client
from localgen.serve.config import ServeConfig, is_loopback
from localgen.serve.headers import Header, has_header, header, with_headers
from localgen.serve.refusals import Refusal

# What anyone may see: a page without data, and whether the server is ready.
PUBLIC_PATHS = frozenset({"/", "/compare", "/health"})
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]/?#@\s]+)(?::\d{1,5})?")
_HEADER_NAMES = re.compile(r"[A-Za-z0-9_-]+(?:\s*,\s*[A-Za-z0-9_-]+){0,63}")


def host_of(text: str) -> str | None:
    """Return the name or address of a Host header, without port and brackets; None if malformed."""
    match = _HOST.fullmatch(text)
    return match[1].strip("[]").lower().rstrip(".") if match else None


class HostCheck:
    """Refuses requests whose Host header names another host than this one.

    Accepted are the loopback names, the host that the server listens on and ``allowed_hosts``; if
    other machines reach it, also any address, since a page's own name is never an address.
    """

    def __init__(self, app: Any, config: ServeConfig) -> None:
        self._app = app
        self._allowed = {name.strip("[]") for name in (config.host.lower(), *config.allowed_hosts)}
        self._any_address = not is_loopback(config.host)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve a request."""
        if scope["type"] == "http" and not self._is_allowed(header(scope, b"host")):
            refusal = Refusal(
                403,
                "the Host header does not name this server; start it with --allowed-host NAME for "
                "each further name that it is reached by",
                code="host_not_allowed",
            )
            await refusal.answer(send)
            return
        await self._app(scope, receive, send)

    def _is_allowed(self, text: str | None) -> bool:
        host = host_of(text or "")
        if host is None:
            return False
        if host in self._allowed or is_loopback(host):
            return True
        return self._any_address and _is_address(host)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class OriginCheck:
    """Refuses requests of web pages, but its own and those of ``cors_origins``, which get CORS."""

    def __init__(self, app: Any, config: ServeConfig) -> None:
        self._app = app
        self._origins = set(config.cors_origins)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve a request."""
        if scope["type"] != "http" or not has_header(scope, b"origin"):
            await self._app(scope, receive, send)
            return
        origin = header(scope, b"origin")
        if self._is_own(origin, scope):
            await self._app(scope, receive, send)
        elif origin is None or not self._origins & {"*", origin.lower()}:
            refusal = Refusal(
                403,
                "web pages of this origin may not use the server; start it with --cors-origin "
                "ORIGIN to let them",
                code="origin_not_allowed",
            )
            await refusal.answer(send)
        elif scope["method"] == "OPTIONS" and has_header(scope, b"access-control-request-method"):
            await _preflight(scope, send, self._cors_headers(origin))
        else:
            await self._app(scope, receive, _adding(send, self._cors_headers(origin)))

    def _is_own(self, origin: str | None, scope: Any) -> bool:
        """Return whether a page of this server asks. Behind a proxy its scheme may be another."""
        _, separator, host = (origin or "").lower().partition("://")
        own = header(scope, b"host")
        return bool(separator) and own is not None and host == own.lower()

    def _cors_headers(self, origin: str) -> list[Header]:
        allowed = "*" if "*" in self._origins else origin
        return [
            (b"access-control-allow-origin", allowed.encode("latin-1")),
            (b"access-control-expose-headers", b"x-request-id, retry-after"),
            (b"vary", b"origin"),
        ]


async def _preflight(scope: Any, send: Any, cors: Iterable[Header]) -> None:
    """Answer what a browser asks before a request of a page."""
    asked = header(scope, b"access-control-request-headers") or ""
    headers = [
        *cors,
        (b"access-control-allow-methods", b"GET, POST, OPTIONS"),
        (b"access-control-max-age", b"600"),
    ]
    if _HEADER_NAMES.fullmatch(asked.strip()):  # clients send several of their own
        headers.append((b"access-control-allow-headers", asked.strip().encode("latin-1")))
    if header(scope, b"access-control-request-private-network") == "true":
        headers.append((b"access-control-allow-private-network", b"true"))
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


def _adding(send: Any, headers: list[Header]) -> Any:
    async def add(message: Any) -> None:
        is_start = message["type"] == "http.response.start"
        await send(with_headers(message, headers) if is_start else message)

    return add


class KeyCheck:
    """Refuses requests without one of the keys; names the client by the number of its key."""

    def __init__(self, app: Any, config: ServeConfig) -> None:
        self._app = app
        self._digests = [_digest(key.encode()) for key in config.api_keys]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve a request."""
        if scope["type"] == "http" and self._digests:
            number = self._number_of(_bearer(header(scope, b"authorization")))
            if number is not None:
                set_client(scope, f"key-{number}")
            elif scope["path"] not in PUBLIC_PATHS:
                await _no_key(scope).answer(send)
                return
        await self._app(scope, receive, send)

    def _number_of(self, key: bytes) -> int | None:
        """Return which key it is, from 1. The time it takes does not depend on the key."""
        digest = _digest(key)
        same = [hmac.compare_digest(digest, each) for each in self._digests]
        return same.index(True) + 1 if any(same) else None


def _digest(key: bytes) -> bytes:
    """Return a text of fixed length, so that a comparison does not show a key's."""
    return hashlib.sha256(key).digest()


def _bearer(text: str | None) -> bytes:
    scheme, _, key = (text or "").partition(" ")
    return key.strip().encode("latin-1") if scheme.lower() == "bearer" else b""


def _no_key(scope: Any) -> Refusal:
    said = "the API key is not one of this server's"
    if not has_header(scope, b"authorization"):
        said = "this server needs an API key, as the header Authorization: Bearer KEY"
    return Refusal(401, said, code="invalid_api_key")
