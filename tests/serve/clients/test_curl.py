"""The commands in the guide work as they stand there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import Any

import pytest

from tests.children import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl"),
]

GUIDE = (ROOT / "docs" / "serve.md").read_text("utf-8")
# A command may go on in the next line.
COMMANDS = re.findall(r"^curl (?:.*\\\n)*.*$", GUIDE, re.MULTILINE)
OWN = "http://127.0.0.1:8080"


def answer_of(command: str, origin: str) -> str:
    assert OWN in command
    done = subprocess.run(
        ["bash", "-c", command.replace(OWN, origin).replace("curl ", "curl -sS ", 1)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def checked(text: str) -> Any:
    """Return an answer, or the events of one; none of them is an error."""
    if not text.startswith(("event: ", "data: ")):
        return json.loads(text)
    lines = [line for line in text.splitlines() if line.startswith("data: {")]
    return [json.loads(line.removeprefix("data: ")) for line in lines]


@pytest.mark.parametrize("command", COMMANDS, ids=range(len(COMMANDS)))
def test_a_command_of_the_guide_gets_an_answer(command: str, origin: str) -> None:
    answer = checked(answer_of(command, origin))
    assert answer
    for each in answer if isinstance(answer, list) else [answer]:
        assert each.get("error") is None
        assert each.get("type") != "response.failed"
