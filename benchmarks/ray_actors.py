"""Parts of jobs for ray_jobs.py: actors without a model or with one that dies, lines in order."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Iterator
from typing import Any
from unittest import mock

from localgen.completion import Completion, Stats
from localgen.jobs.ray.actor import JobActor, ModelOfActor, Work
from localgen.jobs.ray.source import pending_lines

POISON = 13
N_NEW = 20
_STATS = dict.fromkeys(field.name for field in dataclasses.fields(Stats))


class StubModel:
    """Answers with 20 tokens as soon as the other rows have been looked at."""

    def __init__(self, *_: Any) -> None:
        pass

    async def run(self, row: Any, reasoning: Any = None, **_: Any) -> Completion:
        await asyncio.sleep(0)
        stats = Stats(**{**_STATS, "n_prompt": 8, "n_new": N_NEW})  # type: ignore[arg-type]
        return Completion(
            text="word " * N_NEW,
            token_ids=list(range(N_NEW)),
            prompt_token_ids=[],
            finish_reason="length",
            stop_match=None,
            logprobs=None,
            stats=stats,
        )


class PoisonedModel(ModelOfActor):
    """Its process aborts at prompts with the token ``POISON``."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        complete = self._model.acomplete

        def poisoned(prompts: Any, **options: Any) -> Any:
            return complete(prompts, logits_processor=_abort_at_poison, **options)

        self._model.acomplete = poisoned  # type: ignore[method-assign]


class StubActor(JobActor):
    """A job's actor, all of which is real but the model."""

    def __init__(self, work: Work) -> None:
        with mock.patch("localgen.jobs.ray.actor.ModelOfActor", StubModel):
            super().__init__(work)


class PoisonedActor(JobActor):
    """A job's actor with a model that some prompts kill."""

    def __init__(self, work: Work) -> None:
        with mock.patch("localgen.jobs.ray.actor.ModelOfActor", PoisonedModel):
            super().__init__(work)


def lines_in_order(*given: Any) -> Iterator[Any]:
    """Yield what ``pending_lines`` does, without putting any rows together."""
    with mock.patch("localgen.jobs.ray.source._WINDOW_ROWS", 1):
        yield from pending_lines(*given)


def _abort_at_poison(token_ids: Any, logits: Any) -> Any:
    if POISON in token_ids:
        os.abort()
    return logits
