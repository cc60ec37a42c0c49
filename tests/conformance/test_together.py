"""Calls that run at once, of threads and of tasks, on one model and on two."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localgen import Completion, LocalModel
from tests.conformance.compare import OPTIONS, Alone, prompt
from tests.conformance.invariants import check_contents, check_idle

N_NEW = 12
GREEDY: dict[str, Any] = {"max_new_tokens": N_NEW, "do_sample": False}
STEM = prompt(2, 40)
PROMPTS = [prompt(row, length) for row, length in enumerate([40, 3, 23, 60, 1])]
PROMPTS += [[*STEM, *prompt(row, 5)] for row in range(3)]
SECONDS = 60  # the end of a test that would hang


def streamed(model: LocalModel, ids: list[int]) -> list[Completion]:
    stream = model.stream(ids, **GREEDY)
    assert "".join(stream) == stream.completion.text
    return [stream.completion]


def iterated(model: LocalModel, ids: list[int]) -> list[Completion]:
    return [row for _, row in model.complete_iter([ids, ids[:3]], **GREEDY)]


def from_prefix(model: LocalModel, ids: list[int]) -> list[Completion]:
    """Needs a slot that stays pinned, and another beside it."""
    with model.prefill(STEM):
        return model.complete([[*STEM, *ids]], **GREEDY)


USES: list[Callable[[LocalModel, list[int]], list[Completion]]] = [
    lambda model, ids: model.complete([ids], **GREEDY),
    lambda model, ids: model.complete([ids, STEM], **GREEDY),
    streamed,
    iterated,
]


def test_threads_get_what_they_get_alone(path: Path, alone: Alone) -> None:
    """Protects calls of all kinds that share passes and slots, and one another's beginnings."""
    with LocalModel.from_pretrained(path, max_sequences=3, **OPTIONS) as model:
        start = threading.Barrier(4)

        def work(number: int) -> list[Completion]:
            start.wait(SECONDS)
            rows = []
            for i, ids in enumerate(PROMPTS):
                rows += USES[(number + i) % len(USES)](model, ids)
            if number == 0:
                rows += from_prefix(model, PROMPTS[1])
            np.testing.assert_allclose(model.score(STEM), expected, atol=1e-2)
            return rows

        expected = alone.scores(STEM)
        with ThreadPoolExecutor(4) as pool:
            found = [future.result(SECONDS) for future in [pool.submit(work, i) for i in range(4)]]
        for rows in found:
            assert len(rows) >= len(PROMPTS)
            for row in rows:
                alone.check_row(row, N_NEW)
        check_idle(model)
        check_contents(model)


def test_tasks_get_what_they_get_alone(path: Path, alone: Alone) -> None:
    """Protects acomplete() and astream() of many tasks, beside a thread that calls as well."""
    with LocalModel.from_pretrained(path, max_sequences=3, **OPTIONS) as model:

        async def read(ids: list[int]) -> str:
            return "".join([piece async for piece in model.astream(ids, **GREEDY)])

        def complete(ids: list[int]) -> list[Completion]:
            return model.complete([ids], **GREEDY)

        async def main() -> tuple[list[list[Completion]], list[str]]:
            whole = [model.acomplete([ids], **GREEDY) for ids in PROMPTS]
            pieces = [read(ids) for ids in PROMPTS[:3]]
            threads = [asyncio.to_thread(complete, ids) for ids in PROMPTS[:2]]
            done: list[Any] = await asyncio.gather(*whole, *threads, *pieces)
            return done[:-3], done[-3:]

        for _ in range(2):  # the thread that drives for tasks ends, and starts again
            rows, texts = asyncio.run(main())
            for (row,) in rows:
                alone.check_row(row, N_NEW)
            for text, ids in zip(texts, PROMPTS, strict=False):
                if alone.n_clear(ids, N_NEW) == len(alone.row(ids, N_NEW).token_ids):
                    assert text == alone.row(ids, N_NEW).text
        check_idle(model)


def test_a_model_loaded_in_a_thread_that_ended(path: Path, alone: Alone) -> None:
    """As a program loads in the background; another such thread generates."""
    with ThreadPoolExecutor(1) as pool:
        model = pool.submit(LocalModel.from_pretrained, path, **OPTIONS).result(SECONDS)
    with model:
        with ThreadPoolExecutor(1) as pool:
            rows = pool.submit(streamed, model, PROMPTS[0]).result(SECONDS)
        alone.check_row(rows[0], N_NEW)


def test_two_models_at_once(path: Path, alone: Alone) -> None:
    """Protects two models of one file from each other, in two threads and turn by turn."""
    with (
        LocalModel.from_pretrained(path, max_sequences=2, **OPTIONS) as first,
        LocalModel.from_pretrained(path, max_sequences=3, **OPTIONS) as second,
    ):
        with ThreadPoolExecutor(2) as pool:
            futures = [
                pool.submit(lambda m: m.complete(PROMPTS, **GREEDY), model)
                for model in (first, second)
            ]
            for future in futures:
                for row in future.result(SECONDS):
                    alone.check_row(row, N_NEW)
        streams = [model.stream(PROMPTS[0], **GREEDY) for model in (first, second, first)]
        for _ in range(N_NEW):
            for stream in streams:
                next(stream, None)
        for stream in streams:
            list(stream)
            alone.check_row(stream.completion, N_NEW)


class Planned(Exception):
    pass


@pytest.mark.parametrize("breaks", ["raises", "makes NaN"])
def test_an_error_of_one_request_does_not_disturb_the_others(
    breaks: str, path: Path, alone: Alone
) -> None:
    """Protects rows beside one whose caller's function fails: streams, and waiting rows."""

    def process(input_ids: Any, scores: Any) -> Any:
        if input_ids.shape[1] < len(PROMPTS[1]) + 3:
            return scores
        if breaks == "raises":
            raise Planned
        return np.full_like(scores, np.nan)

    with LocalModel.from_pretrained(path, max_sequences=3, **OPTIONS) as model:
        streams = [model.stream(ids, **GREEDY) for ids in PROMPTS[2:4]]
        for stream in streams:
            next(stream)
        with pytest.raises(Planned if breaks == "raises" else ValueError):
            model.generate(
                [PROMPTS[1]], logits_processor=process, eos_token_id=[], **GREEDY
            )  # fmt: skip
        for stream in streams:
            list(stream)
            alone.check_row(stream.completion, N_NEW)
        check_idle(model)
        check_contents(model)
