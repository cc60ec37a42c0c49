"""/tokenize, /detokenize and /apply-template: texts and token ids of a model, as llama-server has
them. Nothing is generated."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.types import Send

from localgen._util.warn import warnings_as_errors
from localgen.serve.blame import blaming_fields
from localgen.serve.chat_messages import template_messages, template_tools
from localgen.serve.chat_requests import check_messages, check_variables
from localgen.serve.reading import read_body
from localgen.serve.refusals import Refusal
from localgen.serve.schemas.text import (
    DetokenizeAnswer,
    DetokenizeRequest,
    TemplateAnswer,
    TemplateRequest,
    Token,
    TokenizeAnswer,
    TokenizeRequest,
)
from localgen.serve.sse import long_json_bytes, send_body
from localgen.text.tokenizer import Tokenizer


async def tokenize(request: Request, send: Send) -> None:
    """Answer with the token ids of a text."""
    given = await read_body(request, TokenizeRequest)
    _check_length("content", "characters", len(given.content), request)
    body = await _computed(request, given.model, lambda tokenizer: _tokens(given, tokenizer))
    await send_body(send, body)


async def detokenize(request: Request, send: Send) -> None:
    """Answer with the text of token ids."""
    given = await read_body(request, DetokenizeRequest)
    _check_length("tokens", "tokens", len(given.tokens), request)
    body = await _computed(request, given.model, lambda tokenizer: _text(given, tokenizer))
    await send_body(send, body)


async def apply_template(request: Request, send: Send) -> None:
    """Answer with a conversation as the model gets it."""
    given = await read_body(request, TemplateRequest)
    check_messages(given.messages, request.app.state.config)
    check_variables(given.chat_template_kwargs)
    body = await _computed(request, given.model, lambda tokenizer: _prompt(given, tokenizer))
    await send_body(send, body)


def _check_length(param: str, unit: str, n: int, request: Request) -> None:
    """Refuse what is longer than a prompt may be."""
    most = request.app.state.config.max_prompt_chars
    if n > most:
        raise Refusal(400, f"{param} may have {most} {unit} at most, got {n}", param=param)


async def _computed(
    request: Request, name: str | None, compute: Callable[[Tokenizer], Any]
) -> bytes:
    """Return what ``compute`` makes with a model's tokenizer, as JSON.

    It may take long, so it runs in a thread, for a few requests at a time; the others wait. A
    request whose client has left keeps its place until its thread is free.
    """
    state = request.app.state
    state.pool.find(name)  # before it waits, so that a wrong name is answered at once
    async with state.text_admission.turn(request), state.pool.use(name) as model:
        task = asyncio.create_task(
            model.in_thread(lambda: long_json_bytes(compute(model.tokenizer)))
        )
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait([task])
            raise


def _tokens(given: TokenizeRequest, tokenizer: Tokenizer) -> TokenizeAnswer:
    with blaming_fields(given, "content", (ValueError, TypeError)):
        token_ids = tokenizer.encode(
            given.content,
            add_special_tokens=bool(given.add_special),
            split_special_tokens=given.parse_special is False,
        )
    if not given.with_pieces:
        return {"tokens": token_ids}
    return {"tokens": [_token(token_id, tokenizer) for token_id in token_ids]}


def _token(token_id: int, tokenizer: Tokenizer) -> Token:
    data = tokenizer.token_bytes(token_id)
    try:
        return {"id": token_id, "piece": data.decode()}
    except UnicodeDecodeError:
        return {"id": token_id, "piece": list(data)}


def _text(given: DetokenizeRequest, tokenizer: Tokenizer) -> DetokenizeAnswer:
    with blaming_fields(given, "tokens", (ValueError, TypeError)):
        return {"content": tokenizer.decode(given.tokens)}


def _prompt(given: TemplateRequest, tokenizer: Tokenizer) -> TemplateAnswer:
    messages, tools = template_messages(given.messages), template_tools(given.tools)
    with blaming_fields(given, "messages", (TypeError,)), warnings_as_errors():
        text = tokenizer.apply_chat_template(
            messages,
            tools,
            given.documents,
            add_generation_prompt=given.add_generation_prompt is not False,
            tokenize=False,
            **(given.chat_template_kwargs or {}),
        )
    return {"prompt": text}
