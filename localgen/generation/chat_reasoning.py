"""``reasoning`` in a chat: its meaning for the template, and whether that makes a difference."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from localgen.text.chat_arguments import Message
from localgen.text.replies.reasoning import (
    Reasoning,
    ReasoningChoice,
    checked_reasoning,
    reasoning_choice,
)
from localgen.text.tokenizer import Tokenizer


def choose_reasoning(
    reasoning: Reasoning | None,
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    given: Mapping[str, Any],
    variables: Mapping[str, Any],
    *,
    has_marks: bool,
) -> ReasoningChoice:
    """Return what ``reasoning`` means for the template of a conversation.

    given, variables: the other arguments of ``apply_chat_template``, and the caller's own variables
    of the template. has_marks: whether it is known how the model marks its reasoning.
    Raises ValueError for what the template cannot do, and where its prompt would be the same.
    """
    value = checked_reasoning(reasoning)
    if value is None:
        return ReasoningChoice()
    source = tokenizer.get_chat_template(given["chat_template"], given["tools"])
    reads = functools.partial(tokenizer.chat_template_reads, chat_template=source)
    choice = reasoning_choice(value, reads=reads, has_marks=has_marks, given=variables)
    if choice.opposite is None:
        return choice
    # Without what the template does not read, which is warned of when the prompt is made.
    optional = {"tools": given["tools"], "documents": given["documents"], **variables}
    seen = {name: value for name, value in optional.items() if reads(name)}
    prompts = [
        tokenizer.apply_chat_template(
            messages,
            chat_template=source,
            add_generation_prompt=True,
            tokenize=False,
            **seen,
            **switched,
        )
        for switched in (choice.variables, choice.opposite)
    ]
    if prompts[0] == prompts[1]:
        names = ", ".join(choice.variables)
        raise ValueError(
            f"reasoning={value!r} makes no difference in this conversation: the chat template "
            f"ignores {names} here, as some do with a system message or tools. Leave reasoning out."
        )
    return choice
