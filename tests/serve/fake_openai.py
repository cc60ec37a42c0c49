"""A server on loopback that speaks OpenAI's API with scripted replies, and serves the pages.

It lets a test hold a reply in the middle, break it off, or fail, and keeps what it was asked.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from localgen.serve.page.endpoints import page_routes

SOURCES = Path(__file__).parents[2] / "localgen" / "serve" / "page" / "files"


@dataclass(frozen=True)
class Reply:
    """What the server answers to one request.

    hold_after: the number of pieces after which it waits for ``FakeServer.go``. ends: how the
    stream ends: "done" as it should, "cut" without its end, or "error" with an error inside.
    logprobs: a list of OpenAI's token objects, whose texts are the pieces.
    """

    content: str = ""
    reasoning: str = ""
    tool_calls: Sequence[tuple[str, str]] = ()
    hold_after: int | None = None
    ends: str = "done"
    finish_reason: str = "stop"
    logprobs: Sequence[Mapping[str, Any]] = ()

    def deltas(self) -> list[dict[str, Any]]:
        """Return the delta of each chunk."""
        pieces: list[dict[str, Any]] = [
            {"reasoning_content": each} for each in _pieces(self.reasoning)
        ]
        pieces += [{"content": each} for each in _pieces(self.content)]
        for index, (name, arguments) in enumerate(self.tool_calls):
            call = {"index": index, "id": f"call_{index}", "type": "function"}
            pieces.append({"tool_calls": [{**call, "function": {"name": name, "arguments": ""}}]})
            pieces += [
                {"tool_calls": [{"index": index, "function": {"arguments": each}}]}
                for each in _pieces(arguments)
            ]
        return pieces

    def choices(self) -> list[dict[str, Any]]:
        """Return the choice of each chunk."""
        if not self.logprobs:
            return [{"index": 0, "delta": delta} for delta in self.deltas()]
        return [
            {"index": 0, "delta": {"content": each["token"]}, "logprobs": {"content": [each]}}
            for each in self.logprobs
        ]


@dataclass(frozen=True)
class Failure:
    """An answer that is an error."""

    status: int
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)
    code: str | None = None


def _pieces(text: str) -> list[str]:
    return re.findall(r"\s*\S+|\s+$", text)


class FakeServer:
    """The server: ``script`` what it answers, then look at ``bodies`` and ``n_cut_by_client``."""

    def __init__(self) -> None:
        self.models: list[dict[str, Any]] = []
        self.api_key: str | None = None
        self.replies: deque[Reply | Failure] = deque()
        self.by_model: dict[str, Reply | list[Reply | Failure]] = {}
        self.bodies: list[dict[str, Any]] = []
        self.n_cut_by_client = 0
        self._gate = threading.Event()
        self.address = ""
        self.reset()

    def reset(self) -> None:
        """Forget everything that a test did."""
        self._gate.set()
        self.models = [{"id": "small", "object": "model", "n_ctx": 4096}, {"id": "large"}]
        self.api_key = None
        self.replies.clear()
        self.by_model.clear()
        self.bodies.clear()
        self.n_cut_by_client = 0

    def script(self, *replies: Reply | Failure) -> None:
        """Answer the next requests with these; a reply with ``hold_after`` waits for ``go``."""
        self._gate.clear()
        self.replies.extend(replies)

    def go(self) -> None:
        """Let held replies continue."""
        self._gate.set()

    @contextmanager
    def running(self) -> Any:
        config = uvicorn.Config(self._app(), host="127.0.0.1", port=0, log_level="warning")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            assert thread.is_alive()
        port = server.servers[0].sockets[0].getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        try:
            yield self
        finally:
            self.go()
            server.should_exit = True
            thread.join()

    def _app(self) -> Starlette:
        routes = [
            Route("/v1/models", self._get_models),
            Route("/v1/chat/completions", self._chat, methods=["POST"]),
            Route("/blank", lambda request: Response("<!doctype html><p>", media_type="text/html")),
            Mount("/modules", StaticFiles(directory=SOURCES)),
        ]
        return Starlette(routes=[*page_routes(), *routes])

    def _refusal(self, request: Request) -> Response | None:
        if self.api_key in (None, request.headers.get("Authorization", "").removeprefix("Bearer ")):
            return None
        return _error(401, "This server needs an API key.", {})

    async def _get_models(self, request: Request) -> Response:
        return self._refusal(request) or JSONResponse({"object": "list", "data": self.models})

    async def _chat(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        body = await request.json()
        self.bodies.append(body)
        reply = self.by_model.get(body["model"]) or self.replies.popleft()
        if isinstance(reply, list):
            reply = reply.pop(0)
        if isinstance(reply, Failure):
            return _error(reply.status, reply.message, reply.headers, reply.code)
        counts = bool(body["stream_options"].get("continuous_usage_stats"))
        return StreamingResponse(self._stream(reply, counts), media_type="text/event-stream")

    async def _stream(self, reply: Reply, counts: bool) -> AsyncIterator[str]:
        try:
            async for event in self._events(reply, counts):
                yield event
        except asyncio.CancelledError:
            self.n_cut_by_client += 1
            raise

    async def _events(self, reply: Reply, counts: bool) -> AsyncIterator[str]:
        choices = reply.choices()
        yield ": a comment, as servers send to keep connections open\n\n"
        for n, choice in enumerate(choices):
            while n == reply.hold_after and not self._gate.is_set():
                await asyncio.sleep(0.01)
            yield _event(choices=[choice], usage=_usage(n + 1) if counts else None)
        if reply.ends == "cut":
            return
        if reply.ends == "error":
            yield _event(error={"message": "The model's process ended.", "type": "server_error"})
            return
        yield _event(choices=[{"index": 0, "delta": {}, "finish_reason": reply.finish_reason}])
        yield _event(choices=[], usage=_usage(len(choices)))
        yield "data: [DONE]\n\n"


def _event(**fields: Any) -> str:
    return f"data: {json.dumps({'object': 'chat.completion.chunk', **fields})}\n\n"


def _usage(n_new: int) -> dict[str, int]:
    return {"prompt_tokens": 20, "completion_tokens": n_new}


def _error(
    status: int, message: str, headers: Mapping[str, str], code: str | None = None
) -> Response:
    error = {"message": message, "type": "error", "param": None, "code": code}
    return JSONResponse({"error": error}, status_code=status, headers=dict(headers))
