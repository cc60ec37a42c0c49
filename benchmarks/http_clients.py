"""Clients of an OpenAI-compatible server, with as little work of their own as possible.

``exchange`` is one request over a connection of its own. ``Clients`` runs many in another process,
so that they take no time from the interpreter that measures. Nothing is parsed before an answer has
ended: while tokens come, their bytes are only kept.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

HOST = "127.0.0.1"
CHAT = "/v1/chat/completions"
_FIRST_TEXT = re.compile(rb'"(?:content|text)" ?: ?"(?!")')


@dataclass
class Answer:
    """What came back. over_at: when its last byte came, by time.perf_counter(). first_seconds: time
    until the first text; None if none came. ended: whether the answer was whole. cut: whether the
    client left before its end. error: the error object, if the server sent one."""

    status: int
    over_at: float
    first_seconds: float | None
    ended: bool
    cut: bool
    text: str = ""
    n_tokens: int = 0
    finish_reason: str | None = None
    error: Any = None


class _Connection(asyncio.Protocol):
    def __init__(self, request: bytes, over: asyncio.Future[None]) -> None:
        self._request, self._over = request, over
        self.parts: list[bytes] = []
        self.started = time.perf_counter()
        self.first: float | None = None
        self.over_at = self.started
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self.parts.append(data)
        if self.first is None and _FIRST_TEXT.search(data):
            self.first = time.perf_counter() - self.started

    def connection_lost(self, exc: Exception | None) -> None:
        self.over_at = time.perf_counter()
        if not self._over.done():
            self._over.set_result(None)


async def exchange(
    port: int,
    body: dict[str, Any],
    *,
    path: str = CHAT,
    cut_after: float | None = None,
    request_id: str | None = None,
) -> Answer:
    """Send a request and return its answer; leave after ``cut_after`` seconds.

    request_id: what the server's log calls it.
    """
    loop = asyncio.get_running_loop()
    over: asyncio.Future[None] = loop.create_future()
    request = _request(port, path, body, request_id)
    _, connection = await loop.create_connection(lambda: _Connection(request, over), HOST, port)
    try:
        await asyncio.wait_for(asyncio.shield(over), cut_after)
        cut = False
    except asyncio.TimeoutError:
        cut = True
        connection.transport.abort()
        await over
    return parsed(b"".join(connection.parts), connection.over_at, connection.first, cut=cut)


def _request(port: int, path: str, body: dict[str, Any], request_id: str | None) -> bytes:
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\nConnection: close\r\n"
    if request_id is not None:
        head += f"X-Request-Id: {request_id}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data


# --- answers ---


def parsed(raw: bytes, over_at: float, first: float | None, *, cut: bool) -> Answer:
    """Return the answer that these bytes are, whole or not."""
    head, _, rest = raw.partition(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1]) if head.startswith(b"HTTP/1.1 ") else 0
    if b"transfer-encoding: chunked" in head.lower():
        rest = _joined(rest)
    answer = Answer(status, over_at, first, ended=False, cut=cut)
    if b"text/event-stream" in head.lower():
        _read_events(answer, rest)
    elif not cut:
        _read_whole(answer, rest)
    return answer


def _joined(chunked: bytes) -> bytes:
    """Return the data of HTTP chunks, without the one that is not whole."""
    parts, at = [], 0
    while (end := chunked.find(b"\r\n", at)) >= 0:
        size = int(chunked[at:end].split(b";")[0] or b"0", 16)
        parts.append(chunked[end + 2 : end + 2 + size])
        at = end + 2 + size + 2
    return b"".join(parts)


def _read_events(answer: Answer, data: bytes) -> None:
    n_texts = 0
    for line in data.replace(b"\r\n", b"\n").split(b"\n\n"):
        if not line.startswith(b"data:"):
            continue
        value = line[5:].strip()
        if value == b"[DONE]":
            answer.ended = True
            continue
        try:
            event = json.loads(value)
        except ValueError:  # the last one of a connection that was cut
            continue
        n_texts += _add(answer, event)
    answer.n_tokens = answer.n_tokens or n_texts


def _add(answer: Answer, event: dict[str, Any]) -> bool:
    """Add an event to an answer; return whether it has text."""
    answer.error = event.get("error", answer.error)
    answer.n_tokens = (event.get("usage") or {}).get("completion_tokens", answer.n_tokens)
    for choice in event.get("choices", ()):
        answer.finish_reason = choice.get("finish_reason") or answer.finish_reason
        piece = choice.get("text") or (choice.get("delta") or {}).get("content") or ""
        answer.text += piece
        return bool(piece)
    return False


def _read_whole(answer: Answer, data: bytes) -> None:
    try:
        found = json.loads(data)
    except ValueError:
        return
    answer.ended = True
    answer.error = found.get("error")
    answer.n_tokens = (found.get("usage") or {}).get("completion_tokens", 0)
    for choice in found.get("choices", ()):
        answer.finish_reason = choice["finish_reason"]
        answer.text += choice.get("text") or choice["message"]["content"] or ""


# --- another process ---


class Clients:
    """Runs requests in a process of its own; use it in a ``with`` block."""

    def __enter__(self) -> Clients:
        self._child = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._child.stdin.close()  # type: ignore[union-attr]
        self._child.wait()

    def run(self, port: int, bodies: Sequence[dict[str, Any]]) -> tuple[float, list[Answer]]:
        """Send all requests at once; return the seconds until the last answer, and all answers."""
        given, taken = self._child.stdin, self._child.stdout
        assert given is not None
        assert taken is not None
        given.write(json.dumps({"port": port, "bodies": bodies}) + "\n")
        given.flush()
        found = json.loads(taken.readline())
        return found["seconds"], [Answer(**each) for each in found["answers"]]


async def _together(port: int, bodies: Sequence[dict[str, Any]]) -> dict[str, Any]:
    started = time.perf_counter()
    answers = await asyncio.gather(*(exchange(port, body) for body in bodies))
    seconds = max(each.over_at for each in answers) - started
    return {"seconds": seconds, "answers": [asdict(each) for each in answers]}


def main() -> None:
    """Answer each line of stdin with one of stdout."""
    for line in sys.stdin:
        print(json.dumps(asyncio.run(_together(**json.loads(line)))), flush=True)


if __name__ == "__main__":
    main()
