"""Sends calls to the worker, and waits for them: in a thread, or in asyncio."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from localgen.errors import ClosedError, GenerationInterrupted, WorkerCrashedError
from localgen.generation.async_driver import check_asyncio
from localgen.generation.row_stream import RowUpdate
from localgen.worker.arguments import fingerprint, packed
from localgen.worker.calls import Kind, RemoteCall
from localgen.worker.supervisor import Supervisor

# A step takes less.
_SECONDS_FOR_REST = 5.0
Partial = Callable[[RemoteCall], Any]


class Client:
    """The program's side of one worker."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor

    def new_call(
        self,
        name: str,
        arguments: Mapping[str, Any],
        kind: Kind = Kind.ROWS,
        *,
        keeps_updates: bool = False,
        cancel: Any = None,
    ) -> RemoteCall:
        """Return a call that is yet to be submitted.

        Raises TypeError for an argument that cannot be sent.
        """
        self.supervisor.check_usable()
        return RemoteCall(
            number=self.supervisor.new_number(),
            name=name,
            payload=packed(arguments),
            fingerprint=fingerprint(name, arguments),
            kind=kind,
            keeps_updates=keeps_updates,
            cancel=cancel,
        )

    # --- in a thread ---

    def ask(self, name: str, arguments: Mapping[str, Any], kind: Kind) -> Any:
        """Return the worker's answer."""
        return self.run(self.new_call(name, arguments, kind), lambda _: None)

    def begin(self, call: RemoteCall) -> None:
        """Submit a call, and return once the worker has built it; raise what that raised."""
        try:
            self.supervisor.submit(call)
            self.wait(call, lambda: bool(call.prompts))
            if call.over:
                call.result()
        except BaseException:
            self.supervisor.abandon_call(call)
            raise

    def run(self, call: RemoteCall, partial: Partial) -> Any:
        """Submit a call, and return its outcome; errors carry ``partial``."""
        with self.carrying(call, partial):
            self.supervisor.submit(call)
            self.wait(call)
            return call.result()

    def wait(self, call: RemoteCall, is_enough: Callable[[], bool] = lambda: False) -> None:
        """Return once ``is_enough()`` or the call is over."""
        call.wait(is_enough, lambda: self.supervisor.cancel(call))

    @contextmanager
    def carrying(self, call: RemoteCall, partial: Partial) -> Iterator[None]:
        """Let errors in the block carry what had come; Ctrl-C in it ends the call first."""
        try:
            yield
        except (WorkerCrashedError, ClosedError) as error:
            if error.partial is None:
                error.partial = partial(call)
            raise
        except KeyboardInterrupt:
            self._interrupt(call)
            interrupted = GenerationInterrupted(
                "interrupted by Ctrl-C; `partial` of this exception holds what was generated"
            )
            done = call.outcome if call.kind is Kind.ROWS else None
            interrupted.partial = partial(call) if done is None else done
            raise interrupted from None
        except BaseException:
            self.supervisor.abandon_call(call)
            raise

    def _interrupt(self, call: RemoteCall) -> None:
        """End a call, and wait for what it has, unless a function of the caller's does not return;
        another Ctrl-C ends the waiting."""
        self.supervisor.cancel(call)
        if call.prompts:
            until = time.monotonic() + _SECONDS_FOR_REST
            with suppress(Exception, KeyboardInterrupt):
                call.wait(lambda: time.monotonic() > until, lambda: None, polls=True)
        self.supervisor.abandon_call(call)

    # --- in asyncio ---

    async def aask(self, name: str, arguments: Mapping[str, Any], kind: Kind) -> Any:
        """Return the worker's answer."""
        return await self.arun(self.new_call(name, arguments, kind), lambda _: None)

    async def arun(self, call: RemoteCall, partial: Partial) -> Any:
        """``run`` for asyncio. Being cancelled ends the call."""
        async for _ in self.updates(call, partial):
            pass
        return call.outcome

    async def updates(
        self, call: RemoteCall, partial: Partial
    ) -> AsyncGenerator[list[RowUpdate], None]:
        """Submit a call, and yield its updates as they come."""
        check_asyncio()
        with self._acarrying(call, partial):
            self.supervisor.submit(call)
            while not call.over or call.updates:
                while call.updates:
                    yield call.updates.popleft()
                await call.moved(lambda: bool(call.updates))
            call.result()

    @contextmanager
    def _acarrying(self, call: RemoteCall, partial: Partial) -> Iterator[None]:
        try:
            yield
        except (WorkerCrashedError, ClosedError) as error:
            if error.partial is None:
                error.partial = partial(call)
            raise
        finally:
            self.supervisor.abandon_call(call)
