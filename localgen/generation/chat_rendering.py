"""A conversation → the prompt of a call: its token ids, and how the reply to it is read."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from localgen.generation.chat_arguments import ChatArguments, Conversation
from localgen.generation.chat_reasoning import choose_reasoning
from localgen.generation.inputs import ChatPrompt
from localgen.generation.tool_choice import NONE, enforced, enforcement
from localgen.text.replies.formats import ReplyFormat, calls_format, choose_format
from localgen.text.replies.reasoning import OFF, ReasoningChoice
from localgen.text.replies.start import ReplyStart, reply_start
from localgen.text.tokenizer import Tokenizer
from localgen.text.tool_schema import as_schemas

# Tokens of a prompt's end that may spell a mark, such as "<think>" and a line feed.
_N_END = 16

Chat = ChatArguments[Conversation]


def render_chat(chat: Chat, tokenizer: Tokenizer) -> ChatPrompt:
    """Return a conversation as a prompt.

    What the template wrote at its end is complete: token healing leaves it alone. Raises
    TemplateError, TypeError or ValueError.
    """
    tools = as_schemas(chat.tools)
    template = tokenizer.get_chat_template(chat.chat_template, tools)
    enforces = enforcement(chat.tool_choice, chat.parallel_tool_calls, tools)
    choose = choose_format if enforces is None else calls_format
    form = choose(chat.reply_format, template)
    _check_continued(chat, is_enforced=enforces is not None)
    if chat.tool_choice == NONE:
        chat, tools = replace(chat, tools=None), None
    reasoning = _reasoning(chat, tokenizer, form, template)
    ids = _token_ids(chat, tokenizer, reasoning)
    open_message = _open_message(chat)
    reply, grammar = None, None
    if form is not None:
        end = b"".join(map(tokenizer.token_bytes, ids[-_N_END:])).decode(errors="replace")
        start = reply_start(form, tools or (), end, open_message)
        reply = _with_reasoning(start, chat, form, reasoning)
    if enforces is not None:
        assert reply is not None
        special_id = functools.partial(_special_id, tokenizer)
        reply, grammar = enforced(reply, template, special_id, enforces)
    return ChatPrompt(ids, ids if open_message is None else (), reply, grammar)


def _check_continued(chat: Chat, *, is_enforced: bool) -> None:
    """Raise ValueError for what cannot be chosen in a message that has begun."""
    if is_enforced and chat.continue_final_message:
        raise ValueError("tool_choice cannot be enforced in a message that is continued")
    if chat.reasoning is not None and chat.continue_final_message:
        raise ValueError("reasoning cannot be chosen in a message that is continued")


def _reasoning(
    chat: Chat, tokenizer: Tokenizer, form: ReplyFormat | None, template: str
) -> ReasoningChoice:
    named = chat.reply_format is not None
    has_marks = form is not None and (named or form.shows_thoughts(template))
    return choose_reasoning(chat, tokenizer, has_marks=has_marks)


def _token_ids(chat: Chat, tokenizer: Tokenizer, reasoning: ReasoningChoice) -> list[int]:
    ids: list[int] = tokenizer.apply_chat_template(
        chat.messages,
        tools=chat.tools,
        documents=chat.documents,
        chat_template=chat.chat_template,
        add_generation_prompt=not chat.continue_final_message,
        continue_final_message=chat.continue_final_message,
        split_special_tokens=chat.split_special_tokens,
        return_dict=False,
        **(chat.template_variables or {}),
        **reasoning.variables,
    )
    return ids


def _open_message(chat: Chat) -> Mapping[str, Any] | None:
    """Return the message that the reply continues, if it has begun."""
    if not chat.continue_final_message:
        return None
    last = chat.messages[-1]
    return last if last.get("content") else None


def _with_reasoning(
    start: ReplyStart, chat: Chat, form: ReplyFormat, reasoning: ReasoningChoice
) -> ReplyStart:
    always_reasons = form.always_reasons and not chat.continue_final_message
    return replace(
        start,
        is_to_reason=chat.reasoning not in (None, OFF) or always_reasons,
        max_reasoning_tokens=reasoning.limit,
    )


def _special_id(tokenizer: Tokenizer, mark: str) -> int | None:
    """Return the special token that is spelled as ``mark``; None if there is none."""
    token_id = tokenizer.convert_tokens_to_ids(mark)
    if not isinstance(token_id, int) or tokenizer.token_bytes(token_id) != mark.encode():
        return None
    return None if tokenizer.text_bytes(token_id) else token_id
