"""What a response tells of the request that it answers."""

from __future__ import annotations

import time
from typing import Any

from localgen.config import GenerationConfig
from localgen.serve.response_items import new_id
from localgen.serve.schemas.response_output import ResponseObject
from localgen.serve.schemas.responses import ResponsesRequest

_ECHOED = ("user", "safety_identifier", "prompt_cache_key")


def new_response(request: ResponsesRequest, model: str, in_use: GenerationConfig) -> ResponseObject:
    """Return a response before anything was generated. in_use: the options of its text, those that
    were not given included."""
    text = request.text.model_dump(exclude_none=True, by_alias=True) if request.text else {}
    response: ResponseObject = {
        "id": new_id("resp"),
        "object": "response",
        "created_at": int(time.time()),
        "completed_at": None,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "model": model,
        "output": [],
        "usage": None,
        "instructions": request.instructions,
        "tools": [_tool(tool.model_dump()) for tool in request.tools or ()],
        "tool_choice": _choice(request),
        "parallel_tool_calls": request.parallel_tool_calls is not False,
        "text": {"format": {"type": "text"}, "verbosity": "medium", **text},
        "reasoning": request.reasoning.model_dump(exclude_none=True) if request.reasoning else {},
        "temperature": in_use.temperature if _draws(request, in_use) else 0.0,
        "top_p": in_use.top_p if request.top_p is None else request.top_p,
        "top_logprobs": request.top_logprobs or 0,
        "max_output_tokens": request.max_output_tokens,
        "truncation": "disabled",
        "store": False,
        "background": False,
        "previous_response_id": None,
        "service_tier": "default",
        "metadata": dict(request.metadata or {}),
    }
    given = request.model_dump(include=set(_ECHOED), exclude_none=True)
    response.update(given)  # type: ignore[typeddict-item]
    return response


def _draws(request: ResponsesRequest, in_use: GenerationConfig) -> bool:
    return bool(in_use.do_sample) and request.temperature != 0


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    """Return a tool with all fields that OpenAI's have."""
    return {**tool, "strict": tool["strict"] is not False}


def _choice(request: ResponsesRequest) -> str | dict[str, Any]:
    choice = request.tool_choice
    if choice is None or isinstance(choice, str):
        return choice or "auto"
    return choice.model_dump()
