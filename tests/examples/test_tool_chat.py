"""Functions that the model calls are called; whatever else it writes is its answer."""

from __future__ import annotations

import pytest

from tests.examples.conftest import RunExample

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
