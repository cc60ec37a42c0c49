"""Stream answers to web clients, all in one batch, by server-sent events.

`events()` is what you need for a framework: with Starlette or FastAPI return
`StreamingResponse(events(model, prompt), media_type="text/event-stream")`. The small HTTP server
below it needs nothing but Python, and is meant for your own machine.

    python examples/web_stream.py --model smollm2 --port 8000
    curl -N "http://127.0.0.1:8000/?prompt=Why+is+the+sky+blue?"
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from urllib.parse import parse_qs, urlsplit

from localgen import LocalgenError, LocalModel

HOST = "127.0.0.1"
EVENT_STREAM = "200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store"
BAD_REQUEST = "400 Bad Request\r\nContent-Type: text/plain; charset=utf-8"


async def events(model: LocalModel, prompt: str, max_new_tokens: int = 128) -> AsyncIterator[bytes]:
    """Yield an event for each piece of the answer, then one named "done", or "error".

    Requests that overlap run in one batch. Closing the generator ends its generation.
    """
    messages = [{"role": "user", "content": prompt}]
    ids = model.tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_dict=False
    )
    try:
        async for piece in model.astream(ids, max_new_tokens=max_new_tokens, do_sample=False):
            yield f"data: {json.dumps(piece)}\n\n".encode()
        yield b"event: done\ndata: null\n\n"
    except LocalgenError as error:  # a prompt that is too long, for example
        yield f"event: error\ndata: {json.dumps(str(error))}\n\n".encode()


async def prompt_of(reader: asyncio.StreamReader) -> str | None:
    """Read a request's head and return its prompt; None if it has none."""
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), timeout=10)
    method, _, rest = head.decode("latin-1").partition(" ")
    found = parse_qs(urlsplit(rest.partition(" ")[0]).query).get("prompt", [])
    return found[0] if method == "GET" and found else None


async def handle(
    model: LocalModel, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Answer one request, and close the connection."""
    try:
        prompt = await prompt_of(reader)
        head = BAD_REQUEST if prompt is None else EVENT_STREAM
        writer.write(f"HTTP/1.1 {head}\r\nConnection: close\r\n\r\n".encode())
        if prompt is None:
            writer.write(b"GET /?prompt=... is what this server answers.\n")
        else:
            async for event in events(model, prompt):
                writer.write(event)
                await writer.drain()  # fails once the client has left, which ends the generation
    except (OSError, EOFError, asyncio.LimitOverrunError, asyncio.TimeoutError):
        pass  # the client left, or sent no HTTP
    finally:
        writer.close()


async def serve(model: LocalModel, port: int) -> None:
    """Serve until cancelled; port 0 takes any free port."""
    server = await asyncio.start_server(partial(handle, model), HOST, port)
    port = server.sockets[0].getsockname()[1]
    print(f"Listening on http://{HOST}:{port}", flush=True)
    await asyncio.get_running_loop().create_future()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="smollm2", help="a name, or the path of a GGUF file")
    parser.add_argument("--port", type=int, default=8000)
    args = parser.parse_args()
    with LocalModel.from_pretrained(args.model) as model, suppress(KeyboardInterrupt):
        asyncio.run(serve(model, args.port))


if __name__ == "__main__":
    main()
