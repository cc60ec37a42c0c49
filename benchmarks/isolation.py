"""Measure what a process of its own costs a model: the same calls with isolated=True and without.

    python benchmarks/isolation.py
    python benchmarks/isolation.py --only complete-1 --rounds 30

Both models are loaded, and take turns; the one that does nothing sleeps. A case is the way to call
and the rows of its batch. Each round measures each model once, in an order that changes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import common
from common import Row

from localgen import LocalModel

_N_PROMPT = 32
_NOTE = """\
Seconds per token of a greedy call with isolated=True, divided by those of the same call in this
process, in each round: 1.02 is two percent more. ms_per_token: in this process. call_ms: what a
call of one token takes more, in milliseconds."""

Run = Callable[[LocalModel, list[list[int]], int], None]


def complete(model: LocalModel, prompts: list[list[int]], n_new: int) -> None:
    """Wait for all rows."""
    model.complete(prompts, max_new_tokens=n_new, min_new_tokens=n_new, do_sample=False)


def stream(model: LocalModel, prompts: list[list[int]], n_new: int) -> None:
    """Read the pieces of one row."""
    for _ in model.stream(prompts[0], max_new_tokens=n_new, min_new_tokens=n_new, do_sample=False):
        pass


def tasks(model: LocalModel, prompts: list[list[int]], n_new: int) -> None:
    """Read each row's updates in an asyncio task of its own, as a server does."""

    async def follow(prompt: list[int]) -> None:
        rows = model.astream_rows(
            [prompt], max_new_tokens=n_new, min_new_tokens=n_new, do_sample=False
        )
        async with aclosing(rows):
            async for _ in rows:
                pass

    async def all_rows() -> None:
        await asyncio.gather(*map(follow, prompts))

    asyncio.run(all_rows())


CASES: dict[str, tuple[Run, int]] = {
    "complete-1": (complete, 1),
    "complete-8": (complete, 8),
    "stream-1": (stream, 1),
    "tasks-1": (tasks, 1),
    "tasks-8": (tasks, 8),
}


def prompts_of(n_rows: int) -> list[list[int]]:
    """Return prompts that differ from their first token on."""
    return [[100 + row, *range(200, 200 + _N_PROMPT - 1)] for row in range(n_rows)]


def seconds(run: Run, model: LocalModel, n_rows: int, n_new: int) -> float:
    """Return what one call takes; prompts are cached by an earlier one."""
    started = time.perf_counter()
    run(model, prompts_of(n_rows), n_new)
    return time.perf_counter() - started


def measure(case: str, models: tuple[LocalModel, LocalModel], rounds: int, n_new: int) -> Row:
    """Return the ratios of one case; ``models``: in this process, and isolated."""
    run, n_rows = CASES[case]
    for model in models:
        seconds(run, model, n_rows, n_new)
    ratios, plain, extra = [], [], []
    for number in range(rounds):
        order = models if number % 2 else models[::-1]
        took = {id(model): seconds(run, model, n_rows, n_new) for model in order}
        short = {id(model): seconds(run, model, n_rows, 1) for model in order}
        here, there = map(id, models)
        ratios.append(took[there] / took[here])
        plain.append(took[here] / n_new * 1000)
        extra.append((short[there] - short[here]) * 1000)
    return {
        "case": case,
        **common.spread("ratio", ratios),
        "ms_per_token": common.spread("ms", plain)["ms"],
        "call_ms": common.spread("ms", extra)["ms"],
    }


def main() -> None:
    """Read the arguments, measure, print and write."""
    parser = common.argument_parser(__doc__, rounds=15, new_tokens=64)
    parser.add_argument("--only", choices=CASES, help="one case alone")
    options = parser.parse_args()
    given: dict[str, Any] = {"device": "cpu", "n_ctx": 512, "max_sequences": 8}
    # A number that adapts would change with what the other model does.
    given |= {"use_profile": False, "n_threads": common.usable_cpus()}
    with (
        LocalModel.from_pretrained(options.model, **given) as here,
        LocalModel.from_pretrained(options.model, isolated=True, **given) as there,
    ):
        rows = []
        for case in [options.only] if options.only else CASES:
            common.progress(case)
            rows.append(measure(case, (here, there), options.rounds, options.new_tokens))
        threads = common.n_threads(here)
    common.report("isolation", rows, options, threads=threads, note=_NOTE)


if __name__ == "__main__":
    main()
