"""Measures the speed of several models at once, with rows of a job; it needs no Ray.

Each model runs in a process of its own, as an actor's does, and all of them at the same time: they
share the cores and the memory bandwidth as the actors of a node do.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from localgen._util.format import counted
from localgen.errors import JobError
from localgen.generation.resolve import new_token_limit
from localgen.jobs.job import ROW_ERRORS
from localgen.jobs.ray.loading import load_for_actor
from localgen.jobs.ray.plan import Arrangement
from localgen.jobs.ray.speed import Speed, Wave, fit
from localgen.jobs.rows import Row
from localgen.model import LocalModel
from localgen.text.replies.reasoning import Reasoning


class Listener(Protocol):
    """Gets to know how far measuring is."""

    def begin_step(self, step: str) -> None:
        """Note what happens before rows are measured."""

    def start(self, n_rows: int) -> None:
        """Note that so many rows are measured from now on."""

    def add(self, worker: str, n_new: int, *, is_failed: bool) -> None:
        """Note that a row has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A speed, and the rows that it was measured with; see ``plan.Work``."""

    speed: Speed
    rows: tuple[tuple[int, int], ...]
    longest: int


def n_rows_to_measure(max_sequences: int) -> int:
    """Return how many rows ``measure`` uses if there are so many."""
    return 4 * max_sequences + _few(max_sequences)


def measure(
    path: Path,
    rows: Sequence[Row],
    found: Arrangement,
    load_options: Mapping[str, Any],
    reasoning: Reasoning | None,
    listener: Listener,
) -> Measured:
    """Load a model ``found.n_actors`` times and run rows in all of them; return the speed of each.

    Raises JobError if no row can be run, and what loading a model raises.
    """
    if not rows:
        raise JobError("there is no row to measure: the input has none that can be run")
    options = {**load_options, "n_threads": found.n_threads}
    with ExitStack() as stack:
        listener.begin_step(f"loading {counted(found.n_actors, 'model')}")
        started = time.perf_counter()
        with ThreadPoolExecutor(found.n_actors) as pool:
            loading = [pool.submit(load_for_actor, path, options) for _ in range(found.n_actors)]
            models = [stack.enter_context(each.result()) for each in loading]
        load = time.perf_counter() - started
        waves = asyncio.run(_waves(models, rows, reasoning, listener))
    (prefill, _), (large, longest), (small, _) = waves
    costs = fit(prefill, large, small)
    speed = Speed(n_actors=found.n_actors, n_threads=found.n_threads, load=load, **costs)
    return Measured(speed=speed, rows=large.rows + small.rows, longest=longest)


async def _waves(
    models: Sequence[LocalModel],
    rows: Sequence[Row],
    reasoning: Reasoning | None,
    listener: Listener,
) -> list[tuple[Wave, int]]:
    """Return the waves of ``fit``, each with the tokens of its longest row."""
    config = models[0].config
    n_slots = 1 if config.deterministic else config.max_sequences
    endless = itertools.cycle(rows)
    makes_contexts, prefill = (
        [_with_one_token(row) for row in itertools.islice(endless, n_slots)] for _ in range(2)
    )
    large = list(itertools.islice(endless, 2 * n_slots))
    small = list(itertools.islice(endless, _few(n_slots)))
    listener.begin_step(f"running {counted(2 * n_slots, 'prompt')} in each model")
    await _wave(models, makes_contexts, reasoning, n_slots, None)
    prompts = await _wave(models, prefill, reasoning, n_slots, None)
    listener.start(len(models) * (len(large) + len(small)))
    texts = [await _wave(models, each, reasoning, n_slots, listener) for each in (large, small)]
    return [prompts, *texts]


def _few(n_slots: int) -> int:
    """Return how many rows run together in the small wave."""
    return max(1, n_slots // 4)


def _with_one_token(row: Row) -> Row:
    config = dataclasses.replace(row.config, max_new_tokens=1, min_new_tokens=None)
    return dataclasses.replace(row, config=config)


async def _wave(
    models: Sequence[LocalModel],
    rows: Sequence[Row],
    reasoning: Reasoning | None,
    n_slots: int,
    listener: Listener | None,
) -> tuple[Wave, int]:
    """Run the rows in each model at the same time; return the mean of their times."""

    async def one(number: int, row: Row) -> tuple[int, int, int] | None:
        done = await _tokens(models[number], row, reasoning)
        if listener is not None:
            n_new = 0 if done is None else done[1]
            listener.add(f"model {number + 1}", n_new, is_failed=done is None)
        return done

    async def run(number: int) -> tuple[float, list[tuple[int, int, int]]]:
        started = time.perf_counter()
        done = await asyncio.gather(*(one(number, row) for row in rows))
        return time.perf_counter() - started, [each for each in done if each is not None]

    ran = await asyncio.gather(*map(run, range(len(models))))
    counts = [each for _, done in ran for each in done]
    if not counts:
        raise JobError("none of the rows of the sample can be run")
    n_each = len(counts) // len(models)
    wave = Wave(
        seconds=sum(seconds for seconds, _ in ran) / len(models),
        rows=tuple((computed, new) for computed, new, _ in counts[:n_each]),
        n_slots=n_slots,
    )
    return wave, max(total for *_, total in counts)


async def _tokens(
    model: LocalModel, row: Row, reasoning: Reasoning | None
) -> tuple[int, int, int] | None:
    """Run a row; return its computed, new and possible tokens; None if it fails."""
    try:
        prompt = row.prompt
        if row.kind == "messages":
            prompt = await model.achat_prompt(row.prompt, **{"reasoning": reasoning, **row.chat})
        (done,) = await model.acomplete([prompt], generation_config=row.config)
    except ROW_ERRORS:
        return None
    n_prompt = done.stats.n_prompt
    most = new_token_limit(row.config, n_prompt, n_prompt, model.config.n_ctx)
    return n_prompt - done.stats.n_cached, done.stats.n_new, n_prompt + most
