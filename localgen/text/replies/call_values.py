"""The arguments of calls that are not written as JSON → rules of a grammar, by their schemas."""

from __future__ import annotations

import json
import keyword
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from localgen.text.replies.arguments import as_json_of, is_of, types_of
from localgen.text.replies.grammar_writer import GrammarWriter, any_pattern, quoted
from localgen.text.replies.schemas import (
    ANNOTATIONS,
    Case,
    cases_of,
    is_unlimited,
    refusal,
    with_cases,
)

# Of numbers without limits: those that all readers take as they are.
_INTEGER = "/-?(0|[1-9][0-9]{0,15})/"
_NUMBER = r"/-?(0|[1-9][0-9]{0,15})(\.[0-9]{1,15})?([eE][-+]?[0-9]{1,2})?/"
_STRING = frozenset({"type", "minLength", "maxLength", "pattern"})
_ARRAY = frozenset({"type", "items", "minItems", "maxItems"})
_OBJECT = frozenset({"type", "properties", "required", "additionalProperties"})
_MOST_ITEMS = 1_000
# A text that begins like this may be read as a value of the type.
_BEGINS = {"array": r"\[\(", "object": r"\{", "integer": r"\-+0-9.\(", "number": r"\-+0-9.\("}
_OF_EACH_TYPE: tuple[Case, ...] = tuple(
    {"type": each} for each in ("string", "number", "boolean", "null", "array", "object")
)
_ESCAPE, _QUOTE = "<escape>", '"'
_BOOLEANS = ("true", "false", "True", "False")  # Qwen's templates write Python's


def check_keywords(schema: Mapping[str, Any], known: frozenset[str]) -> None:
    """Raise ValueError for a keyword that is neither ``known`` nor an annotation."""
    for name in sorted(schema.keys() - known - ANNOTATIONS):
        if not name.startswith("x-"):
            raise refusal(f"{name!r}")


def number(writer: GrammarWriter, schema: Case) -> str:
    """Return the integers or numbers of a schema, as JSON."""
    if not is_unlimited(schema):
        return writer.json(schema)
    return writer.terminal(_INTEGER if schema["type"] == "integer" else _NUMBER)


def texts(
    writer: GrammarWriter,
    schema: Case,
    but: Sequence[str],
    *,
    character: str = "(?s:.)",
    not_first: str = "",
) -> str:
    """Return a terminal: the strings of a schema, without the marks ``but`` in them.

    character: a pattern for one of them. not_first: a pattern that does not match at the beginning.
    """
    check_keywords(schema, _STRING)
    least, most = schema.get("minLength", 0), schema.get("maxLength", "")
    within = f"/{character}*/" if (least, most) == (0, "") else f"/{character}{{{least},{most}}}/"
    if "pattern" in schema:
        within = f"{within} & {_whole(schema['pattern'])}"
    more = [f"/{not_first}(?s:.*)/"] if not_first else []
    return writer.content([any_pattern(but)], within, *more)


def _whole(pattern: str) -> str:
    """Return a terminal's part for whole texts in which a schema's pattern is found."""
    before, after = "(?s:.*)", "(?s:.*)"
    inner = pattern
    if inner.startswith("^"):
        before, inner = "", inner[1:]
    if inner.endswith("$") and not inner.endswith("\\$"):
        after, inner = "", inner[:-1]
    bare = re.sub(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", "", inner)
    if "^" in bare or "$" in bare or (_has_outer_choice(bare) and inner != pattern):
        raise refusal(f"the pattern {pattern!r}, with anchors in parts of it,")
    slashes = re.sub(r"(?<!\\)((?:\\\\)*)/", r"\1\\/", inner)
    return f"/{before}({slashes}){after}/".replace("\n", r"\n")


def _has_outer_choice(pattern: str) -> bool:
    """Return whether a pattern without escapes and sets has a choice outside its brackets."""
    depth = 0
    for char in pattern:
        depth += (char == "(") - (char == ")")
        if char == "|" and not depth:
            return True
    return False


# --- values in tags: texts as they are, the rest as JSON ---


def tagged_value(
    writer: GrammarWriter,
    schema: Mapping[str, Any],
    root: Mapping[str, Any],
    end: str,
    but: Sequence[str],
) -> str:
    """Return the values of an argument, and the tag ``end`` after it; ``but``: the marks that would
    end it.

    What it writes is what ``as_json`` reads, by the same schema.
    """
    cases, read_as = cases_of(schema, root), types_of(with_cases(schema, root))
    strings = [each for each in cases if _is_text(each)]
    begins = [_begins(each) for each in cases if each not in strings] if strings else []
    not_first = rf"\s*[{''.join(dict.fromkeys(begins))}]" if any(begins) else ""
    written = []
    for case in cases:
        chosen = _chosen(case, lambda value: _tagged_spellings(value, read_as))
        if chosen is not None:
            if any(mark in text for text in chosen for mark in but):
                raise refusal("an enum with a mark of the format")
            written.append(f"{writer.any_of(list(map(quoted, chosen)))} {writer.literal(end)}")
        elif case in strings:
            written.append(writer.ended(texts(writer, case, but, not_first=not_first), end))
        else:
            written.append(f"{_tagged_case(writer, case, root)} {writer.literal(end)}")
    return writer.any_of(written)


def _is_text(case: Case) -> bool:
    """Return whether a case is any string of a kind, or anything at all."""
    is_listed = "enum" in case or "const" in case
    return not is_listed and case.get("type", "string") == "string"


def _begins(case: Case) -> str:
    """Return the characters that a text beside this case may not begin with."""
    if is_unlimited(case):
        return ""
    if case.get("type") not in _BEGINS:
        raise refusal("a union of a string with such a schema")
    return _BEGINS[case["type"]]


def _tagged_spellings(value: Any, read_as: Collection[str]) -> list[str]:
    """Return the texts that are read as ``value``; read_as: the types of the argument."""
    spelled = [value] if isinstance(value, str) else [json.dumps(value, ensure_ascii=False)]
    if isinstance(value, bool):
        spelled.append(repr(value))
    return [text for text in spelled if json.loads(as_json_of(text, read_as)) == value]


def _tagged_case(writer: GrammarWriter, case: Case, root: Mapping[str, Any]) -> str:
    kind = case.get("type")
    if kind == "boolean" and is_unlimited(case):
        return writer.any_of(list(map(quoted, _BOOLEANS)))
    if kind in ("integer", "number"):
        return number(writer, case)
    definitions = {name: root[name] for name in ("$defs", "definitions") if name in root}
    return writer.json({**case, **definitions})


def _chosen(schema: Mapping[str, Any], spell: Callable[[Any], list[str]]) -> list[str] | None:
    """Return the spellings of what an enum or a const lists; None if there is neither."""
    if "const" not in schema and "enum" not in schema:
        return None
    check_keywords(schema, frozenset({"type", "enum", "const"}))
    values = [schema["const"]] if "const" in schema else schema["enum"]
    types = types_of(schema)
    fitting = [each for each in values if not types or is_of(each, types)]
    spelled = [text for each in fitting for text in spell(each)]
    if not spelled:
        raise refusal("such an enum")
    return list(dict.fromkeys(spelled))


# --- FunctionGemma's and Gemma 3's notations, with structure ---

_RULE = "rule"  # of a case: the name of the rule that stands for it


@dataclass(slots=True)
class Notation:
    """Writes values as FunctionGemma does.

    but: marks that may not be in a string. root: what references in schemas are relative to.
    """

    writer: GrammarWriter
    but: Sequence[str]
    root: Mapping[str, Any]
    _names: dict[int, str] = field(default_factory=dict)
    _kept: list[Any] = field(default_factory=list)

    separator: ClassVar[str] = ","
    true: ClassVar[str] = "true"
    false: ClassVar[str] = "false"
    null: ClassVar[str] = "null"
    any_key: ClassVar[str] = "/[a-zA-Z_][a-zA-Z0-9_]{0,30}:/"

    def string(self, schema: Case) -> str:
        content = texts(self.writer, schema, [*self.but, _ESCAPE])
        return f"{self.writer.literal(_ESCAPE)} {self.writer.ended(content, _ESCAPE)}"

    def constant(self, text: str) -> str:
        """Return one string."""
        return self.writer.literal(f"{_ESCAPE}{text}{_ESCAPE}")

    def key(self, name: str) -> str:
        """Return what comes before the value of a property."""
        if not re.fullmatch(r"[\w.-]+", name):
            raise refusal(f"the property {name!r}, whose name is not a word,")
        return quoted(f"{name}:")

    def value(self, schema: Any) -> str:
        """Return the values of a schema: a rule, which may refer to itself."""
        if id(schema) not in self._names:
            self._kept.append(schema)  # so that no other one has its id
            self._names[id(schema)] = name = self.writer.new_name()
            self.writer.define(name, self._value({} if schema is True else schema))
        return self._names[id(schema)]

    def _value(self, schema: Mapping[str, Any]) -> str:
        if "oneOf" in schema:
            raise refusal("'oneOf'")
        cases = cases_of(schema, self.root, lambda target: {_RULE: self.value(target)})
        return " | ".join(each.get(_RULE) or self._case(each) for each in cases)

    def _case(self, case: Case) -> str:
        kind = case.get("type")
        chosen = _chosen(case, lambda each: [self._constant(each)])
        if chosen is not None:
            return " | ".join(chosen)
        if kind is None:
            check_keywords(case, frozenset())
            return " | ".join(map(self.value, _OF_EACH_TYPE))
        if kind in ("integer", "number"):
            return number(self.writer, case)
        if kind in ("boolean", "null"):
            check_keywords(case, frozenset({"type"}))
            names = (self.true, self.false) if kind == "boolean" else (self.null,)
            return " | ".join(map(quoted, names))
        if kind == "string":
            return self.string(case)
        return self._array(case) if kind == "array" else self._object(case)

    def _constant(self, value: Any) -> str:
        if isinstance(value, str):
            if any(mark in value for mark in (*self.but, _ESCAPE)):
                raise refusal("an enum with a mark of the format")
            return self.constant(value)
        if isinstance(value, bool):
            return quoted(self.true if value else self.false)
        if isinstance(value, list | dict):
            raise refusal("an enum of arrays or objects")
        return quoted(self.null if value is None else json.dumps(value))

    def _array(self, case: Case) -> str:
        check_keywords(case, _ARRAY)
        least, most = case.get("minItems", 0), case.get("maxItems")
        if max(least, most or 0) > _MOST_ITEMS:
            raise refusal(f"an array of more than {_MOST_ITEMS:,} items")
        if most == 0:
            return '"[]"'
        item, between = self.value(case.get("items", True)), quoted(self.separator)
        last = "" if most is None else most - 1
        more = f"({between} {item}){{{max(least - 1, 0)},{last}}}" if most != 1 else ""
        items = f"{item} {more}".rstrip()
        return f'"[" {items} "]"' if least else f'"[" ({items})? "]"'

    def _object(self, case: Case) -> str:
        others = case.get("additionalProperties", True)
        if case.get("properties") or case.get("required") or others is False:
            return f'"{{" {self.listed(case, self.key)} "}}"'
        check_keywords(case, _OBJECT)
        pair = f"{self.writer.terminal(self.any_key)} {self.value(others)}"
        return f'"{{" ({pair} ({quoted(self.separator)} {pair})*)? "}}"'

    def listed(self, schema: Mapping[str, Any], before: Callable[[str], str]) -> str:
        """Return the properties of an object, in their order, and no others.

        before: returns what comes before the value of each.
        """
        check_keywords(schema, _OBJECT)
        properties, required = schema.get("properties", {}), set(schema.get("required", ()))
        missing = required - properties.keys()
        if missing:
            raise refusal(f"the property {min(missing)!r}, required but not listed,")
        # What may come from a property on, as the first of them and after others.
        first, later = "", ""
        for name, each in reversed(properties.items()):
            pair = self.writer.rule(f"{before(name)} {self.value(each)} {later}".rstrip())
            following = self.writer.rule(f"{quoted(self.separator)} {pair}")
            if name in required:
                first, later = pair, following
            else:
                first = self.writer.rule(f"{pair} | {first}" if first else f"{pair}?")
                later = self.writer.rule(f"{following} | {later}" if later else f"{following}?")
        return first


class PythonNotation(Notation):
    """Writes values as Python does, for Gemma 3."""

    __slots__ = ()

    separator = ", "
    true, false, null = "True", "False", "None"
    any_key = r'/"[a-zA-Z_][a-zA-Z0-9_]{0,30}": /'

    def string(self, schema: Case) -> str:
        # A pattern sees the text as it is written, so escapes are not written beside one.
        plain = r'[^"\\\x00-\x1f\x7f]'
        character = plain if "pattern" in schema else rf'({plain}|\\["\\bfnrt])'
        content = texts(self.writer, schema, self.but, character=character)
        return f"{quoted(_QUOTE)} {self.writer.ended(content, _QUOTE)}"

    def constant(self, text: str) -> str:
        return quoted(quoted(text))

    def key(self, name: str) -> str:
        return quoted(f"{quoted(name)}: ")

    def arguments(self, schema: Mapping[str, Any]) -> str:
        """Return the arguments of a call, each with its name."""
        for name in schema.get("properties", {}):
            if not name.isidentifier() or keyword.iskeyword(name):
                raise refusal(f"the argument {name!r}, which is not a name in Python,")
        return self.listed(schema, lambda name: quoted(f"{name}="))
