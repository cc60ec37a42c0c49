"""The command ``llm`` with its configuration of OpenAI-compatible servers, in a process of its
own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("llm")
pytestmark = pytest.mark.slow

CONFIG = """
- model_id: local
  model_name: {model}
  api_base: {base_url}
- model_id: local-with-tools
  model_name: {model}
  api_base: {base_url}
  supports_schema: true
  supports_tools: true
- model_id: local-responses
  model_name: {model}
  api_base: {base_url}
  responses: true
- model_id: local-completion
  model_name: {model}
  api_base: {base_url}
  completion: true
"""


@pytest.fixture
def user_folder(tmp_path: Path, base_url: str, model: str) -> Path:
    config = CONFIG.format(model=model, base_url=base_url)
    (tmp_path / "extra-openai-models.yaml").write_text(config, "utf-8")
    return tmp_path


def llm(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "llm", *arguments],
        env={"LLM_USER_PATH": str(folder), "PATH": "", "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("model_id", "flags"),
    [("local", []), ("local-responses", ["--no-stream"]), ("local-completion", [])],
)
def test_a_prompt(user_folder: Path, model_id: str, flags: list[str]) -> None:
    options = ["-o", "max_tokens", "12", "-o", "temperature", "0"]
    assert llm(user_folder, "-m", model_id, *options, *flags, "Say hello.").strip()


def test_a_schema(user_folder: Path) -> None:
    text = llm(
        *(user_folder, "-m", "local-with-tools", "--schema", "name, age int"),
        *("-o", "max_tokens", "100", "-o", "temperature", "0", "A dog."),
    )
    assert set(json.loads(text)) == {"name", "age"}
