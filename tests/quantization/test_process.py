"""The quantizer's process: many tasks in one, a new one after a crash, an end with its parent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from localgen.errors import QuantizeError
from localgen.llama.quantize import Task, quantization_types
from localgen.quantization.process import QuantizerProcess


@pytest.fixture
def process() -> Iterator[QuantizerProcess]:
    with QuantizerProcess() as process:
        yield process


def task(source: Path, target: str, *, dry_run: bool = True) -> str:
    return Task(
        source=str(source),
        target=target,
        ftype=quantization_types()["Q8_0"],
        n_threads=1,
        pure=False,
        allow_requantize=False,
        imatrix=None,
        dry_run=dry_run,
    ).as_json()


def test_a_failed_task_is_told_and_the_next_one_runs(
    process: QuantizerProcess, tiny_bpe_path: Path, tmp_path: Path
) -> None:
    target = tmp_path / "made.gguf"
    planned = process.run("Q8_0", task(tiny_bpe_path, os.devnull), None)
    with pytest.raises(QuantizeError, match="quantizing to Q8_0 failed"):
        process.run("Q8_0", task(tmp_path / "none.gguf", os.devnull), None)
    with pytest.raises(QuantizeError, match=r"ended with code 1 at Q8_0: .*JSONDecodeError"):
        process.run("Q8_0", "no task", None)
    seen: list[tuple[int, int, str]] = []
    made = process.run(
        "Q8_0", task(tiny_bpe_path, str(target), dry_run=False), lambda *each: seen.append(each)
    )
    assert made == planned
    assert target.exists()
    assert [number for number, _, _ in seen] == [*range(1, len(seen) + 1)]
    assert {name for _, _, name in seen} == set(made["types"])


def test_an_error_of_progress_ends_the_process(
    process: QuantizerProcess, tiny_bpe_path: Path
) -> None:
    def fail(*_: object) -> None:
        raise KeyError("progress")

    with pytest.raises(KeyError, match="progress"):
        process.run("Q8_0", task(tiny_bpe_path, os.devnull), fail)
    assert process.run("Q8_0", task(tiny_bpe_path, os.devnull), None)["types"]


def test_a_dry_run_whose_parent_goes_leaves_its_target(tiny_bpe_path: Path, tmp_path: Path) -> None:
    """The target of a dry run is the null device, which root could remove."""
    target = tmp_path / "target"
    target.touch()
    done = subprocess.run(
        [sys.executable, "-m", "localgen.llama.quantize"],
        input=task(tiny_bpe_path, str(target)) + "\n",
        encoding="utf-8",
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1
    assert target.exists()


def test_what_a_task_has_written_so_far(tmp_path: Path) -> None:
    """The process removes that when its parent is gone: one file, or the shards there are."""
    for name in ("a[1]", "a[1]-00001-of-00002.gguf", "a1"):
        (tmp_path / name).touch()
    whole = Task(**json.loads(task(tmp_path, str(tmp_path / "a[1]"), dry_run=False)))
    assert whole.written() == [str(tmp_path / "a[1]")]
    split = replace(whole, keep_split=True)
    assert split.written() == [str(tmp_path / "a[1]-00001-of-00002.gguf")]
    assert not replace(whole, dry_run=True).written()
