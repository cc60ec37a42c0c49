"""What ``reasoning`` means for the templates of published models, and what it cannot mean."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest

from localgen.text.chat_template import ChatTemplate
from localgen.text.replies.formats import find_format
from localgen.text.replies.reasoning import (
    ReasoningChoice,
    checked_reasoning,
    reasoning_choice,
)

TEMPLATES = Path(__file__).parents[1] / "templates"
OFF: dict[str, Any] = {"enable_thinking": False}
ON: dict[str, Any] = {"enable_thinking": True}


@functools.cache
def template_of(name: str) -> ChatTemplate:
    """The first template whose name begins so."""
    return ChatTemplate(next(TEMPLATES.glob(f"{name}*.jinja")).read_text("utf-8"))


def choice(name: str, value: Any, **given: Any) -> ReasoningChoice:
    template = template_of(name)
    form = find_format(template.source)
    has_marks = form is not None and form.shows_thoughts(template.source)
    return reasoning_choice(value, reads=template.reads, has_marks=has_marks, given=given)


@pytest.mark.parametrize("name", ["Qwen3.5", "GLM", "HuggingFaceTB", "Bielik", "Apertus"])
def test_a_switch_of_the_template(name: str) -> None:
    assert choice(name, "off") == ReasoningChoice(variables=OFF, opposite=ON)
    assert choice(name, "on") == ReasoningChoice(variables=ON, opposite=OFF)
    assert choice(name, 20) == ReasoningChoice(variables=ON, opposite=OFF, limit=20)
    assert choice(name, None) == ReasoningChoice()


def test_a_template_with_two_names_for_the_switch() -> None:
    assert choice("deepseek-ai-DeepSeek-V3", "off").variables == {**OFF, "thinking": False}


def test_a_template_that_is_told_the_limit() -> None:
    assert choice("ByteDance", "on").variables == {"thinking_budget": -1}
    assert choice("ByteDance", 512).variables == {"thinking_budget": 512}
    closed = ReasoningChoice(variables={"thinking_budget": 0}, limit=0)
    assert choice("ByteDance", 0) == closed


def test_a_template_with_efforts() -> None:
    for effort in ("low", "medium", "high"):
        expected = ReasoningChoice(variables={"reasoning_effort": effort})
        assert choice("openai", effort) == expected
    assert choice("openai", "on") == ReasoningChoice()
    assert choice("openai", 20) == ReasoningChoice(limit=20)
    with pytest.raises(ValueError, match="'low' makes it short, and reasoning=0 ends it"):
        choice("openai", "off")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("off", "no variable that turns reasoning off, and shows no reasoning"),
        ("on", "shows no reasoning"),
        (20, "shows no reasoning"),
        ("high", "needs a chat template that reads reasoning_effort"),
    ],
)
def test_a_template_without_reasoning(value: Any, words: str) -> None:
    for name in ("Qwen-Qwen2.5", "Qwen3-Coder", "mistralai"):
        with pytest.raises(ValueError, match=words):
            choice(name, value)


def test_a_variable_that_is_given_twice() -> None:
    with pytest.raises(ValueError, match=r"sets enable_thinking, which template_variables has"):
        choice("GLM", "off", enable_thinking=True)
    assert choice("GLM", "off", clear_thinking=True).variables == OFF


@pytest.mark.parametrize("value", ["off", "on", "low", "medium", "high", 0, 10**6, None])
def test_values(value: Any) -> None:
    assert checked_reasoning(value) == value


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("none", "must be 'off', 'on', 'low', 'medium', 'high' or a number of tokens, got 'none'"),
        (True, "got True; use 'on'"),
        (False, "got False; use 'off'"),
        (1.5, "got 1.5"),
        (["off"], "got"),
        (-1, "at least 0"),
    ],
)
def test_no_values(value: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        checked_reasoning(value)
