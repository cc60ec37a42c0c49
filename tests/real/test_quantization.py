"""Quantizing SmolLM2: the same bytes as llama.cpp's own, and a kill in the middle."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from localgen import quantize
from tests.conftest import ROOT
from tests.real.conftest import _quantize

pytestmark = pytest.mark.real

QUANTIZE = """
import sys
from localgen import quantize

def begun(index, of, name):
    if index == 5:
        print("begun", flush=True)
        sys.stdin.read()  # until it is killed

quantize(sys.argv[1], "Q8_0", output=sys.argv[2], allow_requantize=True, progress=begun)
"""


def test_it_writes_what_llama_cpp_writes(smollm2_path: Path, tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    ours = quantize(smollm2_path, "F16", output=tmp_path / "ours", allow_requantize=True)
    _quantize(smollm2_path, tmp_path / "theirs.gguf", 1)
    assert ours.path.read_bytes() == (tmp_path / "theirs.gguf").read_bytes()


def test_names_mislead(smollm2_path: Path, tmp_path: Path) -> None:
    """SmolLM2's rows of 576 are no multiple of 256: its Q2_K has five bits a weight."""
    done = quantize(smollm2_path, "Q2_K", output=tmp_path, allow_requantize=True)
    assert done.n_fallback == 180
    assert done.bits_per_weight == pytest.approx(5.14, abs=0.01)


@pytest.mark.parametrize("old", [None, b"the old file"])
def test_a_kill_leaves_the_old_file(smollm2_path: Path, tmp_path: Path, old: Any) -> None:
    """Killed with no chance to clean up: the quantizer notices and ends, and the next run removes
    what is left."""
    target = tmp_path / "SmolLM2-135M-Instruct-Q8_0.gguf"
    if old:
        target.write_bytes(old)
    with subprocess.Popen(
        [sys.executable, "-c", QUANTIZE, str(smollm2_path), str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "begun\n"
        children = psutil.Process(parent.pid).children()
        assert len(children) == 1
        parent.kill()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive
    names = [
        path.name for path in tmp_path.iterdir() if not path.name.startswith(".localgen-work-")
    ]
    assert names == ([target.name] if old else [])
    assert not old or target.read_bytes() == old
    quantize(smollm2_path, "Q8_0", output=tmp_path, allow_requantize=True)
    assert [path.name for path in tmp_path.iterdir()] == [target.name]
