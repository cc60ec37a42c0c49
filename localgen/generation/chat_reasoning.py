"""``reasoning`` in a chat: its meaning for the template, and whether that makes a difference."""

from __future__ import annotations

import functools

from localgen.generation.chat_arguments import ChatArguments, Conversation
from localgen.text.replies.reasoning import ReasoningChoice, checked_reasoning, reasoning_choice
from localgen.text.tokenizer import Tokenizer


def choose_reasoning(
    chat: ChatArguments[Conversation], tokenizer: Tokenizer, *, has_marks: bool
) -> ReasoningChoice:
    """Return what ``reasoning`` means for the template of a conversation.

    has_marks: whether it is known how the model marks its reasoning.
    Raises ValueError for what the template cannot do, and where its prompt would be the same.
    """
    value = checked_reasoning(chat.reasoning)
    if value is None:
        return ReasoningChoice()
    variables = chat.template_variables or {}
    source = tokenizer.get_chat_template(chat.chat_template, chat.tools)
    reads = functools.partial(tokenizer.chat_template_reads, chat_template=source)
    choice = reasoning_choice(value, reads=reads, has_marks=has_marks, given=variables)
    if choice.opposite is None:
        return choice
    # Without what the template does not read, which is warned of when the prompt is made.
    optional = {"tools": chat.tools, "documents": chat.documents, **variables}
    seen = {name: value for name, value in optional.items() if reads(name)}
    prompts = [
        tokenizer.apply_chat_template(
            chat.messages,
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
