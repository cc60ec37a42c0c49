"""The grammar of a reply that calls tools, in Lark's notation: the format's marks around each
tool's name and its arguments by their schema. It compiles nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from localgen.text.replies.formats import ReplyFormat
from localgen.text.replies.other_calls import DEEPSEEK_SEPARATOR
from localgen.text.replies.start import ReplyStart

# The id of a mark that is one special token; None for one that text spells.
SpecialId = Callable[[str], "int | None"]

_ANY_TEXT = "/(?s:.*)/"
_SPACE = "/[ \\n]{0,4}/"
_CALL_ID = "/[a-zA-Z0-9]{9}/"
_LINE = "\n"
_FENCED = "```json"


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
    Raises ValueError for a format whose calls no grammar describes.
    """
    tools = [each.get("function", each) for each in start.tools]
    chosen = [each for each in tools if each["name"] in names]
    writer = _Writer(start.form, template, special_id)
    calls = writer.calls(chosen, several=several and not start.form.one_call_a_message)
    return writer.grammar(f"{writer.reasoning(start)} {calls}".strip())


@dataclass(slots=True)
class _Writer:
    """Writes rules; what its methods return stands for text inside a rule."""

    form: ReplyFormat
    template: str
    special_id: SpecialId
    rules: list[str] = field(default_factory=list)

    def grammar(self, start: str) -> str:
        return "\n".join([f"start: {start}", *self.rules]) + "\n"

    def rule(self, body: str, options: str = "") -> str:
        """Add a rule and return its name."""
        name = f"r{len(self.rules)}"
        self.rules.append(f"{name}{options}: {body}")
        return name

    def literal(self, text: str) -> str:
        """Return a text whose marks are special tokens where the model has them."""
        ids = {mark: self.special_id(mark) for mark in self.form.marks if mark}
        special = {mark: token_id for mark, token_id in ids.items() if token_id is not None}
        longest_first = sorted(special, key=len, reverse=True)
        pattern = "|".join(map(re.escape, longest_first)) or "(?!)"
        parts = re.split(f"({pattern})", text)
        return " ".join(
            f"<[{special[part]}]>" if part in special else _quoted(part) for part in parts if part
        )

    def text_until(self, end: str) -> str:
        """Return any text up to ``end``, and that."""
        literal = self.literal(end)
        if literal.startswith("<["):
            return f"{self.rule(_ANY_TEXT)} {literal}"
        return self.rule(_ANY_TEXT, f"[suffix={_quoted(end)}]")

    def json(self, schema: Mapping[str, Any]) -> str:
        return self.rule(f"%json {json.dumps(schema, ensure_ascii=False)}")

    def any_of(self, each: Sequence[str]) -> str:
        return each[0] if len(each) == 1 else self.rule(" | ".join(each))

    def list_of(self, item: str, separator: str, *, several: bool) -> str:
        between = _quoted(separator) if separator else ""
        return f"{item} ({between} {item})*" if several else item

    # --- reasoning ---

    def reasoning(self, start: ReplyStart) -> str:
        """Return the reasoning before the calls: what the prompt opened, or what may come."""
        if self.form.body == "harmony":
            thought = self.text_until("<|end|>")
            opens = self.literal("<|channel|>analysis<|message|>")
            return f"({opens} {thought} {self.literal('<|start|>assistant')})?"
        opens, closes = self.form.thought
        if start.before:
            return f"{self.text_until(closes)} {_SPACE}"
        if opens not in self.template:
            return ""
        return f"({self.literal(opens)} {self.text_until(closes)} {_SPACE})?"

    # --- calls ---

    def calls(self, tools: Sequence[Mapping[str, Any]], *, several: bool) -> str:
        form = self.form
        begin, end = (each[0] if each else "" for each in (form.begins, form.ends))
        if form.body in ("json", "mistral", "keyed"):
            return self._json_calls(tools, begin, end, several=several)
        if form.body == "deepseek":
            call = self.any_of([self._deepseek(tool, begin, end) for tool in tools])
            first, last = form.dropped
            between = "\n" if _FENCED in self.template else ""
            calls = self.list_of(call, between, several=several)
            return f"{self.literal(first)} {calls} {self.literal(last)}"
        if form.body == "harmony":
            return self.any_of([self._harmony(tool) for tool in tools])
        if form.tags is not None:
            call = self.any_of([self._tagged(tool) for tool in tools])
            line = "\n" if form.tags.name else ""
            block = self.rule(f"{self.literal(begin + line)} {call} {self.literal(line + end)}")
            return self.list_of(block, line, several=several)
        raise ValueError(
            f"the calls of the format {form.name!r} cannot be enforced; leave tool_choice out"
        )

    def _json_calls(
        self, tools: Sequence[Mapping[str, Any]], begin: str, end: str, *, several: bool
    ) -> str:
        if self.form.body == "mistral" and "[ARGS]" in self.template:
            call = self.any_of([self._mistral(tool, begin) for tool in tools])
            return f"{call}+" if several else call
        make = _keyed if self.form.body == "keyed" else self._named
        call = self.any_of([self.json(make(tool)) for tool in tools])
        if self.form.has_bare:
            return call
        if end and self.form.body == "json":
            block = self.rule(f"{self.literal(begin + _LINE)} {call} {self.literal(_LINE + end)}")
            return self.list_of(block, "\n", several=several)
        items = self.list_of(call, ", ", several=several)
        return f"{self.literal(begin + '[')} {items} {self.literal(']' + end)}"

    def _named(self, tool: Mapping[str, Any]) -> dict[str, Any]:
        key = "parameters" if self.form.has_bare else "arguments"
        properties = {"name": {"const": tool["name"]}, key: arguments_schema(tool)}
        required = list(properties)
        if self.form.body == "mistral":
            properties["id"] = {"type": "string", "pattern": "^[a-zA-Z0-9]{9}$"}
        return _closed(properties, required=required)

    def _mistral(self, tool: Mapping[str, Any], begin: str) -> str:
        own_id = f"{self.literal('[CALL_ID]')} {_CALL_ID}" if "[CALL_ID]" in self.template else ""
        name, mark = self.literal(begin + tool["name"]), self.literal("[ARGS]")
        return self.rule(f"{name} {own_id} {mark} {self.json(arguments_schema(tool))}")

    def _deepseek(self, tool: Mapping[str, Any], begin: str, end: str) -> str:
        name, arguments = tool["name"], self.json(arguments_schema(tool))
        before, after = f"{begin}{name}{DEEPSEEK_SEPARATOR}", end
        if _FENCED in self.template:
            before = f"{begin}function{DEEPSEEK_SEPARATOR}{name}\n{_FENCED}\n"
            after = f"\n```{end}"
        return self.rule(f"{self.literal(before)} {arguments} {self.literal(after)}")

    def _harmony(self, tool: Mapping[str, Any]) -> str:
        header = f"<|channel|>commentary to=functions.{tool['name']} <|constrain|>json<|message|>"
        return self.rule(f"{self.literal(header)} {self.json(arguments_schema(tool))}")

    def _tagged(self, tool: Mapping[str, Any]) -> str:
        tags = self.form.tags
        assert tags is not None
        schema = arguments_schema(tool)
        line = "\n" if tags.name else ""
        parts = [self.literal(f"{tags.name}{tool['name']}{tags.name_end}{line}")]
        for name, each in schema.get("properties", {}).items():
            before = f"{tags.key}{name}{tags.key_end}{tags.value}"
            pad = "\n" if tags.pads else ""
            value = self._tagged_value(each, f"{pad}{tags.value_end}{line}")
            part = self.rule(f"{self.literal(before + pad)} {value}")
            parts.append(part if name in schema.get("required", ()) else f"{part}?")
        return self.rule(" ".join([*parts, self.literal(tags.call_end)]).strip())

    def _tagged_value(self, schema: Mapping[str, Any], end: str) -> str:
        """Return a value and the tag after it; texts are not in quotes."""
        choices = schema.get("enum")
        if schema.get("type") == "boolean":  # Qwen's templates write Python's
            choices = ["true", "false", "True", "False"]
        if choices and all(isinstance(each, str) for each in choices):
            return f"({' | '.join(map(_quoted, choices))}) {self.literal(end)}"
        if schema.get("type") == "string":
            return self.text_until(end)
        return f"{self.json(schema)} {self.literal(end)}"


def arguments_schema(tool: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of a tool's arguments, which has no others than those it lists."""
    given = tool.get("parameters") or {}
    schema = {"type": "object", **_without_nullable(given)}
    return {"properties": {}, "additionalProperties": False, **schema}


def _without_nullable(schema: Any) -> Any:
    """Return a schema with ``anyOf`` for OpenAPI's ``nullable``, which JSON Schema lacks."""
    if isinstance(schema, list):
        return [_without_nullable(each) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    kept = {name: _without_nullable(each) for name, each in schema.items() if name != "nullable"}
    if schema.get("nullable") is True:
        return {"anyOf": [kept, {"type": "null"}]}
    return kept


def _keyed(tool: Mapping[str, Any]) -> dict[str, Any]:
    return _closed({tool["name"]: arguments_schema(tool)}, required=[tool["name"]])


def _closed(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
