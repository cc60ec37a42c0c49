"""Python functions → JSON schemas, which chat templates show to a model as its tools.

Like transformers' ``get_json_schema``: names and types come from the signature, descriptions from
the docstring, in Google's style. It knows no templates, and calls no function.
"""

from __future__ import annotations

import enum
import inspect
import json
import re
import types
import typing
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NoReturn, Union

Tool = Mapping[str, Any] | Callable[..., Any]
Schema = dict[str, Any]

_NAMES: dict[Any, str] = {
    int: "integer", float: "number", str: "string", bool: "boolean", type(None): "null",
    list: "array", tuple: "array", dict: "object",
}  # fmt: skip
_SCALARS = (int, float, str, bool, type(None))
# A header ends the section before it even in the middle of a line, as in transformers.
_ANY_HEADER = re.compile(r"Args:|Returns:|Raises:")
_ARGS, _RETURNS = re.compile(r"\n\s*Args:[ \t]*\n"), re.compile(r"\n\s*Returns:[ \t]*\n")
_AFTER_ARGS, _AFTER_RETURNS = re.compile(r"Returns:|Raises:"), re.compile(r"Raises:")
_ARGUMENT = re.compile(r"(?P<indent>[ \t]*)(?P<name>\w+)(?:[ \t]*\([^()]*\))?:(?P<text>.*)")
_CHOICES = re.compile(r"\(choices:\s*(?P<choices>.*?)\)\s*$", re.IGNORECASE)
_TYPES = "int, float, str, bool, Any, an Enum, Literal, or list, dict, tuple and Union of these"


def as_schemas(tools: Sequence[Tool] | None) -> list[Mapping[str, Any]] | None:
    """Return the schemas of ``tools``: functions, or schemas, which are returned unchanged.

    Raises TypeError or ValueError if a schema cannot be made; the message says what to write.
    """
    if tools is None:
        return None
    if isinstance(tools, (str, Mapping)) or not isinstance(tools, Sequence):
        raise TypeError(f"tools must be a list of functions or JSON schemas, got {tools!r}")
    schemas = [tool if isinstance(tool, Mapping) else tool_schema(tool) for tool in tools]
    _check_names(schemas)
    return schemas


def _check_names(tools: list[Mapping[str, Any]]) -> None:
    """Raise ValueError for two tools of one name, between which no call could tell."""
    functions = [tool.get("function", tool) for tool in tools]
    names = [each.get("name") for each in functions if isinstance(each, Mapping)]
    found = Counter(name for name in names if isinstance(name, str))
    if twice := [name for name, n_tools in found.items() if n_tools > 1]:
        raise ValueError(f"two tools are named {twice[0]!r:.80}: rename one, or leave it out")


def tool_schema(function: Callable[..., Any]) -> Schema:
    """Return the JSON schema of a function or a method.

    Raises TypeError for a type hint that is missing or has no JSON type, and ValueError for a
    docstring that does not describe the function or one of its arguments.
    """
    if not (inspect.isfunction(function) or inspect.ismethod(function)):
        raise TypeError(
            f"a tool must be a Python function, or the JSON schema of one as a dict, got "
            f"{function!r}; wrap it in a function with type hints and a docstring"
        )
    name = function.__name__
    doc = (inspect.getdoc(function) or "").strip()
    if not doc:
        raise ValueError(
            f"the tool {name} has no docstring; describe what {name} does, and each argument under "
            f"a line 'Args:', as 'name: description'"
        )
    parameters = _parameters(function)
    hints = _type_hints(function)
    properties = {each: _of_hint(hints[each], f"{each} of {name}") for each in parameters}
    _describe(properties, _arguments(doc), name)
    schema: Schema = {"type": "object", "properties": properties}
    if required := [each.name for each in parameters.values() if each.default is each.empty]:
        schema["required"] = required
    description = doc[: found.start()] if (found := _ANY_HEADER.search(doc)) else doc
    tool = {"name": name, "description": description.strip(), "parameters": schema}
    if (returned := _returned(hints, doc)) is not None:
        tool["return"] = returned
    return {"type": "function", "function": tool}


# --- the signature ---


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the parameters, which the model fills in, without ``self`` or ``cls``."""
    found = dict(inspect.signature(function).parameters)
    first = next(iter(found.values()), None)
    if first is not None and first.name in ("self", "cls") and first.annotation is first.empty:
        del found[first.name]
    for each in found.values():
        where = f"the argument {each.name} of the tool {function.__name__}"
        if each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD):
            raise TypeError(f"{where} takes any number of values; name each value instead")
        if each.kind is each.POSITIONAL_ONLY:
            raise TypeError(f"{where} has no name in a call; leave out the / after it")
        if each.annotation is each.empty:
            raise TypeError(f"{where} has no type hint; add one, for example {each.name}: str")
    return found


def _type_hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except (NameError, AttributeError, SyntaxError) as error:
        raise TypeError(
            f"a type hint of the tool {function.__name__} cannot be evaluated: {error}"
        ) from error


def _returned(hints: Mapping[str, Any], doc: str) -> Schema | None:
    """Return the schema of the return value; None without a type hint that has a JSON type.

    It is optional, since the model never writes this value.
    """
    if "return" not in hints:
        return None
    try:
        schema = _of_hint(hints["return"], "")
    except TypeError:
        return None
    text = _section(doc, _RETURNS, _AFTER_RETURNS)
    return schema if text is None else {**schema, "description": text.strip()}


# --- types ---


def _of_hint(hint: Any, where: str) -> Schema:
    """Return the schema of a type hint; ``where`` names its argument in errors."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return {}
    name = _NAMES.get(hint if inner else origin or hint)  # a bare typing.List has the origin list
    if name:
        return {"type": name}
    if origin is None and isinstance(hint, type) and issubclass(hint, enum.Enum):
        return _of_values(tuple(member.value for member in hint), where)
    make = _COMPOSED.get(origin)
    if make is None:
        _refuse(hint, where, f"has no JSON type; use one of {_TYPES}, or pass a JSON schema")
    return make(inner, where)


def _refuse(hint: Any, where: str, reason: str) -> NoReturn:
    raise TypeError(f"the type hint {hint!r} of the argument {where} {reason}")


def _of_union(inner: tuple[Any, ...], where: str) -> Schema:
    """Return a single type, a list of plain types, or ``anyOf``; None makes it nullable."""
    schemas = [_of_hint(each, where) for each in inner if each is not type(None)]
    if len(schemas) == 1:
        schema = schemas[0]
    elif all(each.keys() == {"type"} for each in schemas):
        schema = {"type": _one_or_all(sorted({each["type"] for each in schemas}))}
    else:
        schema = {"anyOf": schemas}
    return {**schema, "nullable": True} if type(None) in inner else schema


def _of_values(values: tuple[Any, ...], where: str) -> Schema:
    if not values or any(type(value) not in _SCALARS for value in values):
        _refuse(values, where, "must contain one or more of str, int, float, bool and None")
    names = dict.fromkeys(_NAMES[type(value)] for value in values)
    return {"type": _one_or_all(list(names)), "enum": list(values)}


def _of_list(inner: tuple[Any, ...], where: str) -> Schema:
    return {"type": "array", "items": _of_hint(inner[0], where)}


def _of_dict(inner: tuple[Any, ...], where: str) -> Schema:
    return {"type": "object", "additionalProperties": _of_hint(inner[1], where)}


def _of_tuple(inner: tuple[Any, ...], where: str) -> Schema:
    if len(inner) < 2 or ... in inner:
        _refuse(
            inner,
            where,
            "is not a tuple of two or more types; use list[...] instead",
        )
    return {"type": "array", "prefixItems": [_of_hint(each, where) for each in inner]}


_COMPOSED: dict[Any, Callable[[tuple[Any, ...], str], Schema]] = {
    Union: _of_union, types.UnionType: _of_union, Literal: _of_values, list: _of_list,
    dict: _of_dict, tuple: _of_tuple,
}  # fmt: skip


def _one_or_all(names: list[str]) -> str | list[str]:
    return names[0] if len(names) == 1 else names


# --- the docstring ---


def _section(doc: str, header: re.Pattern[str], end: re.Pattern[str]) -> str | None:
    """Return the text between ``header`` and the next header; None if there is no ``header``."""
    begin = header.search(doc)
    if begin is None:
        return None
    found = end.search(doc, begin.end())
    return doc[begin.end() : found.start() if found else len(doc)]


def _arguments(doc: str) -> dict[str, str]:
    """Return the description of each argument in the docstring, each on one line."""
    texts: dict[str, list[str]] = {}
    name, indent = "", None
    for line in (_section(doc, _ARGS, _AFTER_ARGS) or "").splitlines():
        match = _ARGUMENT.match(line)
        is_continued = indent is not None and re.match(rf"{indent}[ \t]", line)
        if match and not is_continued:
            name, indent = match["name"], match["indent"]
            texts[name] = [match["text"]]
        elif indent is not None:
            texts[name].append(line)
    return {
        name: " ".join(filter(None, (line.strip() for line in lines)))
        for name, lines in texts.items()
    }


def _describe(properties: dict[str, Schema], texts: Mapping[str, str], tool: str) -> None:
    """Add to each property its description, and the choices that a description ends with."""
    for name, schema in properties.items():
        text = texts.get(name)
        if not text:
            raise ValueError(
                f"the docstring of the tool {tool} does not describe the argument {name}; add "
                f"'{name}: description' under a line 'Args:'"
            )
        if match := _CHOICES.search(text):
            schema["enum"] = _choices(match["choices"], f"the argument {name} of the tool {tool}")
            text = text[: match.start()].strip()
        schema["description"] = text


def _choices(text: str, where: str) -> list[Any]:
    try:
        choices = json.loads(text)
    except json.JSONDecodeError:
        choices = None
    if not isinstance(choices, list):
        raise ValueError(
            f'the choices of {where} must be a JSON list such as (choices: ["a", "b"]), got {text}'
        )
    return [choice.strip() if isinstance(choice, str) else choice for choice in choices]
