"""Measure decoding on all CPUs while other processes are busy, and on a quiet machine.

    python benchmarks/busy.py
    python benchmarks/busy.py --loops 4 --threads 1 2 4

Two child processes that compute without end run beside localgen, or nothing does. Each way to
choose the number of threads decodes one sequence in a process of its own, in turn:

auto: n_threads=None. fixed-N: n_threads=N. llama.cpp: n_threads of all CPUs with the waiting that
libgomp has by default, in which threads spin at each barrier.

Where localgen sets nothing for libgomp, llama.cpp and the largest fixed-N are the same.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import common
from common import Row

_N_PROMPT, _MOST_NEW = 32, 64
_SHORT_SECONDS = 0.5
_SETTLE_SECONDS = 1.5
# A loop ends by itself, should this script be killed before it can end them.
_LOOP = "import time\nend = time.monotonic() + 900\nwhile time.monotonic() < end: pass"
_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
# What libgomp (libgomp/env.c) spins by default; given explicitly, localgen leaves it as it is.
_DEFAULT_SPINS = "300000"
AUTO, LLAMA = "auto", "llama.cpp"
_NOTE = """\
New tokens per second of one greedy sequence at depth 32 to 96, in a process for each way and round,
after 1.5 seconds to settle. quiet: nothing else runs; busy: endless loops in other processes.
by_best_fixed and by_llama_cpp are the speed divided by that of the fixed number of threads with
the best median, and by that of all CPUs with libgomp's default waiting, in each round. threads:
those of the last call, where its statistics say so."""


@contextmanager
def busy_loops(n_loops: int) -> Iterator[None]:
    """Keep ``n_loops`` processes busy; they are dead afterwards, whatever happened meanwhile."""
    loops: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(n_loops):
            loops.append(subprocess.Popen([sys.executable, "-c", _LOOP]))
        yield
    finally:
        for loop in loops:
            loop.kill()
        for loop in loops:
            loop.wait()


def environment_of(way: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of one way's process: how threads wait is read by libgomp alone."""
    found = {name: value for name, value in environment.items() if name not in _WAITING}
    return {**found, "GOMP_SPINCOUNT": _DEFAULT_SPINS} if way == LLAMA else found


def thread_counts(n_cpus: int) -> list[int]:
    """Return the fixed numbers of threads to measure: all, or on a large machine, six of them."""
    if n_cpus <= 6:
        return list(range(1, n_cpus + 1))
    return sorted({1, n_cpus // 4, n_cpus // 2, n_cpus * 3 // 4, n_cpus - 1, n_cpus})


def n_threads_of(way: str) -> int | None:
    """Return the ``n_threads`` that a way loads a model with."""
    if way == AUTO:
        return None
    return common.usable_cpus() if way == LLAMA else int(way.removeprefix("fixed-"))


def decode(model_name: str, n_threads: int | None, seconds: float) -> Row:
    """Decode in the child for ``seconds``, and return its speed."""
    from floors import text_of  # noqa: PLC0415  (the parent loads no llama.cpp)

    from localgen import LocalModel  # noqa: PLC0415

    with LocalModel.from_pretrained(model_name, n_threads=n_threads) as model:
        prompt = model.tokenizer.encode(text_of(model.tokenizer, _N_PROMPT))
        _decode_for(model, prompt, _SETTLE_SECONDS)
        speed, stats = _decode_for(model, prompt, seconds)
        return {"tokens_per_s": speed, "threads": getattr(stats, "n_threads", None)}


def _decode_for(model: Any, prompt: list[int], seconds: float) -> tuple[float, Any]:
    """Return the tokens per second of calls for ``seconds``, and the last one's statistics.

    The prompt is cached but for its last token: a call of N new tokens is N passes. Calls get
    longer while they are short, so that a slow way still ends in time.
    """
    n_new, n_tokens, started = 2, 0, time.perf_counter()
    elapsed = 0.0
    while elapsed < seconds:
        done = model.complete([prompt], max_new_tokens=n_new, eos_token_id=[], do_sample=False)[0]
        n_tokens += n_new
        before, elapsed = elapsed, time.perf_counter() - started
        if elapsed - before < _SHORT_SECONDS:
            n_new = min(2 * n_new, _MOST_NEW)
    return n_tokens / elapsed, done.stats


def run_child(way: str, options: Any) -> Row:
    """Return what one way measured in its process."""
    task = {
        "model_name": options.model,
        "n_threads": n_threads_of(way),
        "seconds": options.seconds,
    }
    return common.run_child(task, environment_of(way, os.environ))


def rows_of(state: str, ways: list[str], rounds: list[Row]) -> list[Row]:
    """Return a row for each way; a round has each way's measurement under its name."""
    speeds = {way: [found[way]["tokens_per_s"] for found in rounds] for way in ways}
    fixed = [way for way in ways if way.startswith("fixed-")]
    best = max(fixed, key=lambda way: statistics.median(speeds[way]))
    rows = []
    for way in ways:
        row: Row = {"case": f"{state}-{way}", **common.spread("tokens_per_s", speeds[way])}
        for name, other in (("by_best_fixed", best), ("by_llama_cpp", LLAMA)):
            pairs = zip(speeds[way], speeds[other], strict=True)
            row |= common.spread(name, [ours / theirs for ours, theirs in pairs])
        n_threads = rounds[-1][way]["threads"]
        rows.append({**row, "threads": n_threads} if n_threads else row)
    return rows


def measure(options: Any) -> None:
    """Alternate all ways, quiet and busy, and report them."""
    ways = [AUTO, *(f"fixed-{n}" for n in options.threads), LLAMA]
    rounds: dict[str, list[Row]] = {"quiet": [], "busy": []}
    for number in range(options.rounds):
        for state, found in rounds.items():
            common.progress(f"round {number + 1} of {options.rounds}: {state}")
            first = number % len(ways)
            with busy_loops(options.loops if state == "busy" else 0):
                found.append({w: run_child(w, options) for w in ways[first:] + ways[:first]})
    rows = [row for state, found in rounds.items() for row in rows_of(state, ways, found)]
    common.report(
        "busy", rows, options, threads=common.usable_cpus(), note=_NOTE, n_loops=options.loops,
        rounds=rounds,
    )  # fmt: skip


def main() -> None:
    """Measure all ways, or as a child, one."""
    parser = common.argument_parser(__doc__, rounds=3)
    parser.add_argument("--loops", type=int, default=2, help="busy processes; default: %(default)s")
    parser.add_argument(
        "--threads", type=int, nargs="+", default=thread_counts(common.usable_cpus()),
        help="fixed numbers of threads; default: %(default)s",
    )  # fmt: skip
    parser.add_argument(
        "--seconds", type=float, default=3.0, help="decode so long; default: %(default)s"
    )
    options = parser.parse_args()
    if min(options.rounds, options.loops, *options.threads) < 1 or options.seconds <= 0:
        parser.error("--rounds, --loops, --threads and --seconds must be positive")
    if options.child:
        print(json.dumps(decode(**options.child)))
    else:
        measure(options)


if __name__ == "__main__":
    main()
