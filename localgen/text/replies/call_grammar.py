"""The grammar of a reply that calls tools, in Lark's notation: the format's marks around each
tool's name and its arguments by their schema. It compiles nothing.

A reply that must call tools has reasoning and calls. In one that may, text is free up to the mark
of a call: the mark and what may begin in it are what ``ReplyParser`` takes for a call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from localgen.text.replies.call_bodies import CallBodies, Tool, arguments_schema
from localgen.text.replies.formats import ReplyFormat
from localgen.text.replies.grammar_writer import (
    SPACE,
    GrammarWriter,
    SpecialId,
    any_pattern,
    pattern_of,
    quoted,
)
from localgen.text.replies.harmony import ENDS, HEADERS, MESSAGE
from localgen.text.replies.start import ReplyStart

_SHORT_SPACE = "/[ \\n]{0,4}/"
_WORDS = "/[ a-z]{0,20}/"


def call_grammar(
    start: ReplyStart,
    template: str,
    special_id: SpecialId,
    *,
    names: Sequence[str],
    several: bool,
) -> str:
    """Return the grammar of a reply that calls one of the tools called ``names``.

    template: the source of the chat template, which shows what variants of a format have.
    several: whether the reply may have more calls than one.
    Raises ValueError for arguments that a format has no way to write.
    """
    return _reply(start, template, special_id, names, several=several).required()


def free_grammar(start: ReplyStart, template: str, special_id: SpecialId, *, several: bool) -> str:
    """Return the grammar of a reply that may call tools: once a call begins, it is one of theirs.

    After a call the reply goes on, or ends if there may not be several. Otherwise as
    ``call_grammar``.
    """
    names = [each.get("function", each)["name"] for each in start.tools]
    return _reply(start, template, special_id, names, several=several).free()


def _reply(
    start: ReplyStart, template: str, special_id: SpecialId, names: Sequence[str], *, several: bool
) -> _Reply:
    tools = [each.get("function", each) for each in start.tools]
    chosen = [each for each in tools if each["name"] in names]
    writer = GrammarWriter(start.form.marks, special_id)
    bodies = CallBodies(writer, start.form, template, chosen)
    several = several and not start.form.one_call_a_message
    if start.form.body == "harmony":
        return _Harmony(writer, start, bodies, several)
    return _Reply(writer, start, bodies, several)


@dataclass(frozen=True, slots=True)
class _Reply:
    """Writes the grammars of one reply."""

    writer: GrammarWriter
    start: ReplyStart
    bodies: CallBodies
    several: bool

    @property
    def form(self) -> ReplyFormat:
        return self.start.form

    # --- a reply that must call ---

    def required(self) -> str:
        reasoning, calls = self._reasoning(), self._calls()
        if not reasoning or not self.form.has_bare or self.form.body != "json":
            return self.writer.grammar(f"{reasoning} {calls}".strip())
        # Only at the beginning of a reply may a call come without its mark.
        marked = f"{reasoning} {self.writer.literal(self.form.begins[0])} {calls}"
        return self.writer.grammar(marked if self.start.before else f"{calls} | {marked}")

    def _reasoning(self) -> str:
        """Return the reasoning before the calls: what the prompt opened, or what may come."""
        opens, _ = self.form.thought
        may_come = self.start.is_to_reason or opens in self.bodies.template
        if not self.start.before and not may_come:
            return ""
        thoughts = self.writer.new_name()
        self._define_thoughts(thoughts, _SHORT_SPACE, must_close=True, may_call=False)
        return thoughts if self.start.before else f"({self.writer.literal(opens)} {thoughts})?"

    def _calls(self) -> str:
        call = self.bodies.after_mark(several=self.several)
        if self.form.has_bare and self.form.body == "json":
            return call
        block = self.writer.rule(f"{self.writer.literal(self.form.begins[0])} {call}")
        several = self.several and not self.bodies.are_listed
        blocks = self.writer.list_of(block, self.bodies.line, several=several)
        if self.form.body != "deepseek":
            return blocks
        first, last = map(self.writer.literal, self.form.dropped)
        return f"{first} {blocks} {last}"

    # --- a reply that may call ---

    def free(self) -> str:
        text, begin = self.writer.new_name(), self.writer.new_name()
        thoughts, is_limited = "", self.start.max_reasoning_tokens is not None
        # Elsewhere a mark begins a call in the reasoning as it does in text.
        if self.form.starts or is_limited:
            thoughts = self.writer.new_name()
            # Its limit ends the reasoning, which a call in it would not allow.
            self._define_thoughts(thoughts, begin, must_close=False, may_call=not is_limited)
        self.writer.define(text, self._text(text, thoughts))
        self.writer.define(begin, self._beginning(begin, thoughts, text))
        if self.start.before:
            return self.writer.grammar(thoughts or text)
        return self.writer.grammar(self._beginning(begin, thoughts, text, self._bare_json()))

    def _beginning(
        self, begin: str, thoughts: str, text: str, bare: Mapping[str, str] = MappingProxyType({})
    ) -> str:
        """Return a reply without text so far: reasoning may begin in it.

        bare: what begins a call without a mark, by patterns; each with that call.
        """
        cases, patterns = list(bare.values()), list(bare)
        if thoughts:
            opens, closes = self.form.thought
            cases.append(f"{self.writer.spaced(opens)} {thoughts}")
            cases.append(f"{self.writer.spaced(closes)} {begin}")
            patterns.append(f"{SPACE}{any_pattern(self.form.thought)}")
        not_first = f"({'|'.join(patterns)})" if patterns else ""
        return " | ".join([*cases, self._text(text, thoughts, not_first)])

    def _text(self, following: str, thoughts: str, not_first: str = "") -> str:
        """Return text outside the reasoning; ``following``: after a call."""
        after = following if self.several else ""
        call = self.bodies.after_mark(several=self.several)
        calls = {**dict.fromkeys(self.form.begins, call), **self._bare_tags()}
        continued = {mark: f"{call} {after}".rstrip() for mark, call in calls.items()}
        if thoughts and self.form.thinks_anywhere:
            continued[self.form.thought[0]] = thoughts
        stops = list(continued)
        cases = [self.writer.free("", stops, not_first=not_first)]
        for mark, rest in continued.items():
            cases.append(f"{self.writer.free(mark, stops, not_first=not_first)} {rest}")
        return " | ".join(cases)

    def _bare_tags(self) -> dict[str, str]:
        """Return the tags that begin a call without a mark, each with what follows it."""
        tags = self.form.tags
        if tags is None or not self.form.has_bare:
            return {}
        return {
            f"{tags.name}{tool['name']}{tags.name_end}": self.writer.rule(
                f"{quoted(self.bodies.line)} {self.bodies.tagged_arguments(tool)}"
            )
            for tool in self.bodies.tools
        }

    def _define_thoughts(self, name: str, after: str, *, must_close: bool, may_call: bool) -> None:
        """Define text inside the reasoning, and what comes ``after`` its end.

        must_close: whether the reply may not end in it. may_call: whether the mark of a call may
        come in it; in formats whose calls all start alike, one without that start is text.
        """
        mention, closes = self.writer.new_name(), self.form.thought[1]
        stops, followed, rules = (*self.form.begins, closes), [], {name: ""}
        if may_call:
            call = self.bodies.after_mark(several=self.several)
            followed.append(f"{call} {name if self.several else ''}".rstrip())
        if may_call and self.form.starts:
            followed.append(mention)
            rules[mention] = f"{SPACE}{any_pattern(self.form.starts)}"
        for rule, not_first in rules.items():
            cases = [f"{self.writer.free(closes, stops, not_first=not_first)} {after}"]
            if not must_close:
                cases.append(self.writer.free("", stops, not_first=not_first))
            for mark in self.form.begins if followed else ():
                before = self.writer.free(mark, stops, not_first=not_first)
                cases.append(f"{before} ({' | '.join(followed)})")
            self.writer.define(rule, " | ".join(cases))

    def _bare_json(self) -> dict[str, str]:
        """Return the calls that may come without a mark, by patterns of what begins them."""
        if not self.form.has_bare or self.form.body != "json":
            return {}
        calls = {}
        for tool in self.bodies.tools:
            arguments = self.writer.json(arguments_schema(tool))
            pattern = _bare_pattern(tool)
            calls[pattern] = f'{self.writer.terminal(f"/{pattern}/")} " "? {arguments} "}}"'
        return calls


def _bare_pattern(tool: Tool) -> str:
    """Return a pattern for what begins a call without a mark, with white space anywhere in it."""

    def spaced(text: str) -> str:
        return SPACE.join(["", *map(pattern_of, "".join(text.split()))])

    kind, name = spaced('"type":"function",'), spaced(f'"name":"{tool["name"]}",')
    keys = f"({spaced(chr(34) + 'parameters')}|{spaced(chr(34) + 'arguments')})"
    return f"{spaced('{')}({kind})?{name}{keys}{spaced(chr(34) + ':')}"


class _Harmony(_Reply):
    """Writes gpt-oss's replies: messages with a header each."""

    __slots__ = ()

    def _reasoning(self) -> str:
        thought = self.writer.free("<|end|>", ENDS)
        opens = self.writer.literal("<|channel|>analysis<|message|>")
        return f"({opens} {thought} {self.writer.literal('<|start|>assistant')})?"

    def _calls(self) -> str:
        return self.writer.any_of([self._call(tool) for tool in self.bodies.tools])

    def _call(self, tool: Tool) -> str:
        header = f"<|channel|>commentary to=functions.{tool['name']} <|constrain|>json<|message|>"
        return self.writer.rule(
            f"{self.writer.literal(header)} {self.writer.json(arguments_schema(tool))}"
        )

    def free(self) -> str:
        writer, header, body = self.writer, self.writer.new_name(), self.writer.new_name()
        call = self._after_recipient()
        stops = (MESSAGE, "to=")
        cases = [writer.free("", stops), f"{writer.free(MESSAGE, stops)} {body}"]
        writer.define(header, " | ".join([*cases, f"{writer.free('to=', stops)} {call}"]))
        cases = [f"{writer.free(end, ENDS)} {header}" for end in ENDS]
        writer.define(body, " | ".join([writer.free("", ENDS), *cases]))
        following = {MESSAGE: body, "to=": call}
        begins = [f"{writer.spaced(mark)} {following.get(mark, header)}" for mark in HEADERS]
        not_first = f"{SPACE}{any_pattern(HEADERS)}"  # the prompt has the header
        texts = [f"{writer.free(end, ENDS, not_first=not_first)} {header}" for end in ENDS]
        texts.append(writer.free("", ENDS, not_first=not_first))
        return writer.grammar(" | ".join([*begins, *texts]))

    def _after_recipient(self) -> str:
        """Return a call from its tool's name on; the rest of the header comes in several ways."""
        literal = self.writer.literal
        channel = f"({literal('<|channel|>commentary')} {_WORDS})?"
        header = f'(" " {_WORDS})? {channel} ({literal("<|constrain|>")} {_WORDS})?'
        return self.writer.any_of(
            [
                self.writer.rule(
                    f"{quoted('functions.' + tool['name'])} {header} {literal(MESSAGE)} "
                    f"{self.writer.json(arguments_schema(tool))}"
                )
                for tool in self.bodies.tools
            ]
        )
