"""What the worker sends, and what each message changes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Protocol

from localgen.generation.model_facts import LoadedConfig, Weight
from localgen.worker.calls import RemoteCall, Stage, WireRow
from localgen.worker.pickled_errors import unpickled_error
from localgen.worker.process import WorkerProcess
from localgen.worker.wire import Message

Loops = dict[asyncio.AbstractEventLoop, list[asyncio.Event]]


@dataclass(frozen=True, slots=True, kw_only=True)
class VocabFacts:
    """What a vocabulary says of itself; see ``text.vocab.Vocab``."""

    n_vocab: int
    n_ctx_train: int | None
    bos_token_id: int | None
    eos_token_id: int | None
    pad_token_id: int | None
    unk_token_id: int | None
    adds_space_prefix: bool
    adds_bos: bool
    chat_templates: dict[str, str]
    eog_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a worker tells of the model that it has loaded."""

    config: LoadedConfig
    sampling_defaults: dict[str, Any]
    weights: tuple[Weight, ...]
    vocab: VocabFacts


class Calls(Protocol):
    """The table of calls; see ``supervisor.Supervisor``."""

    def live(self, number: int) -> RemoteCall | None: ...

    def finish(self, call: RemoteCall, outcome: Any = None, error: Any = None) -> None: ...


class WorkerEvents:
    """Handles a worker's messages, in the thread that reads them.

    n_signs: those that came. n_news: those of them that say more than that the worker runs.
    last_pass: the numbers of the calls whose rows are in the forward pass, and whether others are.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self.n_signs = self.n_news = 0
        self.last_pass: tuple[frozenset[int], bool] = (frozenset(), False)
        self._handlers: dict[object, Callable[..., object]] = {
            "step": self._step,
            "begun": self._begun,
            "row": self._row,
            "done": self._done,
            "error": self._error,
            "pass": self._pass,
            "warning": self._warning,
            "log": _log,
            "alive": lambda: None,
            "running": lambda: None,
        }

    def handle(self, message: Message) -> None:
        """Do what a message says."""
        self.n_signs += 1
        self.n_news += message[0] != "running"
        self._handlers[message[0]](*message[1:])

    def until_loaded(
        self, process: WorkerProcess, news: SimpleQueue[Any] | None
    ) -> Facts | BaseException | None:
        """Return the facts of the model, the error of its load, or None if the worker ended."""
        while (message := process.receive()) is not None:
            kind, *rest = message
            if kind == "ready":
                facts: Facts = rest[0]
                return facts
            if kind == "failed":
                return unpickled_error(rest[0])
            if kind == "progress":
                self.n_signs += 1
                if news is not None:
                    news.put(rest[0])
            else:
                self.handle(message)
        return None

    def forget_pass(self) -> None:
        """Note that no pass runs."""
        self.last_pass = (frozenset(), False)

    def wake(self, loops: Loops) -> None:
        """Wake the tasks of each event loop."""
        for loop, events in loops.items():
            with contextlib.suppress(RuntimeError):  # it was closed: nobody waits any more
                loop.call_soon_threadsafe(_set_all, events)

    def _step(self, steps: list[tuple[int, list[WireRow]]]) -> None:
        loops: Loops = {}
        for number, rows in steps:
            call = self._calls.live(number)
            if call is not None:
                call.add(rows)
                if call.keeps_updates:
                    call.wake(loops)
        if loops:
            self.wake(loops)

    def _begun(self, number: int, prompts: tuple[bytes, ...], facts: Any) -> None:
        call = self._calls.live(number)
        if call is not None:
            call.prompts, call.facts, call.stage = prompts, facts, Stage.BEGUN
            self._wake(call)

    def _row(self, number: int, index: int, completion: Any) -> None:
        call = self._calls.live(number)
        if call is not None:
            call.answers.append((index, completion))
            self._wake(call)

    def _done(self, number: int, outcome: Any) -> None:
        call = self._calls.live(number)
        if call is not None:
            self._calls.finish(call, outcome)

    def _error(self, number: int, pickled: bytes) -> None:
        call = self._calls.live(number)
        if call is not None:
            self._calls.finish(call, error=unpickled_error(pickled))

    def _pass(self, numbers: tuple[int, ...], has_others: bool) -> None:
        self.last_pass = frozenset(numbers), has_others

    def _warning(self, number: int | None, text: str, category: type[Warning]) -> None:
        call = None if number is None else self._calls.live(number)
        if call is not None:
            call.warn(text, category)
        else:
            with contextlib.suppress(Warning):  # one that is an error here has nobody to go to
                warnings.warn_explicit(text, category, "localgen's worker process", 0)

    def _wake(self, call: RemoteCall) -> None:
        loops: Loops = {}
        call.wake(loops)
        self.wake(loops)


def _set_all(events: list[asyncio.Event]) -> None:
    for event in events:
        event.set()


def _log(name: str, level: int, text: str) -> None:
    with contextlib.suppress(Exception):  # of a filter that the program has set
        logging.getLogger(name).log(level, "%s", text)
