"""What a call gives before it is over: pieces of a text, tokens, whole rows.

And errors that carry what had been generated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import numpy as np

from localgen.completion import Completion
from localgen.errors import GenerationInterrupted
from localgen.generation.call import GenerationCall
from localgen.generation.driver import Driver
from localgen.generation.inputs import Prompts, to_torch
from localgen.text.detokenizer import Detokenizer


class CompletionStream:
    """An iterator over the pieces of one text; ``completion`` is what there is so far.

    Closing it, or dropping it, ends the generation.
    """

    def __init__(
        self, call: GenerationCall, turns: Driver, check_usable: Callable[[], None]
    ) -> None:
        self._call = call
        self._turns = turns
        self._check_usable = check_usable
        self._started = self._ended = False

    def __iter__(self) -> CompletionStream:
        return self

    def __aiter__(self) -> NoReturn:
        raise TypeError("stream() is for ``for``; use model.astream(...) with ``async for``")

    def __next__(self) -> str:
        text = self._call.text_checks[0].stream
        if not self._ended:
            try:
                self._advance(text)
            except BaseException:
                self._ended = True
                text.take()  # ``completion`` has it, as ``partial`` has
                with partial_on_error(self._call.completions):
                    raise
        piece = text.take()
        if not piece:
            raise StopIteration
        return piece

    def close(self) -> None:
        """End the generation; what came so far stays in ``completion``."""
        request = self._call.request
        if self._started and not self._ended and not request.done:
            self._ended = True
            self._check_usable()
            self._turns.cancel(request)
        self._ended = True

    def __del__(self) -> None:
        # Perhaps in the middle of a step, so the row is only marked: the next step ends it.
        self._call.request.is_cancelled = True

    @property
    def completion(self) -> Completion:
        """The Completion: "cancelled" if the stream was closed before its end."""
        return self._call.completion(0)

    def _advance(self, text: Detokenizer) -> None:
        """Generate until there is more of the text, or nothing follows."""
        request = self._call.request
        self._check_usable()
        if not self._started:
            self._turns.submit(request)
            self._started = True
        self._turns.run(request, lambda: text.has_more)
        if request.done:
            self._ended = True
            text.finish()


def put_tokens(streamer: Any, call: GenerationCall, prompts: Prompts, turns: Driver) -> None:
    """Run the one row of a submitted call, with its prompt and then each token put to ``streamer``
    as transformers does."""
    wrap: Callable[[Any], Any] = to_torch if prompts.is_torch else np.asarray
    (row,) = call.sequences
    n_put = 0
    try:
        streamer.put(wrap(prompts.matrix))
        while n_put < row.n_new or not call.request.done:
            turns.run(call.request, lambda n=n_put: row.n_new > n)  # type: ignore[misc]
            for token_id in row.new_token_ids[n_put:].tolist():
                n_put += 1
                streamer.put(wrap(np.array([token_id], np.int64)))
        turns.run(call.request)  # raises what ended it between two tokens
    except BaseException:  # of the streamer, perhaps
        turns.cancel(call.request)
        raise
    streamer.end()


def as_they_finish(call: GenerationCall, turns: Driver) -> Iterator[tuple[int, Completion]]:
    """Run a call: (number of the row, Completion) as each is ready; leaving early ends the rest."""
    waiting = dict(enumerate(call.sequences))
    try:
        with partial_on_error(call.completions):
            turns.submit(call.request)
            while waiting:
                turns.run(call.request, lambda: any(row.finish_reason for row in waiting.values()))
                for index in [i for i, row in waiting.items() if row.finish_reason]:
                    del waiting[index]
                    yield index, call.completion(index)
    finally:
        call.request.is_cancelled = True


@contextmanager
def partial_on_error(results: Callable[[], object]) -> Iterator[None]:
    """Errors and Ctrl-C inside carry ``results()`` as ``partial``."""
    try:
        yield
    except Exception as error:
        # Of a caller's own function it may be of a class without room for it.
        with suppress(AttributeError):
            error.partial = results()  # type: ignore[attr-defined]
        raise
    except GenerationInterrupted:
        raise
    except KeyboardInterrupt as error:
        interrupted = GenerationInterrupted("generation was interrupted")
        interrupted.partial = results()
        raise interrupted from error
