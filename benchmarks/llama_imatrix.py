"""Compare `localgen imatrix` with llama-imatrix: sums, counts and time.

python benchmarks/llama_imatrix.py --tools BUILD/bin --model F16.gguf [--chunks N] [--rounds N]

``--tools`` is the folder of llama-imatrix, built from the llama.cpp that is vendored in
llama-cpp-python's source package. It runs with its defaults, and without the perplexity that it
computes beside; localgen runs with each setting of flash attention. All have the same text, chunks
and threads, each in its own process, and take turns.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import Row, argument_parser, progress, report, run_tool, spread, usable_cpus

from localgen.gguf.imatrix_file import read_sums
from localgen.gguf.imatrix_sums import Sums

N_CTX = 512
_BASE = "llama-imatrix"
_NOTE = """\
Whole processes. sums_apart: the largest relative difference of a tensor's sums of squares from
those of llama-imatrix's defaults, |a - b| / |b| as vectors. column_apart: the same for single
columns, at the 99th percentile. ratio: seconds over those of llama-imatrix in the same round."""


def main() -> None:
    """Run every way in turns, and compare files and times."""
    parser = argument_parser(__doc__, rounds=3)
    parser.add_argument("--tools", type=Path, required=True)
    parser.add_argument("--chunks", type=int, default=16, help="of 512 tokens")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = folder / "text.txt"
        topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
        text.write_text("\n".join(topics.values()), encoding="utf-8")
        ways = _ways(options, text, folder)
        seconds: list[dict[str, float]] = []
        for number in range(options.rounds):
            progress(f"round {number + 1} of {options.rounds}")
            order = [*ways] if number % 2 == 0 else [*ways][::-1]
            seconds.append({way: _timed(ways[way]) for way in order})
        rows = [_row(way, _BASE, seconds, folder) for way in ways]
    report("llama_imatrix", rows, options, threads=usable_cpus(), note=_NOTE)


def _ways(options: Any, text: Path, folder: Path) -> dict[str, Callable[[], object]]:
    """Return by name what writes ``folder / NAME.gguf``."""
    tool = [str(options.tools / "llama-imatrix"), "-m", options.model, "-f", str(text)]
    tool += ["-t", str(usable_cpus()), "--chunks", str(options.chunks)]
    own = [sys.executable, "-m", "localgen", "imatrix", options.model, str(text)]
    own += ["--chunks", str(options.chunks), "--n-ctx", str(N_CTX), "--overwrite"]

    def theirs(name: str, *more: str) -> Callable[[], object]:
        return lambda: run_tool([*tool, *more, "-o", str(folder / f"{name}.gguf")])

    def ours(name: str, attention: str) -> Callable[[], object]:
        command = [*own, "--flash-attention", attention, "-o", str(folder / f"{name}.gguf")]
        return lambda: subprocess.run(command, check=True, capture_output=True)

    return {
        _BASE: theirs(_BASE),
        "llama-imatrix --no-ppl": theirs("llama-imatrix --no-ppl", "--no-ppl"),
        "llama-imatrix --no-ppl -fa off": theirs(
            "llama-imatrix --no-ppl -fa off", "--no-ppl", "-fa", "off"
        ),
        "localgen": ours("localgen", "auto"),
        "localgen --flash-attention on": ours("localgen --flash-attention on", "on"),
    }


def _timed(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _row(way: str, base: str, seconds: list[dict[str, float]], folder: Path) -> Row:
    ours, theirs = (read_sums(folder / f"{name}.gguf").sums for name in (way, base))
    apart = [_apart(ours[name], theirs[name]) for name in theirs]
    return {
        "program": way,
        "tensors": len(ours),
        "counts_equal": ours.keys() == theirs.keys()
        and all(np.array_equal(ours[name].counts, theirs[name].counts) for name in theirs),
        "sums_apart": max(whole for whole, _ in apart),
        "column_apart": max(column for _, column in apart),
        **spread("seconds", [each[way] for each in seconds]),
        **spread("ratio", [each[way] / each[base] for each in seconds]),
    }


def _apart(ours: Sums, theirs: Sums) -> tuple[float, float]:
    """Return the relative difference of a tensor's sums, as vectors and by column."""
    a, b = (np.asarray(each.sums, np.float64).ravel() for each in (ours, theirs))
    columns = np.abs(a - b) / np.maximum(np.abs(b), np.finfo(float).tiny)
    return float(np.linalg.norm(a - b) / np.linalg.norm(b)), float(np.quantile(columns, 0.99))


if __name__ == "__main__":
    main()
