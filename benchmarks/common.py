"""Helpers of the benchmark scripts: medians, the machine, child processes, tables and JSON.

A result is one dict: benchmark, note, command, cpu, n_cpus, threads, versions, date, model,
n_rounds, and rows, a list of flat dicts. Only benchmark, command, cpu, n_cpus, threads, versions,
date and rows are needed for a report.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]

# The sampling of every "chain" case and of every peer, under localgen's and transformers' names.
CHAIN = {
    "temperature": 0.8,
    "top_k": 40,
    "top_p": 0.95,
    "min_p": 0.05,
    "repetition_penalty": 1.1,
}

PASSAGE = """\
The lighthouse stood at the end of a long road that few people took in winter. Its keeper had
learned to read the weather from the colour of the water and the sound of the gulls, and every
evening he wrote what he saw in a heavy book with a green cover. Some pages held only the height of
the tide and the hour of the lamp. Others told of ships that came too close, of a storm that broke
the kitchen window, or of a letter that took three months to arrive from the other side of the bay.
When his daughter visited, she asked why he wrote so much about so little. He answered that a place
which nobody writes about is soon forgotten, and that the sea keeps no diary of its own. She took
the book home that spring, copied it by hand, and sent the copy to a printer in the city, who
thought that perhaps a hundred people would want it. He was wrong by a great deal.
"""
_PACKAGES = ("llama-cpp-python", "numpy", "transformers", "torch")


def n_threads(model: Any) -> int:
    """Return the threads that a LocalModel computes with."""
    threads: int = model._backend.n_threads
    return threads


# --- numbers ---


def spread(name: str, values: Iterable[float]) -> Row:
    """Return the median of ``values`` under ``name``, and their extremes beside it."""
    ordered = sorted(values)
    return {
        name: statistics.median(ordered),
        f"{name}_min": ordered[0],
        f"{name}_max": ordered[-1],
    }


def median(rows: Sequence[Row], key: str) -> float:
    """Return the median of one field over ``rows``."""
    return float(statistics.median(row[key] for row in rows))


# --- the machine ---


def usable_cpus() -> int:
    """Return the number of CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_name() -> str:
    """Return the processor's name as the system reports it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Return the versions of Python and of the installed packages that a result depends on."""
    found = {"python": platform.python_version()}
    try:
        found["localgen"] = importlib.import_module("localgen").__version__
        for package in _PACKAGES:
            found[package] = importlib.metadata.version(package)
    except ImportError:  # PackageNotFoundError is one too: the peers are optional
        pass
    return found


def peak_memory_mb() -> float:
    """Return this process's peak memory in MB (10⁶ bytes), mapped weights included.

    VmHWM is read here where there is one: importing localgen would count for a peer's process.
    """
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.exists() else ():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    from localgen._util.system import peak_memory  # noqa: PLC0415  # for what has no /proc

    return peak_memory() / 1e6


# --- running and reporting ---


def argument_parser(description: str | None, *, rounds: int, new_tokens: int | None = None) -> Any:
    """Return a parser with the options that the scripts share; --new-tokens if it has a default."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="smollm2", help="'smollm2', or the path of a GGUF file")
    parser.add_argument("--rounds", type=int, default=rounds, help="default: %(default)s")
    if new_tokens is not None:
        parser.add_argument(
            "--new-tokens", type=int, default=new_tokens, help="default: %(default)s"
        )
    parser.add_argument("--output", type=Path, help="also write the JSON to this folder")
    # A script starts itself with this, a task as JSON, to measure in a fresh process.
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    return parser


def progress(message: str) -> None:
    """Print a line of progress to stderr."""
    print(message, file=sys.stderr, flush=True)


def run_child(task: Row, environment: Mapping[str, str] | None = None) -> Row:
    """Run this script again in its own process, with ``--child task``.

    environment: the child's; None is this process's. Return the JSON object that it printed last.
    Raises RuntimeError with its stderr if it failed.
    """
    command = [sys.executable, sys.argv[0], "--child", json.dumps(task)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(f"{shlex.join(command)} failed:\n{done.stderr}")
    answer: Row = json.loads(done.stdout.splitlines()[-1])
    return answer


def run_tool(command: Sequence[str]) -> str:
    """Return what one of llama.cpp's tools prints; it uses the shared libraries that localgen uses.

    Raises RuntimeError with its stderr if it failed.
    """
    library = importlib.import_module("localgen.llama.library")
    environment = {**os.environ, "LD_LIBRARY_PATH": str(library.library_folder())}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{done.stderr[-2000:]}")
    return done.stdout + done.stderr


def command_line() -> str:
    """Return the command that runs this script, with files by their names alone."""
    words = [Path(word).name if os.path.isabs(word) else word for word in sys.argv[1:]]
    return shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *words])


def report(
    benchmark: str, rows: list[Row], options: Any, *, threads: int, note: str, **more: Any
) -> None:
    """Print ``rows`` as a table and the result as one line of JSON; write it where --output says.

    options: the parsed options of ``argument_parser``. threads: those that llama.cpp used. note:
    how to read the rows, for RESULTS.md.
    """
    result = {
        "benchmark": benchmark,
        "note": " ".join(note.split()),
        "command": command_line(),
        "cpu": cpu_name(),
        "n_cpus": usable_cpus(),
        "threads": threads,
        "versions": versions(),
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "model": Path(options.model).name,
        "n_rounds": options.rounds,
        **more,
        "rows": rows,
    }
    print("\n".join(aligned(table(rows))))
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        text = json.dumps(result, indent=1, ensure_ascii=False)
        (options.output / f"{benchmark}.json").write_text(f"{text}\n", encoding="utf-8")
    print(json.dumps(result), flush=True)


def table(rows: Sequence[Row]) -> list[list[str]]:
    """Return ``rows`` as cells, the header first; "x_min" and "x_max" go into "x"'s cell."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    columns = [key for key in keys if not _is_extreme(key, keys)]
    return [columns, *([_cell(row, key) for key in columns] for row in rows)]


def aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    """Return lines with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]


def _is_extreme(key: str, keys: Sequence[str]) -> bool:
    return key.endswith(("_min", "_max")) and key[:-4] in keys


def _cell(row: Row, key: str) -> str:
    text = _text(row.get(key))
    if f"{key}_min" in row and f"{key}_max" in row:
        text += f" ({_text(row[f'{key}_min'])} to {_text(row[f'{key}_max'])})"
    return text


def _text(value: object) -> str:
    """Format a value: floats with three or four significant digits."""
    if value is None:
        return ""
    if not isinstance(value, float):
        return str(value)
    size = abs(value)
    return f"{value:.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.3g}"
