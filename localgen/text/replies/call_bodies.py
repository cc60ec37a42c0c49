"""What follows the mark of a call, in the grammar of each format: the tool's name, its arguments by
their schema, and the mark at the end."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from localgen.text.replies.call_values import Notation, PythonNotation, tagged_value
from localgen.text.replies.formats import ReplyFormat
from localgen.text.replies.grammar_writer import GrammarWriter, quoted
from localgen.text.replies.other_calls import DEEPSEEK_SEPARATOR
from localgen.text.replies.schemas import refusal
from localgen.text.replies.tagged_calls import Tags

_CALL_ID = "/[a-zA-Z0-9]{9}/"
_FENCED = "```json"
_ARGS = "[ARGS]"

Tool = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CallBodies:
    """Writes the calls of ``tools`` in one format.

    template: the source of the chat template, which shows what variants of a format have.
    """

    writer: GrammarWriter
    form: ReplyFormat
    template: str
    tools: Sequence[Tool]

    @property
    def line(self) -> str:
        """What separates marks and calls."""
        tags = self.form.tags
        if tags is not None:
            return "\n" if tags.name else ""
        if self.form.body == "json":
            return "\n" if self.form.ends else ""
        return "\n" if self.form.body == "deepseek" and _FENCED in self.template else ""

    @property
    def end(self) -> str:
        return self.form.ends[0] if self.form.ends else ""

    @property
    def are_listed(self) -> bool:
        """Whether one mark has a list of calls after it."""
        body = self.form.body
        is_json_list = body == "json" and not self.form.ends
        is_mistral_list = body == "mistral" and _ARGS not in self.template
        return body in ("keyed", "python") or is_json_list or is_mistral_list

    def after_mark(self, *, several: bool) -> str:
        """Return what follows the mark of a call, up to the end of it.

        several: whether it may be a list of calls, in a format that has them.
        """
        if self.form.body in ("json", "keyed", "mistral"):
            return self._json(several=several)
        if self.form.body == "python":
            return self._python(several=several)
        write = {"deepseek": self._deepseek, "gemma": self._gemma}.get(self.form.body, self._tagged)
        return self.writer.any_of([self._written(write, tool) for tool in self.tools])

    def _written(self, write: Callable[[Tool], str], tool: Tool) -> str:
        """Return what ``write`` makes of a tool, whose name errors have."""
        try:
            return write(tool)
        except ValueError as error:
            raise ValueError(f"the arguments of the tool {tool['name']}: {error}") from None

    # --- JSON ---

    def _json(self, *, several: bool) -> str:
        if self.form.body == "mistral" and not self.are_listed:
            return self.writer.any_of([self._mistral(tool) for tool in self.tools])
        named = _keyed if self.form.body == "keyed" else self._named
        call = self.writer.any_of([self.writer.json(named(tool)) for tool in self.tools])
        if self.form.has_bare:
            return call
        if self.form.body == "json" and self.end:
            ends = self.writer.literal(self.line + self.end)
            return self.writer.rule(f"{quoted(self.line)} {call} {ends}")
        items = self.writer.list_of(call, ", ", several=several)
        return self.writer.rule(f'"[" {items} {self.writer.literal("]" + self.end)}')

    def _named(self, tool: Tool) -> dict[str, Any]:
        key = "parameters" if self.form.has_bare else "arguments"
        properties: dict[str, Any] = {"name": {"const": tool["name"]}}
        properties[key] = _moved(arguments_schema(tool), f"#/properties/{key}")
        required = list(properties)
        if self.form.body == "mistral":
            properties["id"] = {"type": "string", "pattern": "^[a-zA-Z0-9]{9}$"}
        return _closed(properties, required=required)

    def _mistral(self, tool: Tool) -> str:
        literal = self.writer.literal
        own_id = f"{literal('[CALL_ID]')} {_CALL_ID}" if "[CALL_ID]" in self.template else ""
        arguments = self.writer.json(arguments_schema(tool))
        return self.writer.rule(f"{literal(tool['name'])} {own_id} {literal(_ARGS)} {arguments}")

    def _deepseek(self, tool: Tool) -> str:
        name, arguments = tool["name"], self.writer.json(arguments_schema(tool))
        before, after = f"{name}{DEEPSEEK_SEPARATOR}", self.end
        if _FENCED in self.template:
            before = f"function{DEEPSEEK_SEPARATOR}{name}\n{_FENCED}\n"
            after = f"\n```{self.end}"
        literal = self.writer.literal
        return self.writer.rule(f"{literal(before)} {arguments} {literal(after)}")

    # --- tags ---

    def _tagged(self, tool: Tool) -> str:
        tags = self.form.tags
        assert tags is not None
        # In one piece: text that only mentions the mark goes on otherwise at some place in it.
        name = self.writer.literal(
            f"{self.line}{tags.name}{tool['name']}{tags.name_end}{self.line}"
        )
        end = self.writer.literal(self.line + self.end)
        return self.writer.rule(f"{name} {self._gap} {self.tagged_arguments(tool)} {end}")

    @property
    def _gap(self) -> str:
        """Return what may be between tags: GLM 4.5 writes line feeds there, and GLM 4.7 none."""
        return "" if self.line else '"\\n"?'

    def tagged_arguments(self, tool: Tool) -> str:
        """Return the arguments of a call in tags, and the tag after the last one."""
        tags = self.form.tags
        assert tags is not None
        schema, parts = arguments_schema(tool), []
        for name, each in schema["properties"].items():
            part = self.writer.rule(self._argument(tags, name, each, schema))
            parts.append(part if name in schema.get("required", ()) else f"{part}?")
        return " ".join([*parts, self.writer.literal(tags.call_end)]).strip()

    def _argument(
        self, tags: Tags, name: str, schema: Mapping[str, Any], root: Mapping[str, Any]
    ) -> str:
        pad = "\n" if tags.pads else ""
        key, before = tags.key + name + tags.key_end, tags.value + pad
        end, but = f"{pad}{tags.value_end}{self.line}", (tags.value_end, *self.form.ends)
        value = tagged_value(self.writer, schema, root, end, but)
        if not self._gap:
            return f"{self.writer.literal(key + before)} {value}"
        written = f"{self.writer.literal(before)} {value}"
        return f"{self.writer.literal(key)} {self._gap} {written} {self._gap}"

    # --- Google's notations ---

    def _gemma(self, tool: Tool) -> str:
        schema = arguments_schema(tool)
        notation = Notation(self.writer, self.form.ends, schema)
        name = quoted(f"call:{tool['name']}{{")
        arguments = notation.listed(schema, notation.key)
        return self.writer.rule(f"{name} {arguments} {self.writer.literal('}' + self.end)}")

    def _python(self, *, several: bool) -> str:
        calls = [self._written(self._python_call, tool) for tool in self.tools]
        items = self.writer.list_of(self.writer.any_of(calls), "\n", several=several)
        return self.writer.rule(f"{items} {self.writer.literal(chr(10) + self.end)}")

    def _python_call(self, tool: Tool) -> str:
        schema, name = arguments_schema(tool), tool["name"]
        if not all(part.isidentifier() for part in name.split(".")):
            raise refusal(f"the name {name!r}, which is not a name in Python,")
        notation = PythonNotation(self.writer, self.form.ends, schema)
        return self.writer.rule(f'{quoted(name + "(")} {notation.arguments(schema)} ")"')


def arguments_schema(tool: Tool) -> dict[str, Any]:
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


def _moved(schema: dict[str, Any], path: str) -> dict[str, Any]:
    """Return a schema whose references hold at ``path`` of another one."""
    moved = copy.deepcopy(schema)
    left: list[Any] = [moved]
    while left:
        part = left.pop()
        if isinstance(part, dict):
            reference = part.get("$ref")
            if isinstance(reference, str) and reference.startswith("#"):
                part["$ref"] = path + reference[1:]
            left += part.values()
        elif isinstance(part, list):
            left += part
    return moved


def _keyed(tool: Tool) -> dict[str, Any]:
    name = tool["name"]
    path = f"#/properties/{name.replace('~', '~0').replace('/', '~1')}"
    return _closed({name: _moved(arguments_schema(tool), path)}, required=[name])


def _closed(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }
