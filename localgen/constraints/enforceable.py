"""A JSON Schema as given → the one that llguidance compiles; what it cannot enforce is refused."""

from __future__ import annotations

from typing import Any

from localgen.constraints.equivalents import rewrite
from localgen.constraints.narrowing import narrow
from localgen.constraints.numbers import bound_numbers, multiple_of
from localgen.constraints.schema_check import check_schema, close_objects, parts_of, plain


class CheckedGrammar(str):
    """The grammar of a reply with tool calls, whose JSON schemas are checked and narrowed: patterns
    are translated once."""

    __slots__ = ()


def name_of(option: str, value: Any) -> str:
    """Return what the caller gave for an option: a grammar may have been made of a tool_choice."""
    return "tool_choice" if isinstance(value, CheckedGrammar) else option


def enforceable(schema: Any) -> Any:
    """Return a new schema; what satisfies it satisfies ``schema``."""
    made = plain(schema)
    rewrite(made)
    check_schema(made)
    close_objects(made)
    narrow(made)
    return bounded(made)


def bounded(made: Any) -> Any:
    """Bound the numbers of a schema that is checked and narrowed, in place; return it."""
    parts = [part for _, part in parts_of(made) if isinstance(part, dict)]
    has_multiples = any(multiple_of(part) is not None for part in parts)
    for part in parts:
        bound_numbers(part, has_multiples=has_multiples)
    return made
