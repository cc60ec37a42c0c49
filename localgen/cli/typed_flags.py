"""Which flags of the command that runs were typed."""

from __future__ import annotations

from typing import Any

import typer


def typed_flags(context: typer.Context) -> dict[str, str]:
    """Return {parameter: its flag, as it was typed}, flags typed with their defaults included."""
    return {
        parameter.name: _as_typed(parameter, context.params[parameter.name])
        for parameter in context.command.params
        if parameter.name in context.params and _is_typed(parameter.name, context)
    }


def _is_typed(name: str, context: typer.Context) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def _as_typed(parameter: Any, value: Any) -> str:
    names = parameter.secondary_opts if value is False and parameter.secondary_opts else []
    flags = [*names, *parameter.opts]
    return next((flag for flag in flags if flag.startswith("--")), str(flags[0]))
