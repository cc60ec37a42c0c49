"""The assistant answers, and a second process continues its chat."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.examples.conftest import RunExample

NAME = "offline_assistant.py"


@pytest.mark.slow
@pytest.mark.real
def test_a_chat_continues_in_the_next_process(run_example: RunExample, tmp_path: Path) -> None:
    first = run_example(NAME, "--folder", tmp_path, stdin="My name is Ada.\n")
    assert first.returncode == 0, first.stderr
    saved = json.loads((tmp_path / "messages.json").read_text("utf-8"))
    assert [message["role"] for message in saved] == ["system", "user", "assistant"]
    assert saved[2]["content"] in first.stdout
    second = run_example(NAME, "--folder", tmp_path, stdin="What is the capital of France?\n\n")
    assert second.returncode == 0, second.stderr
    assert "Continuing a chat of 3 messages" in second.stderr
    assert "computed again" not in second.stderr
    saved = json.loads((tmp_path / "messages.json").read_text("utf-8"))
    assert len(saved) == 5
    assert saved[4]["content"]
    assert saved[4]["content"] in second.stdout


@pytest.mark.slow
@pytest.mark.real
def test_a_session_that_cannot_be_used_costs_only_time(
    run_example: RunExample, tmp_path: Path
) -> None:
    messages = [
        {"role": "system", "content": "You answer in one sentence."},
        {"role": "user", "content": "Hello!"},
        {"role": "assistant", "content": "Hello, how can I help?"},
    ]
    (tmp_path / "messages.json").write_text(json.dumps(messages), "utf-8")
    (tmp_path / "kv.session").write_bytes(b"not a session")
    done = run_example(NAME, "--folder", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "computed again" in done.stderr
    assert json.loads((tmp_path / "messages.json").read_text("utf-8")) == messages
