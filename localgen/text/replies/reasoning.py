"""The ``reasoning`` option: which variables of a chat template set it, and which choices a template
has no variable for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any, Literal

from localgen._util.checks import check_int

Reasoning = Literal["off", "on", "low", "medium", "high"] | int

OFF, ON = "off", "on"
EFFORTS = ("low", "medium", "high")
_EFFORT = "reasoning_effort"
_BUDGET = "thinking_budget"
# Variables of chat templates that turn reasoning off and on.
_SWITCHES: dict[str, tuple[Any, Any]] = {
    "enable_thinking": (False, True),
    "thinking": (False, True),
    _BUDGET: (0, -1),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasoningChoice:
    """What a choice means for a template.

    variables: what the template is given. opposite: what must give another prompt, None if nothing
    needs to. limit: the most tokens of the reasoning, None for any number.
    """

    variables: Mapping[str, Any] = field(default_factory=dict)
    opposite: Mapping[str, Any] | None = None
    limit: int | None = None


def checked_reasoning(value: object) -> Reasoning | None:
    """Return ``value``; raise ValueError unless it is one of ``Reasoning`` or None."""
    if value is None or (isinstance(value, str) and value in (OFF, ON, *EFFORTS)):
        return value  # type: ignore[return-value]
    if isinstance(value, bool) or not isinstance(value, Integral):
        hint = f"; use {ON if value else OFF!r}" if isinstance(value, bool) else ""
        raise ValueError(
            f"reasoning must be 'off', 'on', 'low', 'medium', 'high' or a number of tokens, got "
            f"{value!r}{hint}"
        )
    return check_int("reasoning", value, 0)


def reasoning_choice(
    value: Reasoning | None,
    *,
    reads: Callable[[str], bool],
    has_marks: bool,
    given: Mapping[str, Any] | None,
) -> ReasoningChoice:
    """Return what a choice means for a template.

    reads: whether the template reads a variable. has_marks: whether it is known how the model marks
    its reasoning. given: the caller's own variables.
    Raises ValueError for what the template cannot do.
    """
    if value is None:
        return ReasoningChoice()
    if value in EFFORTS:
        if not reads(_EFFORT):
            raise ValueError(
                f"reasoning={value!r} needs a chat template that reads {_EFFORT}, and this one "
                f"does not: use reasoning='on', reasoning='off' or a number of tokens, such as "
                f"reasoning=512"
            )
        return _checked(ReasoningChoice(variables={_EFFORT: value}), given)
    found = [name for name in _SWITCHES if reads(name)]
    off, on = ({name: _SWITCHES[name][side] for name in found} for side in (0, 1))
    if value == OFF:
        if not found:
            raise ValueError(_no_switch(has_effort=reads(_EFFORT), has_marks=has_marks))
        return _checked(ReasoningChoice(variables=off, opposite=on), given)
    if not has_marks and (isinstance(value, int) or not found):
        raise ValueError(
            f"reasoning={value!r} needs a model that reasons, and this chat template shows no "
            f"reasoning: leave reasoning out or, in Python, name the model's own format with "
            f"reply_format="
        )
    limit = None
    if isinstance(value, int):
        limit = value
        on |= {name: limit for name in found if name == _BUDGET}
    opposite = off if found and off != on else None
    return _checked(ReasoningChoice(variables=on, opposite=opposite, limit=limit), given)


def _no_switch(*, has_effort: bool, has_marks: bool) -> str:
    """Return why a template cannot turn the reasoning off, and what does instead."""
    cannot = "reasoning='off': this chat template has no variable that turns reasoning off"
    if not has_marks:
        return f"{cannot}, and shows no reasoning; leave reasoning out"
    effort = "reasoning='low' makes it short, and " if has_effort else ""
    return f"{cannot}; {effort}reasoning=0 ends it as soon as it begins"


def _checked(choice: ReasoningChoice, given: Mapping[str, Any] | None) -> ReasoningChoice:
    twice = [name for name in choice.variables if name in (given or {})]
    if twice:
        raise ValueError(
            f"reasoning sets {', '.join(twice)}, which template_variables has, too: leave one out"
        )
    return choice
