"""Groups of options: a command takes one as one parameter, and typer sees its options."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

Group = TypeVar("Group", bound="OptionGroup")


class OptionGroup:
    """What a command takes for several options; its signature has a parameter for each."""

    @classmethod
    def flags(cls) -> list[inspect.Parameter]:
        """Return the options as the parameters that typer reads."""
        return [*inspect.signature(cls, eval_str=True).parameters.values()]

    @classmethod
    def taken_from(cls: type[Group], values: dict[str, Any]) -> Group:
        """Return the group with its options, which are taken out of ``values``."""
        return cls(**{flag.name: values.pop(flag.name) for flag in cls.flags()})


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Return ``command`` with each group of options replaced by its options, for typer to read."""
    parameters: list[inspect.Parameter] = []
    groups: dict[str, type[OptionGroup]] = {}
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        kind = parameter.annotation
        if isinstance(kind, type) and issubclass(kind, OptionGroup):
            groups[parameter.name] = kind
            parameters += kind.flags()
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(command)
    def run(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group.taken_from(values)
        command(**values)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return run
