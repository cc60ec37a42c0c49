"""What a call gives before it is over: pieces of a text, tokens, finished completions; and errors
that carry what had been generated."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import numpy as np

from localgen._util.arrays import to_torch
from localgen.completion import Completion
from localgen.errors import GenerationInterrupted
from localgen.generation import results
from localgen.generation.call import GenerationCall
from localgen.generation.driver import Driver
from localgen.generation.text_tracker import text_tracker
from localgen.text.detokenizer import Detokenizer
from localgen.text.replies.parser import ReplyParser
from localgen.text.replies.results import ReplyDelta


class CompletionStream:
    """Iterates over the pieces of one text; ``completion`` is the text so far.

    Closing it, or dropping it, ends the generation.
    """

    def __init__(
        self, call: GenerationCall, driver: Driver, check_usable: Callable[[], None]
    ) -> None:
        self._call = call
        self._driver = driver
        self._check_usable = check_usable
        self._started = self._ended = False
        call.leave()

    def __iter__(self) -> CompletionStream:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a stream cannot be copied or pickled: it is a call that runs; its completion can be"
        )

    def __aiter__(self) -> NoReturn:
        raise TypeError("stream() is for ``for``; use model.astream(...) with ``async for``")

    def __next__(self) -> str:
        text = text_tracker(self._call.sequences[0]).stream
        if not self._ended:
            self._call.resume(starts=not self._started)
            try:
                self._advance(text)
            except BaseException:
                self._ended = True
                text.take()  # ``completion`` has it, as ``partial`` has
                with partial_on_error(lambda: results.completions(self._call)):
                    raise
            self._call.leave()
        piece = text.take()
        if not piece:
            raise StopIteration
        return piece

    def close(self) -> None:
        """End the generation; what was generated stays in ``completion``."""
        request = self._call.request
        if self._started and not self._ended and not request.done:
            self._ended = True
            self._check_usable()
            self._driver.cancel(request)
        self._ended = True

    def __del__(self) -> None:
        # Perhaps in the middle of a step, so the request is only marked: the next step ends it.
        if call := getattr(self, "_call", None):  # which an interrupted ``__init__`` did not set
            call.request.is_cancelled = True

    @property
    def completion(self) -> Completion:
        """The Completion so far, "cancelled" unless it has come to its end.

        Its text has all that was generated, and so may end in what a stop string begins with.
        """
        return results.completion(self._call, 0)

    def _advance(self, text: Detokenizer) -> None:
        """Generate until there is more of the text, or nothing follows."""
        request = self._call.request
        self._check_usable()
        if not self._started:
            self._driver.submit(request)
            self._started = True
        self._driver.run(request, lambda: text.has_more)
        if request.done:
            self._ended = True
            text.finish()


class ChatStream(CompletionStream):
    """Iterates over the pieces of a reply's text; ``deltas()`` over those of its reasoning and tool
    calls too. ``completion`` is the reply so far. Read it either way: both take the same pieces.
    """

    def __init__(
        self, call: GenerationCall, driver: Driver, check_usable: Callable[[], None]
    ) -> None:
        super().__init__(call, driver, check_usable)
        self._waiting: deque[ReplyDelta] = deque()
        self._parser = results.reply_parser(call, call.sequences[0]) or ReplyParser(None)
        self._is_parsed = False

    def __next__(self) -> str:
        while True:
            delta = self._next_delta()
            if delta.kind == "text":
                return delta.text

    def deltas(self) -> Iterator[ReplyDelta]:
        """Iterate over all pieces: text, reasoning, the names and arguments of tool calls."""
        while True:
            try:
                yield self._next_delta()
            except StopIteration:
                return

    def _next_delta(self) -> ReplyDelta:
        while not self._waiting:
            if self._is_parsed:
                raise StopIteration
            try:
                self._waiting.extend(self._parser.feed(super().__next__()))
            except StopIteration:
                self._is_parsed = True
                self._waiting.extend(self._parser.finish())
        return self._waiting.popleft()


@contextmanager
def ending(streamer: Any) -> Iterator[None]:
    """Call ``streamer.end()`` if the block raises: whoever reads from it must not wait for ever.

    Raises TypeError unless it has transformers' methods ``put`` and ``end``, or is None.
    """
    if streamer is None:
        yield
        return
    for method in ("put", "end"):
        if not callable(getattr(streamer, method, None)):
            raise TypeError(
                f"streamer must have the methods put(token_ids) and end(), as transformers' "
                f"TextStreamer has, got {streamer!r:.80}"
            )
    try:
        yield
    except BaseException:
        with suppress(Exception):  # the error that ended the call is the one to see
            streamer.end()
        raise


def put_tokens(streamer: Any, call: GenerationCall, driver: Driver) -> None:
    """Run the one sequence of a submitted call, and put its prompt and then each token to
    ``streamer``, as transformers does; ``end()`` is the caller's to call."""
    wrap: Callable[[Any], Any] = to_torch if call.prompts.is_torch else np.asarray
    (sequence,) = call.sequences
    n_put = 0

    def put(token_ids: Any) -> None:
        call.leave()
        streamer.put(wrap(token_ids))
        call.resume()

    try:
        put(results.prompt_rows(call))
        while n_put < sequence.n_new or not call.request.done:
            driver.run(call.request, lambda n=n_put: sequence.n_new > n)  # type: ignore[misc]
            for token_id in sequence.new_token_ids[n_put:].tolist():
                n_put += 1
                put(np.array([token_id], np.int64))
        driver.run(call.request)  # raises what ended it between two tokens
    except BaseException:  # of the streamer, perhaps
        driver.cancel(call.request)
        raise


def as_they_finish(call: GenerationCall, driver: Driver) -> Iterator[tuple[int, Completion]]:
    """Run a call and yield (index, Completion) as each is ready; leaving early ends the rest."""
    waiting = dict(enumerate(call.sequences))
    try:
        with partial_on_error(lambda: results.completions(call)):
            call.resume(starts=True)
            driver.submit(call.request)
            while waiting:
                driver.run(
                    call.request, lambda: any(each.finish_reason for each in waiting.values())
                )
                done_now = [i for i, each in enumerate(call.sequences) if each.finish_reason]
                for index in [i for i in done_now if i in waiting]:
                    del waiting[index]
                    done = results.completion(call, index)
                    call.leave()
                    yield index, done
                    call.resume()
    finally:
        call.request.is_cancelled = True


@contextmanager
def partial_on_error(results: Callable[[], object]) -> Iterator[None]:
    """Let errors and Ctrl-C in the block carry ``results()`` as ``partial``."""
    try:
        yield
    except Exception as error:
        # A caller's own exception may have __slots__.
        with suppress(AttributeError):
            error.partial = results()  # type: ignore[attr-defined]
        raise
    except GenerationInterrupted:
        raise
    except KeyboardInterrupt:
        interrupted = GenerationInterrupted(
            "interrupted by Ctrl-C; `partial` of this exception holds what was generated"
        )
        interrupted.partial = results()
        raise interrupted from None
