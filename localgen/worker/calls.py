"""A call of an isolated model, as the program sees it: what has come of it, and who waits."""

from __future__ import annotations

import asyncio
import enum
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from localgen._util.warn import warn
from localgen.completion import TokenLogprob
from localgen.engine.sequence import FinishReason
from localgen.generation.row_stream import RowUpdate
from localgen.text.replies.results import ReplyBuilder, ReplyDelta

# Nothing wakes a waiting thread when an event is set, nor on Windows when Ctrl-C comes.
_SECONDS_BETWEEN_LOOKS = 0.05
_WAKES_FOR_INTERRUPTS = sys.platform == "win32"

# What the log calls the calls that are made in this context: a server sets the id of its request.
call_label: ContextVar[str | None] = ContextVar("call_label", default=None)

# (row, deltas or the text of the only one, token ids, (token id, logprob, top) of each, reason)
WireRow = tuple[
    int,
    str | tuple[ReplyDelta, ...],
    tuple[int, ...],
    tuple[tuple[int, float, tuple[tuple[int, float], ...]], ...],
    FinishReason | None,
]


class Stage(enum.Enum):
    """How far a call has come.

    HELD: not sent to the worker. SENT: sent. BEGUN: the worker has built it, and will run it.
    """

    HELD = enum.auto()
    SENT = enum.auto()
    BEGUN = enum.auto()
    OVER = enum.auto()


class Kind(enum.Enum):
    """What a call does in the worker.

    ROWS: generate, with updates on the way. ENGINE: compute one answer in forward passes. VOCAB:
    compute one answer without.
    """

    ROWS = enum.auto()
    ENGINE = enum.auto()
    VOCAB = enum.auto()


@dataclass(slots=True)
class RowSoFar:
    """What has come of one row."""

    reply: ReplyBuilder = field(default_factory=ReplyBuilder)
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    first_at: float | None = None
    last_at: float | None = None


@dataclass(slots=True, eq=False, kw_only=True)
class RemoteCall:
    """One call.

    name, payload: what the worker is asked, and the arguments. fingerprint: what the call is known
    by if the worker ends. keeps_updates: whether ``updates`` are read. cancel: an event of the
    caller's. prompts: of each row, its token ids, once the call has begun; facts: what else is
    known then. outcome: what the worker returned, once the call is over without an error. label:
    what the log calls it.
    """

    number: int
    name: str
    payload: bytes
    fingerprint: bytes
    kind: Kind
    keeps_updates: bool = False
    cancel: Any = None
    label: str | None = field(default_factory=call_label.get)
    stage: Stage = Stage.HELD
    prompts: tuple[bytes, ...] = ()
    facts: Any = None
    outcome: Any = None
    error: BaseException | None = None
    started: float = field(default_factory=time.perf_counter)
    rows: dict[int, RowSoFar] = field(default_factory=dict)
    updates: deque[list[RowUpdate]] = field(default_factory=deque)
    answers: deque[Any] = field(default_factory=deque)
    is_cancelled: bool = False
    is_on_trial: bool = False
    _warnings: deque[tuple[str, type[Warning]]] = field(default_factory=deque)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _waker: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None

    @property
    def over(self) -> bool:
        return self.stage is Stage.OVER

    @property
    def has_tokens(self) -> bool:
        """Whether the worker has sent anything of it."""
        return bool(self.rows or self.answers)

    # --- the thread that reads from the worker ---

    def add(self, wire_rows: list[WireRow]) -> None:
        """Take what a step gave."""
        now = time.perf_counter()
        for row, deltas, token_ids, logprobs, reason in wire_rows:
            so_far = self.rows.get(row)
            if so_far is None:
                so_far = self.rows[row] = RowSoFar()
            if token_ids:
                so_far.token_ids += token_ids
                so_far.last_at = now
                if so_far.first_at is None:
                    so_far.first_at = now
            if logprobs:
                so_far.logprobs += [TokenLogprob(*each) for each in logprobs]
            so_far.finish_reason = reason
            if deltas:
                so_far.reply.add(as_deltas(deltas))
        if self.keeps_updates:
            self.updates.append(list(map(_update, wire_rows)))

    def warn(self, text: str, category: type[Warning]) -> None:
        """Let the caller's thread give a warning."""
        self._warnings.append((text, category))

    def wake(self, loops: dict[asyncio.AbstractEventLoop, list[asyncio.Event]]) -> None:
        """Wake whoever waits; tasks are added to ``loops``, to be woken together."""
        if self._waker is not None:
            (loop, event), self._waker = self._waker, None
            loops.setdefault(loop, []).append(event)
        with self._changed:
            self._changed.notify_all()

    # --- the caller ---

    def wait(
        self,
        is_enough: Callable[[], bool],
        request_cancel: Callable[[], object],
        *,
        polls: bool = False,
    ) -> None:
        """Return once ``is_enough()`` or the call is over.

        request_cancel: called when the caller's event is set. polls: ``is_enough()`` may change
        when no news come.
        """
        polls = polls or self.cancel is not None or _WAKES_FOR_INTERRUPTS
        while not (self.over or is_enough()):
            if self.cancel is not None and not self.is_cancelled and self.cancel.is_set():
                request_cancel()
            with self._changed:
                if not (self.over or is_enough()):
                    self._changed.wait(_SECONDS_BETWEEN_LOOKS if polls else None)
        self._give_warnings()

    async def moved(self, is_enough: Callable[[], bool]) -> None:
        """``wait`` for asyncio."""
        loop = asyncio.get_running_loop()
        while not (self.over or is_enough()):
            event = asyncio.Event()
            self._waker = loop, event  # before looking: the other thread looks the other way round
            if not (self.over or is_enough()):
                await event.wait()
        self._give_warnings()

    def result(self) -> Any:
        """Return the outcome of a call that is over; raise its error."""
        if self.error is not None:
            raise self.error
        return self.outcome

    def _give_warnings(self) -> None:
        while self._warnings:
            warn(*self._warnings.popleft())


def as_deltas(deltas: str | tuple[ReplyDelta, ...]) -> tuple[ReplyDelta, ...]:
    """Return the deltas of a row as they were before they were sent."""
    return (ReplyDelta(kind="text", text=deltas),) if isinstance(deltas, str) else deltas


def _update(wire_row: WireRow) -> RowUpdate:
    row, deltas, token_ids, logprobs, reason = wire_row
    return RowUpdate(
        row,
        as_deltas(deltas) if deltas else (),
        token_ids,
        tuple(TokenLogprob(*each) for each in logprobs),
        reason,
    )
