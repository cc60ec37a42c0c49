"""Compare the speeds that `localgen bench` and llama-bench report for the same file.

python benchmarks/llama_bench.py --tools BUILD/bin --model FILE.gguf

``--tools`` is the folder of llama-bench, built from the llama.cpp that is vendored in
llama-cpp-python's source package. Both alternate, each in its own process, with the same threads
and without flash attention.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from common import Row, argument_parser, progress, report, run_tool, spread, usable_cpus

_PROMPTS, _NEW = "128,512", 128
_REPEATS = 5
_NOTE = """\
Tokens per second, each the median of five repetitions. pp computes a prompt, tg generates.
localgen is the whole of `complete()`, baseline is llama.cpp alone in the same process, both as
`localgen bench` reports them; llama_bench is from llama-bench's own samples. In each round, ratio
is localgen's speed and baseline_ratio the baseline's, divided by llama-bench's. They take turns at
going first."""


def main() -> None:
    """Alternate both and compare their reports."""
    parser = argument_parser(__doc__, rounds=5, new_tokens=_NEW)
    parser.add_argument("--tools", type=Path, required=True)
    parser.add_argument("--prompts", default=_PROMPTS, help="prompt lengths; default: %(default)s")
    options = parser.parse_args()
    rounds: list[dict[str, tuple[float, float, float]]] = []
    for number in range(options.rounds):
        progress(f"round {number + 1} of {options.rounds}")
        tool = options.tools / "llama-bench"
        if number % 2:
            theirs = _theirs(tool, options)
        ours = _ours(options)
        if not number % 2:
            theirs = _theirs(tool, options)
        rounds.append({name: (*ours[name], theirs[name]) for name in ours})
    rows = [_row(name, [found[name] for found in rounds]) for name in rounds[0]]
    report("llama_bench", rows, options, threads=usable_cpus(), note=_NOTE)


def _row(name: str, found: list[tuple[float, float, float]]) -> Row:
    return {
        "test": name,
        **spread("localgen", [ours for ours, _, _ in found]),
        **spread("baseline", [baseline for _, baseline, _ in found]),
        **spread("llama_bench", [theirs for _, _, theirs in found]),
        **spread("ratio", [ours / theirs for ours, _, theirs in found]),
        **spread("baseline_ratio", [baseline / theirs for _, baseline, theirs in found]),
    }


def _ours(options: Any) -> dict[str, tuple[float, float]]:
    """Return by test localgen's speed, and that of the baseline passes beside it."""
    command = [sys.executable, "-m", "localgen", "bench", options.model, "--json"]
    command += ["--prompt-lengths", options.prompts, "--new-tokens", str(options.new_tokens)]
    command += ["--batch-sizes", "1"]
    command += ["--depths", "0", "--rounds", str(_REPEATS), "--flash-attention", "off"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {
        test["name"]: (test["localgen_tps"]["median"], test["llama_cpp_tps"]["median"])
        for test in json.loads(done.stdout)["tests"]
        if not test["n_cached"]
    }


def _theirs(tool: Path, options: Any) -> dict[str, float]:
    command = [str(tool), "-m", options.model, "-p", options.prompts]
    command += ["-n", str(options.new_tokens), "-fa", "0", "-o", "json"]
    command += ["-t", str(usable_cpus()), "-r", str(_REPEATS)]
    said = run_tool(command)
    tests = json.loads(said[said.index("[\n") : said.rindex("]") + 1])
    return {_name(test): statistics.median(test["samples_ts"]) for test in tests}


def _name(test: Row) -> str:
    return f"pp{test['n_prompt']}" if test["n_prompt"] else f"tg{test['n_gen']}"


if __name__ == "__main__":
    main()
