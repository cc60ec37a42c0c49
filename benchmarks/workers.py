"""Compare one process with all threads to several processes with a part of them each.

    python benchmarks/workers.py

All have the same rows in all. A case is the work of a row: short prompts and long texts, long
prompts and short texts, or both kinds in turns. The time begins when every model is loaded.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

import common
from common import Row

from localgen import GenerationConfig, LocalModel

_NOTE = """\
Rows per second of one process with all threads, and the same rows shared by processes with a part
of the threads each, in turns. ratio: several processes / one; above 1, several are faster."""
# Tokens of the prompt, and new ones.
CASES: dict[str, list[tuple[int, int]]] = {
    "long texts": [(16, 48)],
    "long prompts": [(384, 4)],
    "mixed": [(16, 48), (384, 4)],
}


def rows_of(case: str, n_rows: int, turn: int) -> list[tuple[list[int], int]]:
    """Return prompts and their numbers of new tokens.

    The prompts of all rows and turns differ from their first token on, so none is cached.
    """
    kinds = CASES[case]
    found = []
    for i in range(n_rows):
        n_prompt, n_new = kinds[i % len(kinds)]
        found.append(([100 + turn * n_rows + i, *range(200, 200 + n_prompt - 1)], n_new))
    return found


def child(task: Row) -> None:
    """Load a model; at each line of stdin run a part of a case, and print when it is done."""
    given: dict[str, Any] = {"device": "cpu", "use_profile": False, "n_threads": task["n_threads"]}
    with LocalModel.from_pretrained(task["model"], **given) as model:
        model.complete([[1, 2, 3]], max_new_tokens=2)
        print("ready", flush=True)
        for line in sys.stdin:
            case, turn = json.loads(line)
            rows = rows_of(case, task["n_rows"], turn)[task["number"] :: task["n_processes"]]
            configs = [GenerationConfig(max_new_tokens=n, min_new_tokens=n) for _, n in rows]
            model.complete([prompt for prompt, _ in rows], generation_config=configs)
            print("done", flush=True)


class Processes:
    """Processes with a model each, which share a case's rows."""

    def __init__(self, n: int, options: Any) -> None:
        n_threads = common.usable_cpus() // n
        self._children = []
        for number in range(n):
            task = {"model": options.model, "n_threads": n_threads, "n_rows": options.n_rows,
                    "number": number, "n_processes": n}  # fmt: skip
            command = [sys.executable, sys.argv[0], "--child", json.dumps(task)]
            pipe = subprocess.PIPE
            self._children.append(
                subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1)
            )
        self._wait("ready")

    def seconds(self, case: str, turn: int) -> float:
        """Return how long all take together."""
        started = time.perf_counter()
        for each in self._children:
            assert each.stdin is not None
            each.stdin.write(json.dumps([case, turn]) + "\n")
        self._wait("done")
        return time.perf_counter() - started

    def close(self) -> None:
        """End them."""
        for each in self._children:
            each.communicate()

    def _wait(self, word: str) -> None:
        for each in self._children:
            assert each.stdout is not None
            if each.stdout.readline().strip() != word:
                raise RuntimeError("a process of a model has ended")


def measure(case: str, one: Processes, several: Processes, options: Any) -> Row:
    """Return the speeds of one case."""
    rates: dict[Processes, list[float]] = {one: [], several: []}
    for number in range(options.rounds):
        for each in (one, several) if number % 2 else (several, one):
            rates[each].append(options.n_rows / each.seconds(case, number))
    ratios = [b / a for a, b in zip(rates[one], rates[several], strict=True)]
    return {
        "case": case,
        **common.spread("one_rows_per_second", rates[one]),
        **common.spread("several_rows_per_second", rates[several]),
        **common.spread("ratio", ratios),
    }


def main() -> None:
    """Read the arguments, measure, print and write."""
    parser = common.argument_parser(__doc__, rounds=5)
    parser.add_argument("--n-rows", type=int, default=64, help="default: %(default)s")
    parser.add_argument("--processes", type=int, default=2, help="default: %(default)s")
    options = parser.parse_args()
    if options.child:
        child(options.child)
        return
    one, several = Processes(1, options), Processes(options.processes, options)
    rows = []
    for case in CASES:
        common.progress(case)
        rows.append(measure(case, one, several, options))
    one.close()
    several.close()
    common.report(
        "workers", rows, options, threads=common.usable_cpus(), note=_NOTE,
        n_processes=options.processes,
    )  # fmt: skip


if __name__ == "__main__":
    main()
