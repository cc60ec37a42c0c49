"""What is known of a reply before it comes: its format, the tools, and what the prompt began."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from localgen.text.replies.formats import ReplyFormat
from localgen.text.replies.parser import ReplyParser
from localgen.text.replies.thoughts import Place, ThoughtMarks, thought_marks


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyStart:
    """The format of a reply, the JSON schemas of its tools, and the text of it in the prompt.

    is_enforced: a grammar lets the reply be nothing but calls in this format. is_to_reason: the
    caller asked for reasoning, or the format has no reply without. max_reasoning_tokens: after so
    many its end is forced; None for any number.
    """

    form: ReplyFormat
    tools: tuple[Mapping[str, Any], ...] = ()
    before: str = ""
    is_enforced: bool = False
    is_to_reason: bool = False
    max_reasoning_tokens: int | None = None

    @property
    def marks(self) -> ThoughtMarks:
        """The marks of the reasoning."""
        return thought_marks(self.form, has_tools=bool(self.tools))

    @property
    def begins(self) -> Place:
        """Where the reply begins, after its text in the prompt."""
        return self.marks.follow(Place(), self.before.encode())

    def constrained(self) -> ReplyStart | None:
        """Return what is known of a reply with a constraint: reasoning that the prompt has begun or
        the caller asked for, and a constrained answer. None if the constraint is for all of it."""
        if self.is_enforced:
            return self
        start = replace(self, form=self.form.without_calls(), tools=())
        return start if self.is_to_reason or start.begins.is_thinking else None

    def parser(self, seed: bytes) -> ReplyParser:
        """Return a parser for one reply; see ``ReplyParser``."""
        return ReplyParser(self.form, self.tools, before=self.before, seed=seed)


def reply_start(
    form: ReplyFormat,
    tools: Sequence[Mapping[str, Any]],
    prompt_end: str,
    message: Mapping[str, Any] | None,
) -> ReplyStart:
    """Return what a prompt says of the reply to it.

    prompt_end: its last characters, in which a template may have opened the reasoning. message: the
    last one if the reply continues it.
    """
    opens = form.thought[0]
    before = ""
    if message is not None:
        text = _text(message.get("content"))
        before = text if any(mark in text for mark in (*form.begins, opens)) else ""
    elif prompt_end.rstrip().endswith(opens):
        before = prompt_end[prompt_end.rindex(opens) :]
    return ReplyStart(form=form, tools=tuple(tools), before=before)


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list | tuple) else []
    texts = [part.get("text") for part in parts if isinstance(part, Mapping)]
    return "".join(text for text in texts if isinstance(text, str))
