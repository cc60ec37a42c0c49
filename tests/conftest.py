"""Tiny models for every test, and child processes for cases in which C could abort."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from localgen import LocalModel
from models.make_tiny import make_llama_bpe, make_llama_spm

# On a busy machine llama.cpp's threads, which spin while they wait, would take minutes for what
# takes seconds. Read when its library is loaded, here and in child processes.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

ROOT = Path(__file__).resolve().parents[1]
CHILD_SECONDS = 60
# llama_cpp opens this file when it is imported, and never closes it.
LLAMA_CPP_DEV_NULL = "ignore:unclosed file <_io.TextIOWrapper name='/dev/null':ResourceWarning"
# What localgen says of a build whose AMX kernels do not work is for its users.
AMX = "ignore:the AMX kernels of this build:UserWarning"


@dataclass(frozen=True)
class Child:
    """How a child process ended; a negative ``returncode`` is the signal that killed it."""

    returncode: int
    stdout: str
    stderr: str


RunChild = Callable[..., Child]


def _run_child(code: str, *args: object, warnings: str = "error") -> Child:
    done = subprocess.run(
        [
            *(sys.executable, "-W", warnings, "-W", LLAMA_CPP_DEV_NULL, "-W", AMX),
            *("-c", code, *map(str, args)),
        ],
        capture_output=True,
        text=True,
        timeout=CHILD_SECONDS,
        check=False,
        cwd=ROOT,
        env={**os.environ, "GGML_NO_BACKTRACE": "1"},
    )
    return Child(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def run_child() -> RunChild:
    """``run_child(code, *args)`` runs ``python -c code args…`` from the repository's root."""
    return _run_child


@pytest.fixture(scope="session")
def tiny_bpe_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny llama with a byte-level BPE vocabulary, trained (on paper) for 512 tokens."""
    path = tmp_path_factory.mktemp("models") / "tiny-bpe.gguf"
    make_llama_bpe(path)
    return path


@pytest.fixture(scope="session")
def tiny_spm_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny llama with a SentencePiece vocabulary."""
    path = tmp_path_factory.mktemp("models") / "tiny-spm.gguf"
    make_llama_spm(path)
    return path


@pytest.fixture(scope="session")
def tiny(tiny_bpe_path: Path) -> Iterator[LocalModel]:
    """The BPE model with n_ctx 512, on one thread: two would wait for each other on a busy CPU."""
    with LocalModel.from_pretrained(tiny_bpe_path, n_ctx=512, n_threads=1) as model:
        yield model


def ask_at_every_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every forward pass ask whether to stop after each of its graph nodes."""
    monkeypatch.setattr("localgen.llama.context._INTERRUPTIBLE_TOKENS", 1)
    monkeypatch.setattr("localgen.llama.context._SECONDS_BETWEEN_LOOKS", 0)
