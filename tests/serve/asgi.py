"""Calls an ASGI application without a server, as one would that has received these bytes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass
class Answer:
    """What an application sent; status 0 if it sent nothing."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = json.loads(self.body)["error"]
        return error


def scope_of(method: str, path: str, headers: Mapping[str, str] | Iterable[Any]) -> dict[str, Any]:
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(),
        "query_string": b"", "scheme": "http", "client": ("127.0.0.1", 5),
        "headers": [(pair[0].lower().encode(), pair[1].encode("latin-1")) for pair in pairs],
    }  # fmt: skip


async def acall(
    app: Any,
    method: str = "GET",
    path: str = "/v1/models",
    headers: Mapping[str, str] | Iterable[Any] = (),
    *,
    chunks: Iterable[bytes] = (),
    leaves: bool = False,
    host: str | None = "localhost",
) -> Answer:
    """leaves: the client goes after its chunks, before its body is complete."""
    pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
    if host is not None:
        pairs.append(("host", host))
    left = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    left.append({"type": "http.disconnect"} if leaves else {"type": "http.request", "body": b""})
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if left:
            return left.pop(0)
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope_of(method, path, pairs), receive, send)
    if not sent:
        return Answer(0, {}, b"")
    start, *bodies = sent
    found = {name.decode(): value.decode() for name, value in start["headers"]}
    return Answer(start["status"], found, b"".join(each.get("body", b"") for each in bodies))


def call(app: Any, *args: Any, **options: Any) -> Answer:
    return asyncio.run(asyncio.wait_for(acall(app, *args, **options), 60))


class Echo:
    """Answers 200 with the body that it got, and counts how often it was reached."""

    def __init__(self) -> None:
        self.n_reached = 0
        self.scope: dict[str, Any] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.n_reached += 1
        self.scope = scope
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})
