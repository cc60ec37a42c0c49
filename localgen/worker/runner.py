"""The calls that run in the worker: built in threads, run in one batch, followed step by step."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from functools import partial
from typing import Any

from localgen._util.wanted import Unwanted, check_wanted, wanted_while
from localgen.engine.request import Request
from localgen.generation import results
from localgen.generation.row_stream import RowProgress, RowUpdate, updates_before_error
from localgen.model import LocalModel
from localgen.worker.answers import ANSWERS, ASYNC_ANSWERS, Built, build
from localgen.worker.calls import WireRow
from localgen.worker.pickled_errors import pickled_error
from localgen.worker.wire import Receiver, Sender

# Those that wait for a constraint to be compiled hold up none of the others.
_N_BUILDERS = 64
_SECONDS_BETWEEN_SIGNS = 1.0
# What nobody reads as it comes is kept in case this process ends; the work after each step would
# take two percent of the time of a small model's.
_SECONDS_BETWEEN_COPIES = 0.1


@contextlib.contextmanager
def _or_end_process() -> Iterator[None]:
    """End the process if the block raises, where memory for a thread is missing for example: the
    call whose news would be lost would wait forever; it then gets an error."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(BaseException):
            traceback.print_exc()
        os._exit(1)


class _Running:
    """A call that generates, and what of it is still to be sent."""

    __slots__ = ("_due_at", "_sender", "built", "number", "request", "rows")

    def __init__(self, number: int, built: Built, sender: Sender) -> None:
        self.number = number
        self.built = built
        self.request = built.call.request
        pairs = zip(built.call.sequences, built.parsers, strict=True)
        self.rows = [RowProgress(i, *pair) for i, pair in enumerate(pairs)]
        self._sender = sender
        self._due_at = 0.0

    def is_due(self, now: float) -> bool:
        """Whether what is new should be sent."""
        if self.request.done:
            return True
        if now < self._due_at and not self.built.is_eager:
            return False
        return any(row.has_more for row in self.rows)

    def news(self) -> list[WireRow]:
        """Return what is new."""
        self._due_at = time.monotonic() + _SECONDS_BETWEEN_COPIES
        if self.request.done:
            _ = self.built.call.sequences  # of beams: filled when it is asked for
        if self.request.error is not None:
            return list(map(_wire, updates_before_error(self.rows)))
        updates = [row.update() for row in self.rows]
        return [_wire(update) for update in updates if update is not None]

    @_or_end_process()
    def send_row(self, index: int) -> None:
        """Send the completion of a row that has finished."""
        done = results.completion(self.built.call, index)
        self._sender.send(("row", self.number, index, done))

    @_or_end_process()
    def send_end(self) -> None:
        """Send the result of the call, or its error."""
        error = self.request.error
        try:
            if error is None:
                self._sender.send(("done", self.number, self.built.outcome()))
                return
        except Exception as problem:
            error = problem
        error.partial = self.built.partial()  # type: ignore[attr-defined]
        self._sender.send(("error", self.number, pickled_error(error)))


class CallRunner:
    """Runs the program's calls with a model."""

    def __init__(
        self, model: LocalModel, sender: Sender, call_number: ContextVar[int | None]
    ) -> None:
        """call_number: set in the threads that build calls, for their warnings."""
        self._model = model
        self._sender = sender
        self._call_number = call_number
        self._builders = ThreadPoolExecutor(_N_BUILDERS, "localgen-build")
        # One, so that a call's rows are sent in order, and before its end.
        self._finisher = ThreadPoolExecutor(1, "localgen-finish")
        self._building: dict[int, bool] = {}
        self._abandoned: set[int] = set()  # of those that are being built
        self._running: dict[int, _Running] = {}
        self._number_of: dict[Request, int] = {}
        self._asked: dict[int, Future[Any]] = {}
        self._lock = threading.Lock()
        self._last_pass: tuple[tuple[int, ...], bool] = ((), False)
        self._sent_at = 0.0
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="localgen-ask", daemon=True).start()
        self._sending = threading.Lock()
        model._driver.announce_passes(self._on_pass)
        model._driver.watch(self._look)

    @_or_end_process()
    def serve(self, receiver: Receiver) -> None:
        """Run calls until the program hangs up or closes the model."""
        while (message := receiver.receive()) is not None:
            name, *rest = message
            if name == "cancel":
                self._cancel(*rest)
            elif name == "abandon":
                self._cancel(*rest, is_abandoned=True)
            elif name == "defaults":
                self._model.generation_config = pickle.loads(rest[0])["generation_config"]
            elif name == "close":
                self._model.close()
                return
            elif name in ASYNC_ANSWERS:
                self._ask(name, *rest)
            else:
                self._building[rest[0]] = False
                self._builders.submit(self._run, name, *rest)

    # --- from the program ---

    @_or_end_process()
    def _run(self, name: object, number: int, payload: bytes) -> None:
        self._call_number.set(number)
        try:
            with wanted_while(lambda: number not in self._abandoned):
                check_wanted()
                self._build(name, number, pickle.loads(payload))
        except Unwanted:
            pass
        except BaseException as error:
            self._sender.send(("error", number, pickled_error(error)))
        finally:
            with self._lock:
                self._building.pop(number, None)
                self._abandoned.discard(number)

    def _build(self, name: object, number: int, arguments: dict[str, Any]) -> None:
        if name in ANSWERS:
            self._sender.send(("done", number, ANSWERS[name](self._model, **arguments)))
        else:
            self._start(number, build(self._model, name, arguments))

    def _start(self, number: int, built: Built) -> None:
        running = _Running(number, built, self._sender)
        same: dict[bytes, bytes] = {}  # equal prompts are pickled once
        prompts = (each.prompt_ids.tobytes() for each in built.call.sequences)
        shared = tuple(same.setdefault(each, each) for each in prompts)
        self._sender.send(("begun", number, shared, built.facts))
        with self._lock:
            self._running[number] = running
            self._number_of[running.request] = number
            if self._building.pop(number, False):
                running.request.is_cancelled = True
        self._model._async_driver.start(running.request)

    def _cancel(self, number: int, *, is_abandoned: bool = False) -> None:
        """Let a call end with what it has; one that nobody waits for need not be built."""
        with self._lock:
            if number in self._building:
                self._building[number] = True
                if is_abandoned:
                    self._abandoned.add(number)
            elif number in self._running:
                self._running[number].request.is_cancelled = True
            elif number in self._asked:
                self._asked[number].cancel()

    def _ask(self, name: str, number: int, payload: bytes) -> None:
        coroutine = self._answer(name, number, payload)
        asked = self._asked[number] = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        asked.add_done_callback(lambda _: self._asked.pop(number, None))

    async def _answer(self, name: str, number: int, payload: bytes) -> None:
        self._call_number.set(number)
        try:
            outcome = await getattr(self._model, name)(**pickle.loads(payload))
            self._sender.send(("done", number, outcome))
        except Exception as error:
            with _or_end_process():
                self._sender.send(("error", number, pickled_error(error)))

    # --- after each step, in the thread that drives ---

    @_or_end_process()
    def _look(self) -> None:
        """Send what is new, unless another thread does, which then looks again."""
        while self._running:
            now = time.monotonic()
            due = [each for each in list(self._running.values()) if each.is_due(now)]
            if not due:
                return
            if not self._sending.acquire(blocking=False):
                return
            try:
                self._send_news(due)
            finally:
                self._sending.release()

    def _send_news(self, due: list[_Running]) -> None:
        steps = []
        finished: list[Callable[[], None]] = []
        for running in due:
            if running.number not in self._running:
                continue  # another thread has sent its end
            is_over = running.request.done
            if rows := running.news():
                steps.append((running.number, rows))
                if running.built.sends_each:
                    finished += [partial(running.send_row, row[0]) for row in rows if row[-1]]
            if is_over:
                finished.append(running.send_end)
                with self._lock:
                    del self._running[running.number]
                    del self._number_of[running.request]
        if steps:
            self._sender.send(("step", steps))
            self._sent_at = time.monotonic()
        for each in finished:
            self._finisher.submit(each)

    @_or_end_process()
    def _on_pass(self, requests: Collection[Request]) -> None:
        known = [self._number_of[each] for each in requests if each in self._number_of]
        found = tuple(sorted(known)), len(known) < len(requests)
        now = time.monotonic()
        if found != self._last_pass:
            self._last_pass = found
            self._sender.send(("pass", *found))
        elif now - self._sent_at > _SECONDS_BETWEEN_SIGNS:
            self._sender.send(("alive",))
        else:
            return
        self._sent_at = now


def _wire(update: RowUpdate) -> WireRow:
    deltas = update.deltas
    is_plain = len(deltas) == 1 and deltas[0].kind == "text"
    logprobs = tuple((each.token_id, each.logprob, each.top) for each in update.logprobs)
    return (
        update.row,
        deltas[0].text if is_plain else deltas,
        update.token_ids,
        logprobs,
        update.finish_reason,
    )
