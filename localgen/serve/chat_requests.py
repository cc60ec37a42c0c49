"""A request of a chat → the arguments of ``chat_prompt()``, the options of its rows, and these."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from localgen._util.warn import warnings_as_errors
from localgen.generation.row_stream import RowStream
from localgen.serve.answering import Served
from localgen.serve.blame import blaming_fields, rows_blaming_fields
from localgen.serve.chat_messages import template_messages, template_tools, text_of
from localgen.serve.config import ServeConfig
from localgen.serve.refusals import Refusal
from localgen.serve.sampling_fields import Options, sampling_options
from localgen.serve.schemas.chat import ChatRequest
from localgen.serve.schemas.common import NamedToolChoice
from localgen.serve.schemas.messages import ChatMessage
from localgen.serve.usage import check_stream_options

# Arguments of the template's own, which a variable must not change.
_NOT_VARIABLES = frozenset(
    {
        "add_generation_prompt",
        "chat_template",
        "continue_final_message",
        "conversation",
        "documents",
        "messages",
        "padding",
        "return_dict",
        "return_tensors",
        "split_special_tokens",
        "tokenize",
        "tools",
    }
)


def check_chat(given: ChatRequest, config: ServeConfig) -> None:
    """Refuse a request that exceeds the server's limits, or whose fields exclude each other."""
    check_messages(given.messages, config)
    check_rows(given.n or 1, config, "n")
    if given.max_tokens is not None and given.max_completion_tokens is not None:
        raise Refusal(
            400, "max_tokens and max_completion_tokens mean the same: give one", param="max_tokens"
        )
    if given.top_logprobs is not None and not given.logprobs:
        raise Refusal(400, "top_logprobs needs logprobs=true", param="top_logprobs")
    check_stream_options(given.stream_options, is_stream=bool(given.stream))
    if given.add_generation_prompt is not None and given.add_generation_prompt == bool(
        given.continue_final_message
    ):
        raise Refusal(
            400,
            "add_generation_prompt must be false with continue_final_message, and true without",
            param="add_generation_prompt",
        )
    _check_tools(given)
    check_variables(given.chat_template_kwargs)


def check_variables(given: Mapping[str, Any] | None) -> None:
    """Refuse variables of a template that it gets otherwise."""
    for name in given or ():
        if name in _NOT_VARIABLES:
            raise Refusal(
                400,
                f"chat_template_kwargs are variables of the template, and {name} is set otherwise",
                param=f"chat_template_kwargs.{name}",
            )


def check_rows(n_rows: int, config: ServeConfig, param: str) -> None:
    """Refuse more texts than a request may have."""
    if n_rows > config.max_rows:
        raise Refusal(
            400, f"a request may ask for {config.max_rows} texts at most, got {n_rows}", param=param
        )


def check_messages(messages: Sequence[ChatMessage], config: ServeConfig) -> None:
    """Refuse more messages than a chat may have, and more text."""
    if len(messages) > config.max_messages:
        raise Refusal(
            400,
            f"a chat may have {config.max_messages} messages at most, got {len(messages)}",
            param="messages",
        )
    check_chars((text_of(message.content or "") for message in messages), config, "messages")


def check_chars(texts: Iterable[str], config: ServeConfig, param: str) -> None:
    """Refuse texts that would hold up others for long while they are tokenized."""
    n_chars = sum(map(len, texts))
    if n_chars > config.max_prompt_chars:
        raise Refusal(
            400,
            f"{param} may have {config.max_prompt_chars} characters at most, got {n_chars}",
            param=param,
        )


def _check_tools(given: ChatRequest) -> None:
    if given.tools:
        return
    if given.tool_choice not in (None, "none", "auto"):
        raise Refusal(400, "tool_choice needs tools, and there are none", param="tool_choice")
    if given.parallel_tool_calls is not None:
        message = "parallel_tool_calls needs tools, and there are none"
        raise Refusal(400, message, param="parallel_tool_calls")


async def chat_rows(given: ChatRequest, options: Options, served: Served) -> RowStream:
    """Return the rows of a request's replies. options: ``chat_options()``."""
    with blaming_fields(given, "messages", (TypeError,)), warnings_as_errors():
        prompt = await served.model.achat_prompt(**prompt_arguments(given))
    return rows_blaming_fields(served.rows([prompt], **options), given, "messages")


def chat_options(given: ChatRequest, model: Any) -> Options:
    """Return the options of a chat's rows."""
    limit = given.max_tokens or given.max_completion_tokens
    # As in OpenAI's API, only the context limits an answer.
    other: Options = {"max_length": model.config.n_ctx}
    if limit is not None:
        other = {"max_new_tokens": limit}
    if given.logprobs:
        other["logprobs"] = given.top_logprobs or 0
    return sampling_options(
        given,
        n=given.n or 1,
        max_sequences=model.config.max_sequences,
        eos_token_ids=model.tokenizer.eos_token_ids,
        other=other,
    )


def prompt_arguments(given: ChatRequest) -> dict[str, Any]:
    """Return the arguments of ``chat_prompt()``."""
    tools = template_tools(given.tools)
    return {
        "messages": template_messages(given.messages),
        "tools": tools,
        "documents": given.documents or None,
        "continue_final_message": bool(given.continue_final_message),
        "template_variables": given.chat_template_kwargs or None,
        "reply_format": given.reply_format,
        "tool_choice": _tool_choice(given) if tools else None,
        "parallel_tool_calls": False if given.parallel_tool_calls is False else None,
        "reasoning": _reasoning(given),
    }


def _tool_choice(given: ChatRequest) -> str | None:
    """Return localgen's tool_choice; with tools, "auto" if none is given, as in OpenAI's API.

    In a message that is continued no choice can be enforced, as it may have begun a call.
    """
    choice = given.tool_choice
    if choice is None and given.continue_final_message:
        return None
    if isinstance(choice, NamedToolChoice):
        return choice.function.name
    return choice or "auto"


def _reasoning(given: ChatRequest) -> str | int | None:
    """Return localgen's reasoning."""
    if given.reasoning_budget is not None:
        if given.reasoning_effort is not None:
            message = "reasoning_budget and reasoning_effort exclude each other: give one"
            raise Refusal(400, message, param="reasoning_budget")
        return given.reasoning_budget
    return "off" if given.reasoning_effort == "none" else given.reasoning_effort
