"""Keeps a worker running: starts it again when it ends, and decides what becomes of its calls.

Four threads do it: one starts the process and reads from it, one writes to it, one reads what it
prints, one looks whether it stalls. The callers' threads only change the table of calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from copy import copy
from functools import partial
from itertools import count
from queue import Empty, SimpleQueue
from typing import Any

from localgen._util.interrupts import DeferredInterrupt
from localgen.config import GenerationConfig
from localgen.errors import CLOSED, BackendError, ClosedError
from localgen.worker.arguments import packed
from localgen.worker.calls import Kind, RemoteCall, Stage
from localgen.worker.config import WorkerConfig
from localgen.worker.crash_messages import crash_error, crash_report, refusal_error
from localgen.worker.events import Facts, WorkerEvents
from localgen.worker.forks import call_in_forks
from localgen.worker.ledger import N_ALLOWED, CrashLedger
from localgen.worker.process import WorkerEnd, WorkerProcess, logger
from localgen.worker.stalls import StallWatch
from localgen.worker.wire import Message

_FIRST_DELAY, _LONGEST_DELAY = 0.1, 30.0
_SECONDS_AFTER_KILL = 2.0


class Supervisor:
    """The worker of one model, and the calls that it runs.

    load: the message that lets a new worker load the model. name: what the log calls the model.
    """

    def __init__(self, load: Message, name: str, config: WorkerConfig) -> None:
        self._load = load
        self._name = name
        self._config = config
        self._lock = threading.RLock()
        self._calls: dict[int, RemoteCall] = {}
        self._numbers = count(1)
        self._ledger = CrashLedger()
        self._defaults: bytes | None = None
        self._process: WorkerProcess | None = None
        self._is_ready = False
        self._is_productive = False
        self._stall: str | None = None
        self._closing = threading.Event()
        self._keeper: threading.Thread | None = None
        # Of the first load.
        self._load_news: SimpleQueue[Any] | None = SimpleQueue()
        self._outbox: SimpleQueue[tuple[WorkerProcess, Message] | RemoteCall | None] = SimpleQueue()
        self._events = WorkerEvents(self)
        self.n_restarts = 0
        self._owner = os.getpid()
        call_in_forks(self.abandon_process)
        self._start_keeper()
        threading.Thread(target=self._write, name="localgen-worker-writer", daemon=True).start()
        self._stalls: StallWatch | None = None
        if config.stall_seconds is not None:
            self._stalls = watch = StallWatch(config.stall_seconds)
            look = partial(self._watch, watch)
            threading.Thread(target=look, name="localgen-worker-watch", daemon=True).start()

    # --- callers ---

    def wait_loaded(self, on_progress: Callable[[float], object] | None) -> Facts:
        """Return the facts of the model once it is loaded; raise the error of the load.

        on_progress: called ten times a second, and may raise to end the load.
        """
        queue = self._load_news
        assert queue is not None
        fraction = 0.0
        try:
            while True:
                with contextlib.suppress(Empty):
                    news = queue.get(timeout=0.1)  # so that Ctrl-C comes through
                    if isinstance(news, Facts):
                        return news
                    if isinstance(news, BaseException):
                        raise news
                    fraction = news
                if on_progress is not None:
                    on_progress(fraction)
        except BaseException:
            self.abandon()
            raise

    def new_number(self) -> int:
        """Return a number for a call."""
        return next(self._numbers)

    def submit(self, call: RemoteCall) -> None:
        """Let the worker run a call, now or when it is running again.

        Raises ClosedError, BackendError in a forked process, and WorkerCrashedError for a call
        that has ended the worker too often.
        """
        self.check_usable()
        with DeferredInterrupt(), self._lock:
            self.check_usable()
            n_ends = self._ledger.count(call.fingerprint)
            if n_ends > N_ALLOWED:
                raise refusal_error(n_ends)
            call.is_on_trial = n_ends > 0
            self._calls[call.number] = call
            self._send_call(call)
            if self._keeper is None:
                self._start_keeper()

    def cancel(self, call: RemoteCall) -> None:
        """Let a call end soon, with what it has."""
        with DeferredInterrupt(), self._lock:
            call.is_cancelled = True
            if call.stage in (Stage.SENT, Stage.BEGUN):
                self._post(("cancel", call.number))

    def abandon_call(self, call: RemoteCall) -> None:
        """Cancel a call whose result nobody wants any more, unless it is over.

        It never waits: Python may collect a dropped stream in a thread that holds a lock which the
        holder of this one waits for.
        """
        if os.getpid() != self._owner:
            return
        with DeferredInterrupt():
            if not self._lock.acquire(blocking=False):
                self._outbox.put(call)
                return
            try:
                self._abandon(call)
            finally:
                self._lock.release()

    def set_defaults(self, config: GenerationConfig) -> None:
        """Let later calls start from these options, after a restart as well.

        Raises TypeError if they cannot be sent.
        """
        payload = packed({"generation_config": config})
        with DeferredInterrupt(), self._lock:
            self._defaults = payload
            self._post(("defaults", payload))

    def check_usable(self) -> None:
        """Raise ClosedError, or BackendError in a forked process."""
        if os.getpid() != self._owner:
            raise BackendError(
                "this process was forked from the one that loaded the model, and cannot use that "
                "one's worker: load the model again in this process"
            )
        if self._closing.is_set():
            raise ClosedError(CLOSED)

    @property
    def is_forked(self) -> bool:
        """Whether this process is a fork of the one that loaded the model."""
        return os.getpid() != self._owner

    @property
    def pid(self) -> int | None:
        """The process id of the worker; None while none runs: another process may get the id of
        one that has ended."""
        process = self._process
        return None if process is None or process.has_ended else process.pid

    def close(self) -> None:
        """End all calls with ClosedError, and the worker; kill it if that takes too long."""
        if self.is_forked or not self._stop(is_graceful=True):
            return
        keeper, process = self._keeper, self._process  # which no more are started after
        if keeper is not None:
            keeper.join(self._config.close_seconds if self._is_ready else 0)
            if keeper.is_alive() and process is not None:
                process.kill()
            keeper.join(_SECONDS_AFTER_KILL)

    def abandon(self) -> None:
        """``close()`` without waiting: at the end of Python, or where nobody holds the model."""
        if not self.is_forked:
            self._stop(is_graceful=False)

    def abandon_process(self) -> None:
        """Let go of the worker, which belongs to the process that this one was forked from."""
        if self._process is not None:
            self._process.abandon()

    def _abandon(self, call: RemoteCall) -> None:
        if self._calls.pop(call.number, None) is not None:
            call.is_cancelled = True
            if call.stage in (Stage.SENT, Stage.BEGUN):
                self._post(("abandon", call.number))
            call.stage = Stage.OVER
            self._send_held()

    # --- sending ---

    def _post(self, message: Message) -> None:
        if self._process is not None and self._is_ready:
            self._outbox.put((self._process, message))

    def _send_call(self, call: RemoteCall) -> None:
        """Send a held call, if the worker runs: of those on trial, one at a time."""
        if not self._is_ready or call.stage is not Stage.HELD:
            return
        # A copy, here and elsewhere: dropped streams may be collected, which changes the table.
        others = list(self._calls.values())
        if call.is_on_trial and any(
            each.is_on_trial and each.stage is not Stage.HELD for each in others
        ):
            return
        call.stage = Stage.SENT
        self._post((call.name, call.number, call.payload))
        if call.is_cancelled:
            self._post(("cancel", call.number))

    def _send_held(self) -> None:
        for call in list(self._calls.values()):
            self._send_call(call)

    def _write(self) -> None:
        while not self._closing.is_set() or not self._outbox.empty():
            item = self._outbox.get()
            if isinstance(item, RemoteCall):
                with self._lock:
                    self._abandon(item)
            elif item is not None:
                process, message = item
                process.send(message)

    def _watch(self, watch: StallWatch) -> None:
        """Kill a worker that stalls; its end is noticed as any other."""
        while not self._closing.wait(watch.look_every):
            with self._lock:
                process, events = self._process, self._events
                if process is None:
                    continue
                computes = bool(self._computed())
                stall = watch.look(process.pid, events.n_signs, events.n_news, computes=computes)
                if stall is not None:
                    self._stall = stall
                    process.kill()

    # --- the keeper's thread ---

    def _start_keeper(self) -> None:
        self._keeper = threading.Thread(target=self._keep, name="localgen-worker", daemon=True)
        self._keeper.start()

    def _keep(self) -> None:
        """Run workers, and let nobody wait if that fails: the next call starts another thread."""
        try:
            self._run_workers()
        except Exception as error:
            self._give_up(error)
            raise

    def _run_workers(self) -> None:
        """Run workers, one after the other, until there is nothing to run them for."""
        n_failed = n_unproductive = 0
        while not self._closing.is_set():
            error = self._load_and_serve()
            if self._closing.is_set():
                return
            if error is None:
                n_failed = 0
                n_unproductive = 0 if self._is_productive else n_unproductive + 1
                n_waits = n_unproductive
            else:
                n_failed += 1
                n_waits = n_failed
                if not self.n_restarts or n_failed >= self._config.n_load_attempts:
                    self._give_up(error)
                    return
            self.n_restarts += 1
            if n_waits:
                delay = min(_FIRST_DELAY * 2 ** (n_waits - 1), _LONGEST_DELAY)
                self._closing.wait(delay)

    def _load_and_serve(self) -> BaseException | None:
        """Run one worker to its end; return the error if it could not load the model."""
        try:
            process = WorkerProcess()
        except (OSError, BackendError) as error:
            return error
        with self._lock:
            self._process, self._stall, self._is_productive = process, None, False
            if self._closing.is_set():
                process.kill()
        loaded = self._load_and_read(process)
        end = process.end(self._config.close_seconds)
        with self._lock:
            was_ready, self._is_ready, self._process = self._is_ready, False, None
        if was_ready:
            if not self._closing.is_set():
                self._on_end(end)
            return None
        if isinstance(loaded, BaseException):
            return loaded
        return BackendError(
            f"the worker process {self._stall or end.reason} while it loaded the model"
        )

    def _load_and_read(self, process: WorkerProcess) -> Facts | BaseException | None:
        """Let a worker load the model, and handle what it sends until it ends.

        Return the facts of the model, the error of its load, or None if it ended before. Without
        this thread every call would wait forever, so a message that cannot be read ends the worker.
        """
        try:
            process.send(self._load)
            loaded = self._events.until_loaded(process, self._load_news)
            if isinstance(loaded, Facts):
                self._serve(process, loaded)
        except Exception as error:
            logger.exception(
                "a message of the worker process of %s cannot be read; it is killed", self._name
            )
            process.kill()
            return BackendError(
                f"the worker process sent what this program cannot read "
                f"({type(error).__name__}: {error}). If localgen has changed on disk since this "
                f"program started, restart the program"
            )
        return loaded

    def _serve(self, process: WorkerProcess, facts: Facts) -> None:
        with self._lock:
            if self._closing.is_set():
                return
            self._is_ready = True
            if self._defaults is not None:
                self._post(("defaults", self._defaults))
            self._send_held()
        self._tell_loader(facts)
        while (message := process.receive()) is not None:
            self._events.handle(message)

    def _give_up(self, error: BaseException) -> None:
        """End the calls that wait: the model cannot be loaded."""
        with self._lock:
            self._keeper = None
            self._end_all(error)
        self._tell_loader(error)

    def _tell_loader(self, loaded: Facts | BaseException) -> None:
        if self._load_news is not None:
            self._load_news.put(loaded)
            self._load_news = None

    def _stop(self, *, is_graceful: bool) -> bool:
        """Let the threads end; False if they already have to."""
        with DeferredInterrupt(), self._lock:
            if self._closing.is_set():
                return False
            process, was_ready = self._process, self._is_ready
            self._closing.set()
            self._end_all(ClosedError(CLOSED))
            if process is not None and was_ready and is_graceful:
                self._outbox.put((process, ("close",)))
            elif process is not None and was_ready:
                process.hang_up()
            elif process is not None:
                process.kill()
            self._outbox.put(None)
            return True

    # --- what becomes of calls ---

    def live(self, number: int) -> RemoteCall | None:
        """Return a call that somebody waits for."""
        return self._calls.get(number)

    def finish(self, call: RemoteCall, outcome: Any = None, error: Any = None) -> None:
        """End a call with its result, or the error that the worker raised."""
        with self._lock:
            self._is_productive = True
            self._ledger.clear(call.fingerprint)
            self._end(call, outcome, error)
            if call.is_on_trial:
                self._send_held()

    def _end(
        self, call: RemoteCall, outcome: Any = None, error: BaseException | None = None
    ) -> None:
        self._calls.pop(call.number, None)
        call.outcome, call.error, call.stage = outcome, error, Stage.OVER
        loops: dict[asyncio.AbstractEventLoop, list[asyncio.Event]] = {}
        call.wake(loops)
        self._events.wake(loops)

    def _end_all(self, error: BaseException) -> None:
        for call in list(self._calls.values()):
            self._end(call, error=copy(error))

    def _computed(self) -> list[RemoteCall]:
        """The calls of the forward pass that the worker said it would run."""
        numbers, has_others = self._events.last_pass
        return [
            call
            for call in list(self._calls.values())
            if call.number in numbers or (has_others and call.kind is Kind.ENGINE)
        ]

    def _on_end(self, end: WorkerEnd) -> None:
        """Decide about each call, now that the worker has ended.

        Those of the forward pass are suspects, and those that were being built beside it. Those of
        the pass, and what has begun to come, end with an error; the others run again.
        """
        how = self._stall or end.reason
        with self._lock:
            computed = self._computed()
            self._events.forget_pass()
            calls = list(self._calls.values())
            suspects = {each for each in calls if each.stage is Stage.SENT} | {*computed}
            for fingerprint in {each.fingerprint for each in suspects}:
                self._ledger.blame(fingerprint)  # of calls that are alike, once
            for call in calls:
                n_ends = self._ledger.count(call.fingerprint) if call in suspects else 0
                if call.has_tokens or call in computed:
                    self._end(
                        call, error=crash_error(f"the worker process {how} during this call", end)
                    )
                elif n_ends > N_ALLOWED:
                    self._end(call, error=refusal_error(n_ends))
                else:
                    call.stage = Stage.HELD
                    call.is_on_trial = call.is_on_trial or n_ends > 0
            held = [call for call in calls if not call.over]
        ended = [call for call in calls if call not in held]
        logger.warning("%s", crash_report(self._name, how, ended, held))
