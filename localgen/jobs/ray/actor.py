"""One process of a pool: a model, and the rows that it is given, all in one continuous batch."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import ray

from localgen import hub
from localgen.config import GenerationConfig, replace_options
from localgen.errors import JobError
from localgen.generation.inputs import ChatPrompt
from localgen.gguf.fingerprint import fingerprint as fingerprint_of
from localgen.jobs.job import ROW_ERRORS
from localgen.jobs.ray.columns import call_of, error_of, result_of, rows_of, with_results
from localgen.jobs.rows import Row
from localgen.model import LocalModel


class GenerateActor:
    """Generates for the batches of ``Dataset.map_batches``; rows of all of them run together.

    model: as for ``LocalModel.from_pretrained``; the actors of a node share one file, through the
    page cache. load_options: the fields of ``ModelConfig``; ``n_threads`` is the
    actor's CPUs if not given. seed: rows without one of their own get one derived from it and from
    their id. fingerprint: of the model's file, if it must be that one. options: fields of
    ``GenerationConfig``, for rows that do not set them.
    Raises JobError for a model of another fingerprint, and what loading a model raises.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        seed: int = 0,
        fingerprint: str | None = None,
        load_options: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self._defaults = replace_options(GenerationConfig(), options)
        self._seed = seed
        path = hub.resolve(model)
        _check_fingerprint(path, fingerprint)
        self._model = LocalModel.from_pretrained(
            path, **{"n_threads": _threads(), **(load_options or {})}
        )

    async def __call__(self, batch: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Yield the batch with its results, in its order."""
        results = await asyncio.gather(*map(self._result, rows_of(batch)))
        yield with_results(batch, results)

    async def _result(self, given: Mapping[str, Any]) -> dict[str, Any]:
        try:
            row = call_of(given, self._defaults, self._seed)
            prompt = await self._prompt(row)
            (done,) = await self._model.acomplete([prompt], generation_config=row.config)
        except ROW_ERRORS as error:
            return error_of(error)
        return result_of(done)

    async def _prompt(self, row: Row) -> str | list[int] | ChatPrompt:
        if row.kind == "messages":
            return await self._model.achat_prompt(row.prompt, **row.chat)
        prompt: str | list[int] = row.prompt
        return prompt


def _check_fingerprint(path: Path, expected: str | None) -> None:
    if expected is not None and (found := fingerprint_of(path)) != expected:
        raise JobError(
            f"{path} on this node is another model: its fingerprint is {found[:16]}, "
            f"and the job's {expected[:16]}. Copy the job's model to every node."
        )


def _threads() -> int | None:
    """Return the whole CPUs that Ray gave this actor; None outside Ray."""
    if not ray.is_initialized():
        return None
    return max(1, int(ray.get_runtime_context().get_assigned_resources().get("CPU", 0)))
