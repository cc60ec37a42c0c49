"""``tool_choice``: which tools the model sees, and the grammar of a reply that calls them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from localgen._util.checks import check_bool
from localgen.config import CONSTRAINTS
from localgen.constraints.enforceable import CheckedGrammar, bounded
from localgen.constraints.equivalents import rewrite
from localgen.constraints.narrowing import narrow
from localgen.constraints.schema_check import check_schema, close_objects, refuse
from localgen.generation.inputs import ChatPrompt, Prompt
from localgen.text.replies.call_bodies import arguments_schema
from localgen.text.replies.call_grammar import call_grammar, free_grammar
from localgen.text.replies.grammar_writer import SpecialId
from localgen.text.replies.start import ReplyStart

AUTO, NONE, REQUIRED = "auto", "none", "required"
_GRAMMAR = "grammar"

Schemas = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Enforcement:
    """What is enforced of a reply's calls.

    names: the tools of which the reply must call one; None if it may call any or none. several:
    whether it may have more calls than one.
    """

    names: list[str] | None
    several: bool


def enforcement(
    tool_choice: str | None, parallel_tool_calls: bool | None, tools: Schemas | None
) -> Enforcement | None:
    """Return what is enforced; None if nothing is.

    Raises ValueError for a choice that is no tool's name, and for one that needs tools without any.
    """
    if parallel_tool_calls is not None:
        check_bool("parallel_tool_calls", parallel_tool_calls)
    several = parallel_tool_calls is not False
    if tool_choice == NONE and not several:
        raise ValueError(
            "parallel_tool_calls=False limits calls, and tool_choice='none' allows none: leave one "
            "of them out"
        )
    if tool_choice == NONE or (tool_choice is None and several):
        return None
    names = [_named(number, each) for number, each in enumerate(tools or ())]
    if tool_choice in (None, AUTO):
        return Enforcement(names=None, several=several) if names else None
    if not names:
        raise ValueError(f"tool_choice={tool_choice!r} needs tools, and there are none")
    if tool_choice == REQUIRED:
        return Enforcement(names=names, several=several)
    if tool_choice not in names:
        raise ValueError(
            f"tool_choice must be 'auto', 'none', 'required' or the name of a tool "
            f"({', '.join(names)}), got {tool_choice!r:.80}{_name_within(tool_choice)}"
        )
    return Enforcement(names=[str(tool_choice)], several=several)


def _named(number: int, tool: Mapping[str, Any]) -> str:
    """Return the name of a tool whose calls are enforced. Raises ValueError unless it has one, and
    an object as its parameters, if any."""
    function = tool.get("function", tool)
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(name, str) or not name:
        raise ValueError(
            f"tool {number} of tools has no name, which tool_choice needs: write it as {{'type': "
            f"'function', 'function': {{'name': …, 'parameters': …}}}}, got {tool!r:.80}"
        )
    parameters = function.get("parameters")
    if parameters is not None and not isinstance(parameters, Mapping):
        raise ValueError(
            f"the parameters of the tool {name} must be a JSON Schema as a dict, got "
            f"{parameters!r:.80}"
        )
    return name


def _name_within(choice: object) -> str:
    """Return a hint for a choice that is not a text but has a tool's name, as in OpenAI's API."""
    name = getattr(choice, "__name__", None)
    if isinstance(choice, Mapping):
        function = choice.get("function", choice)
        name = function.get("name") if isinstance(function, Mapping) else None
    return f"; pass the name itself, {name!r:.80}" if isinstance(name, str) else ""


def enforced(
    start: ReplyStart, template: str, special_id: SpecialId, what: Enforcement
) -> tuple[ReplyStart, str]:
    """Return what is known of a reply whose calls are enforced, and the grammar that it follows."""
    checked = replace(start, tools=tuple(_checked(each) for each in start.tools))
    if what.names is None:
        grammar = free_grammar(checked, template, special_id, several=what.several)
    else:
        grammar = call_grammar(
            checked, template, special_id, names=what.names, several=what.several
        )
    return replace(start, is_enforced=True), grammar


def _checked(tool: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tool with a schema of its arguments that can be enforced; ValueError if it cannot
    be."""
    function = dict(tool.get("function", tool))
    schema = copy.deepcopy(arguments_schema(function))
    try:
        rewrite(schema)
        check_schema(schema)
        _let_objects_through(schema)
        close_objects(schema)
        narrow(schema)
        # Imported here: only constraints need llguidance.
        from localgen.constraints.compiler import check_compiles  # noqa: PLC0415

        check_compiles(bounded(copy.deepcopy(schema)))
    except ValueError as error:
        reason = str(error).removeprefix("json_schema: ")
        raise ValueError(f"the arguments of the tool {function['name']}: {reason}") from None
    return {**function, "parameters": schema}


def _let_objects_through(schema: dict[str, Any]) -> None:
    """Leave a checked schema of arguments nothing but objects, which all formats write."""
    if "object" not in (schema["type"] if isinstance(schema["type"], list) else [schema["type"]]):
        refuse(("type",), f"must be 'object' for arguments, got {schema['type']!r:.60}")
    schema["type"] = "object"


def without_choice(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of ``chat()`` for a reply that may be an answer."""
    must_call = options.get("tool_choice") not in (None, AUTO, NONE)
    return {**options, "tool_choice": AUTO} if must_call else dict(options)


def with_grammar(options: Mapping[str, Any], prompts: Sequence[Prompt]) -> dict[str, Any]:
    """Return the options of a call, with the grammar that its prompts ask for.

    Raises ValueError if they ask for several, or the options have a grammar of their own.
    """
    grammars = {each.grammar if isinstance(each, ChatPrompt) else None for each in prompts}
    if grammars == {None}:
        return dict(options)
    if len(grammars) > 1:
        raise ValueError(
            "tool_choice needs conversations whose prompts end alike: answer these one at a time"
        )
    for name in CONSTRAINTS:
        if options.get(name) not in (None, False):
            raise ValueError(f"tool_choice constrains the reply already: leave out {name}")
    return {**options, _GRAMMAR: CheckedGrammar(grammars.pop())}
