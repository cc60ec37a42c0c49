"""Takes a reply apart while it comes: pieces of text → deltas, whatever the pieces are."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from localgen.text.replies.calls import Calls
from localgen.text.replies.formats import ReplyFormat
from localgen.text.replies.harmony import harmony
from localgen.text.replies.json_calls import json_calls, keyed_object
from localgen.text.replies.other_calls import (
    deepseek_calls,
    gemma_calls,
    mistral_calls,
    python_calls,
)
from localgen.text.replies.parts import Part
from localgen.text.replies.reader import Reader, Steps
from localgen.text.replies.results import Reply, ReplyBuilder, ReplyDelta
from localgen.text.replies.tagged_calls import tagged_calls

_OTHER_BODIES = {
    "mistral": mistral_calls,
    "deepseek": deepseek_calls,
    "gemma": gemma_calls,
    "python": python_calls,
}
_SPACE = re.compile(r"\s+")


class ReplyParser:
    """Feed it the pieces of one reply, then ``finish``: both return the deltas that follow.

    The text must have the format's marks, which are special tokens of many models. tools: their
    JSON schemas. before: the reply's beginning if the prompt has it, which may be a mark alone: it
    is no part of the text or the reasoning, but of a call that it begins. seed: what the ids of
    calls are made of. reply: what came so far, put together.
    """

    def __init__(
        self,
        reply_format: ReplyFormat | None,
        tools: Sequence[Mapping[str, Any]] = (),
        *,
        before: str = "",
        seed: bytes = b"",
    ) -> None:
        self._reader = Reader()
        self._builder = ReplyBuilder()
        self._calls = Calls(tools, seed)
        self._text, self._reasoning = Part("text"), Part("reasoning")
        self._begun: list[ReplyDelta] = []
        if reply_format is None:
            self._steps = self._plain()
        elif reply_format.body == "harmony":
            self._steps = harmony(self._reader, self._calls, self._text, self._reasoning)
        else:
            self._steps = self._tagged(reply_format)
        if before:
            self._begin(before)

    def feed(self, text: str) -> list[ReplyDelta]:
        """Add a piece of the reply."""
        self._reader.text += text
        return self._advance()

    def finish(self) -> list[ReplyDelta]:
        """Nothing follows: a call that is not complete was cut off."""
        self._reader.is_over = True
        deltas = self._advance()
        rest = [*self._reasoning.finish(), *self._text.finish()]
        self._builder.add(rest)
        return deltas + rest

    @property
    def reply(self) -> Reply:
        """What came so far, put together."""
        return self._builder.reply

    def _begin(self, before: str) -> None:
        """Read what the prompt has of the reply, and keep the deltas of a call that is open."""
        self._reader.text = before
        deltas = [delta for delta in self._steps_so_far() if delta.index is not None]
        closed = {delta.index for delta in deltas if delta.tool_call is not None}
        self._begun = [delta for delta in deltas if delta.index not in closed]
        for part in (self._text, self._reasoning):
            part.forget_space()

    def _advance(self) -> list[ReplyDelta]:
        deltas = [*self._begun, *self._steps_so_far()]
        self._begun = []
        self._builder.add(deltas)
        return deltas

    def _steps_so_far(self) -> list[ReplyDelta]:
        """Go on until more text is needed; return the deltas."""
        deltas = []
        for delta in self._steps:
            if delta is None:
                break
            deltas.append(delta)
        return deltas

    def _plain(self) -> Steps[None]:
        while self._reader.text or not self._reader.is_over:
            if self._reader.text:
                yield from self._text.push(self._reader.skip(len(self._reader.text)))
            else:
                yield None

    # --- text with marks ---

    def _tagged(self, form: ReplyFormat) -> Steps[None]:
        if form.has_bare and form.body == "json":
            yield from self._bare_json(form)
        bare = {}
        if form.has_bare and form.tags is not None:
            tags = form.tags
            bare = {f"{tags.name}{name}{tags.name_end}": name for name in self._calls.names}
        marks = [*form.begins, *form.dropped, *bare]
        if form.thinks_anywhere:
            marks.append(form.thought[0])
        mark: str | None = ""
        while mark is not None:
            if not self._text.has_begun:
                yield from self._thoughts_first(form)
            mark = yield from self._reader.until(marks, self._text.push)
            if mark is None:
                return
            self._markup()
            if mark == form.thought[0]:
                yield from self._reasoning_text(form)
            elif mark not in form.dropped:
                yield from self._body(form, bare.get(mark, ""))
                self._markup()

    def _markup(self) -> None:
        self._text.mark()
        self._reasoning.mark()

    def _thoughts_first(self, form: ReplyFormat) -> Steps[None]:
        """Read the reasoning before any text, and an end mark whose beginning the prompt has."""
        while True:
            if not (yield from self._reader.sees(form.thought)):
                return
            self._markup()
            yield from self._reader.space()
            mark = yield from self._reader.mark(form.thought)
            if mark == form.thought[0]:
                yield from self._reasoning_text(form)

    def _reasoning_text(self, form: ReplyFormat) -> Steps[None]:
        """Read up to the end of the reasoning; calls inside it are calls."""
        opens, closes = form.thought
        if (yield from self._reader.sees([opens])):  # which the prompt has, too
            yield from self._reader.space()
            yield from self._reader.mark([opens])
        while True:
            mark = yield from self._reader.until([closes, *form.begins], self._reasoning.push)
            if mark is None:
                return
            if mark == closes:
                self._markup()
                return
            if form.starts and not (yield from self._reader.sees(form.starts)):
                yield from self._reasoning.push(mark)
                continue
            self._markup()
            yield from self._body(form)
            self._markup()

    # --- calls ---

    def _body(self, form: ReplyFormat, name: str = "") -> Steps[None]:
        """Read what follows the mark of a call; ``name``: if the mark has it."""
        reader, calls = self._reader, self._calls
        if form.tags is not None:
            return tagged_calls(reader, calls, form.ends, form.tags, name)
        if form.body in _OTHER_BODIES:
            return _OTHER_BODIES[form.body](reader, calls, form.ends)
        if form.body == "keyed":
            return json_calls(reader, calls, form.ends, keyed_object)
        return json_calls(reader, calls, form.ends)

    def _bare_json(self, form: ReplyFormat) -> Steps[None]:
        """Read a reply that is a call without a mark: an object that names one of the tools."""
        starts = [
            f'{{{kind}"name":"{name}","{key}":'
            for name in map(partial(_SPACE.sub, ""), self._calls.names)
            for kind in ("", '"type":"function",')
            for key in ("parameters", "arguments")
        ]
        while True:
            begun = _SPACE.sub("", self._reader.text)
            if any(begun.startswith(start) for start in starts):
                self._markup()
                yield from json_calls(self._reader, self._calls, ())
                self._markup()
                return
            if self._reader.is_over or not any(start.startswith(begun) for start in starts):
                return
            yield None


def parse_reply(
    text: str,
    reply_format: ReplyFormat | None,
    tools: Sequence[Mapping[str, Any]] = (),
    *,
    before: str = "",
    seed: bytes = b"",
) -> Reply:
    """Return a whole reply taken apart; see ``ReplyParser``."""
    parser = ReplyParser(reply_format, tools, before=before, seed=seed)
    parser.feed(text)
    parser.finish()
    return parser.reply
