"""``tool_choice``: which tools the model sees, and the grammar of a reply that must call one."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from localgen._util.checks import check_bool
from localgen.constraints.schema_check import check_schema, close_objects
from localgen.generation.inputs import ChatPrompt
from localgen.text.replies.call_grammar import SpecialId, arguments_schema, call_grammar
from localgen.text.replies.start import ReplyStart

AUTO, NONE, REQUIRED = "auto", "none", "required"
_GRAMMAR = "grammar"

Schemas = Sequence[Mapping[str, Any]]


def names_to_call(
    tool_choice: str | None, parallel_tool_calls: bool | None, tools: Schemas | None
) -> list[str] | None:
    """Return the names of the tools of which one must be called; None if none must.

    Raises ValueError for a choice that is no tool's name, and without tools.
    """
    if parallel_tool_calls is not None:
        check_bool("parallel_tool_calls", parallel_tool_calls)
    if tool_choice in (None, AUTO, NONE):
        if parallel_tool_calls is False:
            raise ValueError(
                f"parallel_tool_calls=False needs tool_choice='required' or the name of a tool; "
                f"with tool_choice={tool_choice!r} the model decides how many it calls"
            )
        return None
    names = [each.get("function", each).get("name") for each in tools or ()]
    if not names:
        raise ValueError(f"tool_choice={tool_choice!r} needs tools, and there are none")
    if tool_choice == REQUIRED:
        return names
    if tool_choice not in names:
        raise ValueError(
            f"tool_choice must be 'auto', 'none', 'required' or the name of a tool "
            f"({', '.join(map(str, names))}), got {tool_choice!r}"
        )
    return [str(tool_choice)]


def enforced(
    start: ReplyStart,
    template: str,
    special_id: SpecialId,
    names: Sequence[str],
    parallel_tool_calls: bool | None,
) -> tuple[ReplyStart, str]:
    """Return what is known of a reply that must call a tool, and the grammar that it follows."""
    several = parallel_tool_calls is not False
    checked = replace(start, tools=tuple(_checked(each) for each in start.tools))
    grammar = call_grammar(checked, template, special_id, names=names, several=several)
    return replace(start, is_enforced=True), grammar


def _checked(tool: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tool with a schema of its arguments that can be enforced; ValueError if it cannot
    be."""
    function = dict(tool.get("function", tool))
    schema = copy.deepcopy(arguments_schema(function))
    try:
        check_schema(schema)
    except ValueError as error:
        reason = str(error).removeprefix("json_schema: ")
        raise ValueError(f"the arguments of the tool {function['name']}: {reason}") from None
    close_objects(schema)
    return {**function, "parameters": schema}


def without_choice(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of ``chat()`` for a reply that may be an answer."""
    is_enforced = options.get("tool_choice") not in (None, AUTO, NONE)
    dropped = ("tool_choice", "parallel_tool_calls") if is_enforced else ()
    return {name: value for name, value in options.items() if name not in dropped}


def with_grammar(options: Mapping[str, Any], prompts: Sequence[ChatPrompt]) -> dict[str, Any]:
    """Return the options of a call, with the grammar that its prompts ask for.

    Raises ValueError if they ask for several, or the options have a grammar of their own.
    """
    grammars = {each.grammar for each in prompts}
    if grammars == {None}:
        return dict(options)
    if len(grammars) > 1:
        raise ValueError(
            "tool_choice needs conversations whose prompts end alike: answer these one at a time"
        )
    if options.get(_GRAMMAR) is not None:
        raise ValueError("tool_choice writes the grammar of the reply: leave out grammar")
    return {**options, _GRAMMAR: grammars.pop()}
