"""A request to /v1/responses → the one to /v1/chat/completions that means the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from localgen.serve.refusals import Refusal
from localgen.serve.response_messages import chat_messages
from localgen.serve.schemas.chat import ChatRequest
from localgen.serve.schemas.responses import (
    AllowedTools,
    JsonSchemaText,
    NamedTool,
    ResponseFunctionTool,
    ResponsesRequest,
)
from localgen.serve.schemas.sampling import SamplingFields

_LOGPROBS = "message.output_text.logprobs"


class ResponsesChat(ChatRequest):
    """A request of this kind as one for a chat."""

    spellings: ClassVar[Mapping[str, str]] = {
        "messages": "input",
        "max_completion_tokens": "max_output_tokens",
        "reasoning_effort": "reasoning.effort",
        "response_format": "text.format",
    }


def as_chat(request: ResponsesRequest) -> ResponsesChat:
    """Return the request as one for a chat. Raises Refusal for what does not fit together."""
    if request.stream_options is not None and not request.stream:
        raise Refusal(400, "stream_options needs stream=true", param="stream_options")
    fields: dict[str, Any] = request.model_dump(
        include=set(SamplingFields.model_fields), exclude_none=True, by_alias=True
    )
    tools, choice = _tools(request)
    if request.reasoning is not None:
        fields["reasoning_effort"] = request.reasoning.effort
    if request.text is not None:
        fields["response_format"] = _format(request)
    return ResponsesChat.model_validate(
        {
            **fields,
            "model": request.model,
            "messages": chat_messages(request.input, request.instructions),
            "max_completion_tokens": request.max_output_tokens,
            "logprobs": wants_logprobs(request),
            "top_logprobs": request.top_logprobs,
            "chat_template_kwargs": request.chat_template_kwargs,
            "reasoning_budget": request.reasoning_budget,
            "reply_format": request.reply_format,
            "tools": tools,
            "tool_choice": choice,
            # Of a chat it needs tools; without any there are no calls, parallel or not.
            "parallel_tool_calls": request.parallel_tool_calls if tools else None,
        }
    )


def wants_logprobs(request: ResponsesRequest) -> bool:
    """Return whether the text comes with the log-probabilities of its tokens."""
    return bool(request.top_logprobs) or _LOGPROBS in (request.include or ())


def _format(request: ResponsesRequest) -> dict[str, Any] | None:
    """Return ``text.format`` as ``response_format``."""
    given = request.text.format if request.text is not None else None
    if given is None:
        return None
    fields = given.model_dump(by_alias=True)
    if not isinstance(given, JsonSchemaText):
        return fields
    return {"type": fields.pop("type"), "json_schema": fields}


def _tools(request: ResponsesRequest) -> tuple[list[dict[str, Any]] | None, Any]:
    """Return the tools, and which of them the model may or must call."""
    tools, choice = request.tools, request.tool_choice
    if isinstance(choice, AllowedTools):
        tools = _allowed(choice, tools or [])
    functions = None if tools is None else [_function(tool) for tool in tools]
    if isinstance(choice, AllowedTools):
        return functions, choice.mode
    if isinstance(choice, NamedTool):
        return functions, {"type": "function", "function": {"name": choice.name}}
    return functions, choice


def _function(tool: ResponseFunctionTool) -> dict[str, Any]:
    return {"type": tool.type, "function": tool.model_dump(exclude={"type"})}


def _allowed(
    choice: AllowedTools, tools: Sequence[ResponseFunctionTool]
) -> list[ResponseFunctionTool]:
    """Return the tools that a choice names."""
    names = {tool.name for tool in choice.tools}
    if unknown := names - {tool.name for tool in tools}:
        raise Refusal(
            400,
            f"tools has no function {min(unknown)!r:.80}, which tool_choice allows",
            param="tool_choice.tools",
        )
    return [tool for tool in tools if tool.name in names]
