"""``astream_rows()`` of an isolated model."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from localgen.completion import Completion
from localgen.generation.row_stream import RowUpdate
from localgen.worker.calls import RemoteCall
from localgen.worker.client import Client
from localgen.worker.options import SentOptions
from localgen.worker.so_far import completions_so_far


class RemoteRows:
    """Runs a call, and follows its rows; see ``generation.row_stream.CallRows``.

    new_call: returns the call, and raises what is wrong with its arguments.
    """

    def __init__(
        self, client: Client, new_call: Callable[[], tuple[RemoteCall, SentOptions]]
    ) -> None:
        self._client = client
        self._new_call = new_call
        self._started: tuple[RemoteCall, SentOptions] | None = None

    def is_over(self) -> bool:
        """Return whether the call has ended."""
        return self._started is not None and self._started[0].over

    def completions(self) -> list[Completion]:
        """Return the completions so far, none before the call began."""
        if self._started is None:
            return []
        call, options = self._started
        done = completions_so_far(call) if call.outcome is None else call.outcome
        return options.all_finished(done)

    async def updates(self) -> AsyncGenerator[list[RowUpdate], None]:
        """Yield the updates of the call."""
        call, _ = self._started = self._new_call()
        async with aclosing(self._client.updates(call, completions_so_far)) as updates:
            async for each in updates:
                yield each
