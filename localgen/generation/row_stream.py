"""The rows of a call while they grow: what one or more steps gave each of them, for asyncio.

A row is one text of the call: ``num_return_sequences`` for each prompt. It knows calls and drivers;
a model in another process gives the same updates.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace

from localgen._util.wanted import run_in_thread
from localgen.completion import Completion, TokenLogprob
from localgen.engine.recorders import LogprobRecorder
from localgen.engine.sequence import FinishReason, Sequence
from localgen.generation import results
from localgen.generation.async_driver import AsyncDriver, check_asyncio
from localgen.generation.call import GenerationCall
from localgen.generation.streaming import partial_on_error
from localgen.generation.text_tracker import TextTracker, text_tracker
from localgen.text.replies.parser import ReplyParser
from localgen.text.replies.results import ReplyDelta


@dataclass(frozen=True, slots=True)
class RowUpdate:
    """What is new in one row.

    row: its index among the completions of the call. deltas: the new pieces of its reply, of kind
    "text" only unless the prompt is a chat. token_ids: the new tokens; their text may come with a
    later update. logprobs: one for each of them, if asked for. finish_reason: set in the row's last
    update.
    """

    row: int
    deltas: tuple[ReplyDelta, ...] = ()
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: FinishReason | None = None


class RowStream:
    """Iterates over lists of ``RowUpdate``, each what one or more steps gave; closing it ends the
    call.

    updates: the lists, which end with the call. completions: returns the completions so far.
    is_over: returns whether the call has ended. Errors of the call raise from the iteration, with
    ``partial``.
    """

    def __init__(
        self,
        updates: AsyncGenerator[list[RowUpdate], None],
        completions: Callable[[], list[Completion]],
        is_over: Callable[[], bool],
    ) -> None:
        self._updates = updates
        self._completions = completions
        self._is_over = is_over

    def __aiter__(self) -> AsyncIterator[list[RowUpdate]]:
        return self._updates

    async def __anext__(self) -> list[RowUpdate]:
        return await anext(self._updates)

    async def aclose(self) -> None:
        """End the call, unless it is over."""
        await self._updates.aclose()

    @property
    def completions(self) -> list[Completion]:
        """Return the completions: final once the iteration has ended, before that what there is so
        far, "cancelled" where a row has not finished; none before the call began."""
        return self._completions()

    @property
    def is_over(self) -> bool:
        """Whether everything is computed, though some updates may not have been taken yet."""
        return self._is_over()


class CallRows:
    """Runs a call, and follows its rows.

    takes_apart: whether replies to chats are taken apart; else their text has all marks.
    """

    def __init__(self, driver: AsyncDriver, *, takes_apart: bool = True) -> None:
        self._driver = driver
        self._takes_apart = takes_apart
        self._call: GenerationCall | None = None
        self._final: list[Completion] | None = None

    def is_over(self) -> bool:
        """Return whether the call has ended."""
        return self._call is not None and self._call.request.done

    def completions(self) -> list[Completion]:
        """Return the completions so far, none before the call was built."""
        if self._call is None:
            return []
        if self._final is None:
            found = results.completions(self._call)
            if not self._call.request.done:
                return found
            self._final = found
        return list(self._final)

    async def build_and_run(
        self, build: Callable[[], GenerationCall]
    ) -> AsyncGenerator[list[RowUpdate], None]:
        """Yield the updates of the call that ``build`` returns, called in a thread: tokenizing and
        compiling a schema may take long."""
        check_asyncio()
        async with aclosing(self.run(await run_in_thread(None, build))) as updates:
            async for each in updates:
                yield each

    async def run(self, call: GenerationCall) -> AsyncGenerator[list[RowUpdate], None]:
        """Yield the updates of a call."""
        self._call = call
        rows = [
            RowProgress(index, sequence, self._parser(call, sequence))
            for index, sequence in enumerate(call.sequences)
        ]
        steps = self._driver.steps(call.request, lambda: any(row.has_more for row in rows))
        with partial_on_error(self.completions):
            async with aclosing(steps):
                try:
                    async for _ in steps:
                        if call.request.done:
                            _ = call.sequences  # of beams: filled when it is asked for
                        if updates := [each for row in rows if (each := row.update())]:
                            call.leave()
                            yield updates
                            call.resume()
                except Exception as error:
                    # What came before it was generated all the same.
                    if error is call.request.error and (last := updates_before_error(rows)):
                        yield last
                    raise

    def _parser(self, call: GenerationCall, sequence: Sequence) -> ReplyParser | None:
        return results.reply_parser(call, sequence) if self._takes_apart else None


def updates_before_error(rows: list[RowProgress]) -> list[RowUpdate]:
    """Return the last updates of rows that an error has ended: their ends are the error's."""
    updates = [each for row in rows if (each := row.update())]
    unended = (
        replace(each, finish_reason=None) if each.finish_reason == "cancelled" else each
        for each in updates
    )
    return [each for each in unended if each != RowUpdate(each.row)]


class RowProgress:
    """A sequence, and how much of it was given out; one of ``generate()`` has no text."""

    __slots__ = (
        "_has_text",
        "_index",
        "_is_over",
        "_n_given",
        "_n_logprobs",
        "_parser",
        "_recorder",
        "_seq",
    )

    def __init__(self, index: int, sequence: Sequence, parser: ReplyParser | None) -> None:
        self._has_text = any(isinstance(each, TextTracker) for each in sequence.trackers)
        self._index = index
        self._seq = sequence
        self._parser = parser
        self._n_given = sequence.n_tokens
        self._n_logprobs = 0
        self._is_over = False
        kept = (each for each in sequence.recorders if isinstance(each, LogprobRecorder))
        self._recorder = next(kept, None)

    @property
    def has_more(self) -> bool:
        """Whether ``update()`` would return one; asked in the thread that drives."""
        return self._seq.n_tokens != self._n_given or (
            self._seq.finish_reason is not None and not self._is_over
        )

    def update(self) -> RowUpdate | None:
        """Return what is new, None if nothing is."""
        # Read first: another thread may run a step meanwhile.
        reason = self._seq.finish_reason
        if self._is_over or not self.has_more:
            return None
        start, self._n_given = self._n_given, self._seq.n_tokens
        token_ids = tuple(self._seq.tokens[start : self._n_given].tolist())
        deltas = self._deltas(is_over=reason is not None)
        self._is_over = reason is not None
        return RowUpdate(self._index, deltas, token_ids, self._logprobs(len(token_ids)), reason)

    def _deltas(self, *, is_over: bool) -> tuple[ReplyDelta, ...]:
        if not self._has_text:
            return ()
        text = text_tracker(self._seq).stream
        if is_over:
            text.finish()
        piece = text.take()
        if self._parser is None:
            return (ReplyDelta(kind="text", text=piece),) if piece else ()
        deltas = self._parser.feed(piece) if piece else []
        if is_over:
            deltas += self._parser.finish()
        return tuple(deltas)

    def _logprobs(self, n: int) -> tuple[TokenLogprob, ...]:
        if self._recorder is None:
            return ()
        start, self._n_logprobs = self._n_logprobs, self._n_logprobs + n
        return tuple(TokenLogprob(*each) for each in self._recorder.steps[start : start + n])
