"""Calls that the model writes are executed; whatever else it writes is its answer."""

from __future__ import annotations

import pytest

from tests.examples.conftest import RunExample, load_example

NAME = "tool_chat.py"


@pytest.mark.slow
@pytest.mark.real
def test_a_call_is_executed_and_its_result_used(run_example: RunExample) -> None:
    done = run_example(NAME, "What is the weather in Lima?", "--call", "weather")
    assert done.returncode == 0, done.stderr
    call, answer = done.stdout.splitlines()
    assert call == 'weather({"city": "Lima"}) → sunny, 21 °C'
    assert "sunny" in answer


@pytest.mark.slow
@pytest.mark.real
def test_a_model_that_does_not_call(run_example: RunExample) -> None:
    done = run_example(NAME, "Who wrote Hamlet?")
    assert done.returncode == 0, done.stderr
    assert "Shakespeare" in done.stdout


@pytest.mark.parametrize(
    ("text", "call"),
    [
        ('<tool_call>{"name": "weather", "arguments": {"city": "Oslo"}}', {"city": "Oslo"}),
        ('Let me see. <tool_call>\n{"name": "weather", "arguments": {}}\n</tool_call>', {}),
        ("It is sunny.", None),
        ('<tool_call>\n{"name": "weather", "arguments": {"city": ', None),
        ('<tool_call>{"name": "weather", "arguments": "Oslo"}', None),
        ('<tool_call>{"name": "os.remove", "arguments": {"path": "/"}}', None),
        ('<tool_call>{"name": ["weather"], "arguments": {}}', None),
        ("<tool_call>{}", None),
    ],
)
def test_only_valid_calls_are_calls(text: str, call: dict[str, str] | None) -> None:
    expected = None if call is None else ("weather", call)
    assert load_example(NAME).parse_call(text) == expected


def test_a_failing_call_is_told_to_the_model() -> None:
    result = load_example(NAME).execute("weather", {"town": "Lima"})
    assert result.startswith("error: ")
    assert "town" in result
