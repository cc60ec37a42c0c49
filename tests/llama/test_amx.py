"""A build whose AMX kernels crash is detected before a model is loaded with them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from localgen.llama import amx, amx_probe
from localgen.llama.library import library_folder, system_info

SetExitCode = Callable[[int], None]


@pytest.fixture(autouse=True)
def fresh_answer() -> Iterator[None]:
    """No test sees the cached answer of another."""
    amx._fault.cache_clear()
    amx.warn_unless_safe.cache_clear()
    yield
    amx._fault.cache_clear()
    amx.warn_unless_safe.cache_clear()


@pytest.fixture
def amx_build(monkeypatch: pytest.MonkeyPatch) -> SetExitCode:
    """A build with AMX kernels, and what its probe's process exits with."""

    def set_exit_code(code: int) -> None:
        monkeypatch.setattr(amx, "system_info", lambda: "CPU : AVX2 = 1 | AMX_INT8 = 1 |")
        script = f"import os, signal; os.kill(os.getpid(), -{code}) if {code} < 0 else exit({code})"
        run = subprocess.run
        monkeypatch.setattr(
            subprocess,
            "run",
            lambda _, **options: run([sys.executable, "-c", script], **options),
        )

    return set_exit_code


def test_without_amx_nothing_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amx, "system_info", lambda: "CPU : AVX2 = 1 |")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("a process was started"))
    assert amx.is_safe()


def test_a_probe_that_ends_well_is_trusted(amx_build: SetExitCode) -> None:
    amx_build(0)
    assert amx.is_safe()


def test_a_probe_killed_by_a_signal_is_not_trusted_and_the_warning_says_what_to_do(
    amx_build: SetExitCode,
) -> None:
    amx_build(-11)
    assert not amx.is_safe()
    with pytest.warns(UserWarning, match="AMX kernels .*-fno-dse"):
        amx.warn_unless_safe()


def test_a_probe_that_cannot_start_is_not_trusted(
    amx_build: SetExitCode, monkeypatch: pytest.MonkeyPatch
) -> None:
    amx_build(0)

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no such program")

    monkeypatch.setattr(subprocess, "run", refuse)
    assert not amx.is_safe()
    with pytest.warns(UserWarning, match=r"could not be tried \(no such program\), so"):
        amx.warn_unless_safe()


def test_a_frozen_program_is_not_started_again(
    amx_build: SetExitCode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It once ran itself as the probe, which would load the model, and run itself."""
    amx_build(0)
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("a process was started"))
    assert not amx.is_safe()
    with pytest.warns(UserWarning, match="this program is frozen"):
        amx.warn_unless_safe()


def test_the_libraries_that_were_loaded_are_probed(tmp_path: Path) -> None:
    """LLAMA_CPP_LIB_PATH may load others than the package's own, which must not be probed then."""
    other = tmp_path / "lib"
    other.symlink_to(library_folder())
    script = "from localgen.llama.library import library_folder; print(library_folder())"
    said = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "LLAMA_CPP_LIB_PATH": str(other)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == str(other)


def test_the_probe_itself_runs_on_this_build() -> None:
    """It succeeds or is killed by a signal; a positive exit code would be a bug in the probe."""
    probe = subprocess.run(
        [sys.executable, "-I", amx_probe.__file__, str(library_folder())],
        capture_output=True,
        check=False,
    )
    assert probe.returncode <= 0, probe.stderr.decode()
    if "AMX_INT8 = 1" not in system_info():
        assert probe.returncode == 0
