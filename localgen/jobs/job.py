"""Runs a job's rows, many at a time; it knows neither the terminal nor the output's format."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import BinaryIO, cast

from localgen._util.warn import warnings_about
from localgen.completion import Completion
from localgen.config import GenerationConfig
from localgen.engine.sampling.guided import is_guided
from localgen.errors import (
    ContextFullError,
    DecodeError,
    JobError,
    KvBudgetError,
    LocalgenError,
    TemplateError,
    WorkerCrashedError,
)
from localgen.generation.inputs import ChatPrompt
from localgen.generation.resolve import new_token_limit
from localgen.jobs.interrupts import run_until_interrupt
from localgen.jobs.results import Record, Results
from localgen.jobs.rows import (
    COLUMNS,
    BadLine,
    Line,
    Row,
    columns_of,
    raw_lines,
    read_lines,
    read_rows,
)
from localgen.model import LocalModel
from localgen.text.replies.reasoning import Reasoning

# Errors of a single row. Any other, such as a lost GPU, would hit every row. A Warning is raised
# with ``python -W error``.
ROW_ERRORS = (
    ValueError, TypeError, ContextFullError, DecodeError, KvBudgetError, TemplateError, Warning,
    WorkerCrashedError,
)  # fmt: skip
_STATS = ("n_prompt", "n_cached", "n_new", "ttft", "tokens_per_second", "wall_seconds", "seed")


class Job:
    """The rows of an input and their results.

    reasoning: of lines with messages that set none; see ``LocalModel.chat``. n_rows: lines of the
    input that are not blank. n_done: those that an earlier run has done.
    Raises JobError if a line that was done has changed since.
    """

    def __init__(
        self,
        lines: BinaryIO,
        results: Results,
        defaults: GenerationConfig,
        *,
        split_special_tokens: bool = False,
        reasoning: Reasoning | None = None,
    ) -> None:
        self._lines = lines
        self._results = results
        self._defaults = defaults
        self._split_special_tokens = split_special_tokens
        self._reasoning = reasoning
        self.n_done = len(results.found.done)
        self.n_rows = self._check_lines()

    def run(self, model: LocalModel, report: Callable[[Record], object]) -> None:
        """Run the rows that are not done, and call ``report`` with each record.

        Rows that failed before are retried and reported again. Raises KeyboardInterrupt, or an
        error that would hit every row (LocalgenError, OSError, ValueError for a draft model that
        does not fit); the results so far are kept, and another run resumes from there.
        """
        self._load_draft_model(model)
        self._results.begin()
        try:
            run_until_interrupt(self._run(model, report))
        finally:
            self._results.sync()

    def _load_draft_model(self, model: LocalModel) -> None:
        """Load the draft model before the first row: what is wrong with it would hit every row."""
        name = self._defaults.assistant_model
        if name is not None and self.n_done < self.n_rows:
            ended = threading.Event()
            ended.set()
            model.complete([[0]], assistant_model=name, max_new_tokens=1, cancel=ended)

    def _check_lines(self) -> int:
        """Return how many lines there are. Raises JobError if one that was done has changed."""
        left = dict(self._results.found.done)
        n_rows = 0
        for line in read_lines(self._lines):
            n_rows += 1
            done = left.pop(line.number, None)
            if done is not None and done.line_hash != line.hash:
                raise _other_input(line.number, "has changed")
        if left:
            raise _other_input(min(left), "was removed")
        return n_rows

    def _pending(self) -> Iterator[Row | BadLine]:
        """Yield the lines that are not done, those that failed included."""
        done = self._results.found.done
        lines = (line for line in read_lines(self._lines) if line.number not in done)
        ids = {row.id: number for number, row in done.items()}
        return read_rows(lines, self._defaults, self._results.seed, ids)

    async def _run(self, model: LocalModel, report: Callable[[Record], object]) -> None:
        """Keep so many rows submitted that one is waiting whenever another ends.

        Each row is a call of its own: none waits for the others of a batch, and one that fails
        fails alone.
        """
        limit = _SubmissionLimit(model)
        tasks: set[asyncio.Task[None]] = set()
        again: list[Row] = []
        try:
            for row in self._pending():
                try:
                    if isinstance(row, BadLine):
                        raise row.error
                    prompt = self._prompt(model, row)
                    most = limit.with_row(row.config, len(_token_ids(prompt)))
                except ROW_ERRORS as error:
                    self._write(error_record(row.line, row.id, error), report)
                    await asyncio.sleep(0)  # lets rows that end be written between many bad lines
                    continue
                await _wait(tasks, most)
                generated = self._generate(model, row, prompt, report, again, is_alone=most == 1)
                tasks.add(asyncio.create_task(generated))
            await _wait(tasks, 1)
            for row in again:
                await self._generate(model, row, self._prompt(model, row), report)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _prompt(self, model: LocalModel, row: Row) -> list[int] | ChatPrompt:
        prompt: list[int] | ChatPrompt
        if row.kind == "messages":
            prompt = model.chat_prompt(row.prompt, **{"reasoning": self._reasoning, **row.chat})
        elif row.kind == "prompt_token_ids":
            prompt = list(row.prompt)
        else:
            split = self._split_special_tokens
            prompt = model.tokenizer.encode(row.prompt, split_special_tokens=split)
        if not _token_ids(prompt):
            raise ValueError("the prompt is empty: it has no tokens, and this model adds none")
        return prompt

    async def _generate(
        self,
        model: LocalModel,
        row: Row,
        prompt: list[int] | ChatPrompt,
        report: Callable[[Record], object],
        again: list[Row] | None = None,
        *,
        is_alone: bool = True,
    ) -> None:
        """Generate a row's text and write its record.

        again: gets the row if it is to be tried again when all others are done: its time ran out
        before its first token, though it was not alone, since rows that share KV cells may leave
        none for one that has a slot; or the model's process ended, which another row may have done.
        """
        try:
            with warnings_about(f"line {row.line.number}"):
                (completion,) = await model.acomplete([prompt], generation_config=row.config)
        except ROW_ERRORS as error:
            if again is not None and isinstance(error, WorkerCrashedError):
                again.append(row)
                return
            self._write(error_record(row.line, row.id, error), report)
            return
        if completion.finish_reason == "cancelled":
            # Not by this job, but by an error outside of any row's own work.
            raise LocalgenError(f"line {row.line.number} was cancelled. Run the job again.")
        is_starved = completion.finish_reason == "time" and not completion.token_ids
        if again is not None and is_starved and not is_alone:
            again.append(row)
            return
        self._write(record_of(row, completion), report)

    def _write(self, record: Record, report: Callable[[Record], object]) -> None:
        """Report a record, and write it unless an earlier run wrote the same error."""
        if self._results.found.failed.get(record["line"]) != record:
            self._results.write(record)
        report(record)


class _SubmissionLimit:
    """How many rows may be submitted to a model at once."""

    def __init__(self, model: LocalModel) -> None:
        self._model = model
        self._n_fit = model.config.max_sequences

    def with_row(self, config: GenerationConfig, n_prompt: int) -> int:
        """Return the limit with a further row, whose prompt has ``n_prompt`` tokens.

        It is the number of rows that can run at once if this one has a ``max_time``, whose clock
        runs while it waits, else twice ``max_sequences``. Raises ValueError or ContextFullError if
        the row leaves no room for a new token.
        """
        loaded = self._model.config
        n_tokens = n_prompt + new_token_limit(config, n_prompt, n_prompt, loaded.n_ctx)
        # All slots have one size, which does not shrink while rows run: the longest row counts. A
        # row that fits nowhere gets no slot.
        n_fit = self._model.n_sequences_that_fit(n_tokens) // (2 if is_guided(config) else 1)
        self._n_fit = min(self._n_fit, n_fit or self._n_fit)
        if config.max_time is None:
            return 2 * loaded.max_sequences
        return 1 if loaded.deterministic else max(1, self._n_fit // config.num_beams)


def _token_ids(prompt: list[int] | ChatPrompt) -> list[int]:
    return prompt.token_ids if isinstance(prompt, ChatPrompt) else prompt


async def _wait(tasks: set[asyncio.Task[None]], limit: int) -> None:
    """Wait until fewer than ``limit`` tasks run; raise their errors."""
    while len(tasks) >= limit:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        tasks -= done
        for error in [task.exception() for task in done]:
            if error is not None:
                raise error


def _other_input(number: int, what: str) -> JobError:
    return JobError(
        f"line {number} of the input {what} since its result was written. Restore the line, choose "
        f"another output file, or start over with --overwrite."
    )


# --- records ---


def record_of(row: Row, completion: Completion) -> Record:
    done = asdict(completion)
    record = {
        "id": row.id,
        "line": row.line.number,
        row.kind: row.prompt,
        **{key: done[key] for key in ("text", "token_ids", "finish_reason", "stop_match")},
    }
    for name in ("reasoning", "tool_calls", "logprobs", "score", "is_valid", "parsed"):
        if done[name] is not None and done[name] != ():
            record[name] = done[name]
    if row.columns:
        record[COLUMNS] = row.columns
    record["stats"] = {key: done["stats"][key] for key in _STATS}
    record["line_hash"] = row.line.hash
    return record


def error_record(line: Line, row_id: str | int | None, error: Exception) -> Record:
    """Return the record of a line that failed, with its columns if it can be read."""
    columns = columns_of(line)
    return {
        "id": row_id,
        "line": line.number,
        **({COLUMNS: columns} if columns else {}),
        "error": {"type": type(error).__name__, "message": str(error)},
        "line_hash": line.hash,
    }


# --- the input ---


def check_not_same(source: str, target: str) -> None:
    """Raise ValueError if a job would overwrite its own input; "-" is stdin or stdout."""
    given, taken = _status(source, sys.stdin), _status(target, sys.stdout)
    if given and taken and stat.S_ISREG(given.st_mode) and os.path.samestat(given, taken):
        raise ValueError(f"input and output are the same file: {source!r} and {target!r}")


def _status(path: str, stream: object) -> os.stat_result | None:
    try:
        return os.fstat(stream.fileno()) if path == "-" else os.stat(path)  # type: ignore[attr-defined]
    except (OSError, ValueError, AttributeError):
        return None  # it does not exist yet or is not a file; opening it gives the error


@contextmanager
def open_lines(path: str) -> Iterator[BinaryIO]:
    """Open the input at ``path``, "-" for stdin, as a seekable file: a pipe is copied first.

    Raises OSError, also for a device that gives data, which may never end.
    """
    if path == "-":
        with _seekable(sys.stdin.buffer) as file:
            yield file
        return
    with open(path, "rb") as given, _seekable(given) as file:
        yield file


def _check_ends(file: BinaryIO) -> None:
    mode = os.fstat(file.fileno()).st_mode
    if (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)) and file.read(1):
        raise OSError(errno.EINVAL, "it is a device, not a file", file.name)


@contextmanager
def _seekable(file: BinaryIO) -> Iterator[BinaryIO]:
    if file.seekable():
        _check_ends(file)
        yield file
        return
    with tempfile.TemporaryFile() as copy:
        copy.writelines(raw_lines(file))
        yield cast("BinaryIO", copy)  # a wrapper on Windows
