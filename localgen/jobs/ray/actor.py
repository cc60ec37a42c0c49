"""One process of a pool: a model, and the rows that it is given, all in one continuous batch."""

from __future__ import annotations

import asyncio
import os
import platform
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from localgen import hub
from localgen.completion import Completion
from localgen.config import GenerationConfig, replace_options
from localgen.errors import JobError, WorkerCrashedError
from localgen.gguf.fingerprint import fingerprint as fingerprint_of
from localgen.jobs.job import ROW_ERRORS, error_record, record_of
from localgen.jobs.ray.columns import Batch, call_of, error_of, result_of, rows_of, with_results
from localgen.jobs.ray.failures import FAILURE, check_lines, failed_batch
from localgen.jobs.ray.folder import MANIFEST, Folder
from localgen.jobs.ray.loading import load_for_actor
from localgen.jobs.ray.parts import PartWriter, read_index
from localgen.jobs.ray.turns import Turns
from localgen.jobs.results import Record
from localgen.jobs.rows import BadLine, Line, Row, read_rows
from localgen.text.replies.reasoning import Reasoning


class ModelOfActor:
    """A model in a process of its own, with the threads of its actor.

    It outlives an abort of llama.cpp: rows in flight run again, and one that ends the process twice
    fails.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        fingerprint: str | None,
        load_options: Mapping[str, Any] | None,
    ) -> None:
        path = hub.resolve(model)
        _check_fingerprint(path, fingerprint)
        options = {"n_threads": _threads(), **(load_options or {})}
        self._model = load_for_actor(path, options)
        config = self._model.config
        self._turns = Turns(1 if config.deterministic else config.max_sequences)

    async def run(
        self, row: Row, reasoning: Reasoning | None = None, *, split_special_tokens: bool = False
    ) -> Completion:
        """Return a row's completion. Raises one of ``ROW_ERRORS`` where the row is to blame."""
        prompt = await self._prompt(row, reasoning, split_special_tokens=split_special_tokens)
        if row.config.max_time is None:
            return await self._complete(prompt, row)
        async with self._turns.one():
            done = await self._complete(prompt, row)
        if done.finish_reason == "time" and not done.token_ids:  # others left it no memory
            async with self._turns.alone():
                done = await self._complete(prompt, row)
        return done

    async def _prompt(
        self, row: Row, reasoning: Reasoning | None, *, split_special_tokens: bool
    ) -> Any:
        if row.kind == "messages":
            chat = {"reasoning": reasoning, **row.chat}
            return await self._model.achat_prompt(row.prompt, **chat)
        if row.kind == "prompt" and split_special_tokens:
            return self._model.tokenizer.encode(row.prompt, split_special_tokens=True)
        return row.prompt

    async def _complete(self, prompt: Any, row: Row) -> Completion:
        while True:
            try:
                (done,) = await self._model.acomplete([prompt], generation_config=row.config)
            except WorkerCrashedError as error:
                if error.is_refused:
                    raise
            else:
                return done


class GenerateActor:
    """Generates for the batches of ``Dataset.map_batches``; rows of all of them run together.

    Give ``map_batches`` ``batch_format="pyarrow"`` if columns of numbers have nulls, which NumPy
    turns into NaN.
    model: as for ``LocalModel.from_pretrained``; the actors of a node share one file, through the
    page cache. load_options: the fields of ``ModelConfig``; ``n_threads`` is the actor's CPUs if
    not given. seed: rows without one of their own get one derived from it and from their id.
    fingerprint: of the model's file, if it must be that one. options: fields of
    ``GenerationConfig``, for rows that do not set them.
    Raises JobError for a model of another fingerprint or with a relative path, which may be another
    file where Ray runs, and what loading a model raises.
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
        if not os.path.isabs(model) and hub.absolute_name(model) != os.fspath(model):
            raise JobError(
                f"{os.fspath(model)} is a relative path, and the actors of Ray may run in another "
                f"folder. Pass os.path.abspath() of it."
            )
        self._defaults = replace_options(GenerationConfig(), options)
        self._seed = seed
        self._model = ModelOfActor(model, fingerprint, load_options)

    async def __call__(self, batch: Batch) -> AsyncIterator[Batch]:
        """Yield the batch with its results, in its order."""
        results = await asyncio.gather(*map(self._result, rows_of(batch)))
        yield with_results(batch, results)

    async def _result(self, given: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return result_of(await self._model.run(call_of(given, self._defaults, self._seed)))
        except ROW_ERRORS as error:
            return error_of(error)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What the actors of a job have in common.

    run: begins the names of this run's parts. seeds: of each file's rows. reasoning: of lines with
    messages that set none. split_special_tokens: of prompts. output, manifest: the folder of
    results, and the manifest that the driver has written there.
    """

    model: str
    fingerprint: str
    load_options: Mapping[str, Any]
    defaults: GenerationConfig
    reasoning: Reasoning | None
    split_special_tokens: bool
    output: str
    manifest: bytes
    run: str
    seeds: tuple[int, ...]


class JobActor:
    """Generates for lines, and writes their records to a part of its own."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._worker = f"{platform.node()}:{os.getpid()}"
        self._error: Exception | None = None
        try:
            self._start()
        except Exception as error:  # Ray makes a text of what a constructor raises
            self._error = error

    def _start(self) -> None:
        work = self._work
        folder = _shared_folder(work)
        self._model = ModelOfActor(work.model, work.fingerprint, work.load_options)
        # What an actor of this run has done that died before Ray knew.
        self._index = read_index(folder, work.run)
        self._parts = PartWriter(folder, f"{work.run}-{uuid.uuid4().hex[:8]}")

    async def __call__(self, batch: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Yield what became of each line, when their records are written; or the error that would
        hit every line."""
        try:
            yield await self._ended(batch)
        except Exception as error:  # Ray keeps neither its type nor its cause
            yield failed_batch(error, self._worker)

    async def _ended(self, batch: dict[str, Any]) -> dict[str, Any]:
        if self._error is not None:
            raise self._error
        lines = [
            Line(int(n), bytes(data)) for n, data in zip(batch["line"], batch["data"], strict=True)
        ]
        check_lines(lines)
        files = list(map(int, batch["file"]))
        ended = await asyncio.gather(*map(self._line, files, lines))
        self._parts.flush()
        return {
            "file": files,
            "line": [line.number for line in lines],
            "n_new": [0 if each is None else _n_new(each) for each in ended],
            "error": [_error(each) for each in ended],
            "worker": [self._worker] * len(lines),
            FAILURE: [""] * len(lines),
        }

    async def _line(self, file: int, line: Line) -> Record | None:
        """Return the record of a line, which is written; None if it was done already."""
        if self._index.hash_of((file, line.number)) is not None:
            return None
        (row,) = read_rows([line], self._work.defaults, self._work.seeds[file], {})
        record = {**await self._record(row), "file": file}
        self._parts.append(record)
        return record

    async def _record(self, row: Row | BadLine) -> Record:
        if isinstance(row, BadLine):
            return error_record(row.line, row.id, row.error)
        try:
            split = self._work.split_special_tokens
            done = await self._model.run(row, self._work.reasoning, split_special_tokens=split)
            return record_of(row, done)
        except ROW_ERRORS as error:
            return error_record(row.line, row.id, error)


def _shared_folder(work: Work) -> Folder:
    """Return the folder of results. Raises JobError if it is not the one that the driver sees."""
    folder = Folder.at(work.output)
    if folder.read(MANIFEST) != work.manifest:
        raise JobError(
            f"the folder {work.output} of this node is not the one of the command: it lacks the "
            f"{MANIFEST} of the job. Choose a folder that all nodes share, or the URI of an object "
            f"store."
        )
    return folder


def _n_new(record: Record) -> int:
    return int(record["stats"]["n_new"]) if "stats" in record else 0


def _error(record: Record | None) -> str:
    """Return why a line failed, "" if it did not: in NumPy's columns null becomes NaN."""
    return "" if record is None or "error" not in record else str(record["error"]["message"])


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
