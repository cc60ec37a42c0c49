"""The fast and the slow layer, tiny models for all tests, and child processes for aborts in C.

A test is slow if it is in one of ``SLOW_FOLDERS``, uses one of ``SLOW_FIXTURES`` (itself or through
another fixture), or is marked ``slow``. Any other test fails when it loads a model or starts a
process.
"""

from __future__ import annotations

import functools
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest

from localgen import LocalModel
from localgen.llama import amx
from localgen.llama.backend import LlamaBackend
from models.make_tiny import make_llama_bpe, make_llama_spm
from tests.children import AMX, CHILD_SECONDS, ROOT, run_python  # noqa: F401

# On a busy machine llama.cpp's threads, which spin while they wait, would take minutes for what
# takes seconds. Read when its library is loaded, here and in child processes.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# No measurement of this user's models changes a test, nor does a test leave any.
os.environ["LOCALGEN_PROFILES"] = ""

# A shell's background job ignores Ctrl-C, and so would every child of these tests.
signal.signal(signal.SIGINT, signal.default_int_handler)

SLOW_FOLDERS = (
    *("benchmark", "cli", "compare", "conformance", "docs", "doctor", "examples", "hostile"),
    *("llama", "models", "platforms", "quantization", "real"),
)
SLOW_FIXTURES = {"fork_child", "hub", "isolated", "run_child", "tiny"}
# "ci" runs the same examples each time and has no limit of time; "long" looks for new ones:
# pytest --hypothesis-profile=long.
_SETTINGS = hypothesis.settings(
    database=None,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large],
)
hypothesis.settings.register_profile("ci", _SETTINGS, derandomize=True, max_examples=100)
hypothesis.settings.register_profile("long", _SETTINGS, max_examples=10_000)
hypothesis.settings.load_profile("ci")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the slow tests, before ``-m`` selects."""
    for item in items:
        if is_slow(item):
            item.add_marker("slow")


def is_slow(item: pytest.Item) -> bool:
    folder = item.path.relative_to(ROOT / "tests").parts[0]
    return folder in SLOW_FOLDERS or not SLOW_FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))


@pytest.fixture(autouse=True)
def _fast_stays_fast(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test of the fast layer fails if it loads a model or starts a process. AMX, which a process
    would try where a machine has it, is taken to work."""

    def refuse(*_: object, **__: object) -> None:
        pytest.fail("this test is slow: mark it with @pytest.mark.slow")

    if request.node.get_closest_marker("slow") is None:
        monkeypatch.setattr(LlamaBackend, "__init__", refuse)
        monkeypatch.setattr(subprocess.Popen, "__init__", refuse)
        monkeypatch.setattr(amx, "_fault", lambda: None)


@dataclass(frozen=True)
class Child:
    """How a child process ended; a negative ``returncode`` is the signal that killed it."""

    returncode: int
    stdout: str
    stderr: str


RunChild = Callable[..., Child]


def _run_child(code: str, *args: object, forks: bool, warnings: str = "error") -> Child:
    done = run_python(code, *map(str, args), forks=forks, warnings=warnings)
    return Child(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def run_child() -> RunChild:
    """``run_child(code, *args)`` runs ``python -c code args…`` from the repository's root."""
    return functools.partial(_run_child, forks=False)


@pytest.fixture(scope="session")
def fork_child() -> RunChild:
    """``run_child`` for code that may abort or exit: localgen is imported before it runs."""
    return functools.partial(_run_child, forks=True)


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
