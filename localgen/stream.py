"""The text of one row, piece by piece; and errors that carry what had been generated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from localgen.call import Call
from localgen.completion import Completion
from localgen.engine.turns import Turns
from localgen.errors import GenerationInterrupted, LocalgenError


class CompletionStream:
    """An iterator over the pieces of one text; ``completion`` is what there is so far.

    Closing it, or dropping it, ends the generation.
    """

    def __init__(self, call: Call, turns: Turns, check_usable: Callable[[], None]) -> None:
        self._call = call
        self._turns = turns
        self._check_usable = check_usable
        self._started = self._ended = False

    def __iter__(self) -> CompletionStream:
        return self

    def __next__(self) -> str:
        text, request = self._call.text_checks[0].stream, self._call.request
        if not self._ended:
            with self._ending_on_error():
                self._check_usable()
                if not self._started:
                    self._turns.submit(request)
                    self._started = True
                self._turns.run(request, lambda: text.has_more)
            if request.done:
                self._ended = True
                text.finish()
        piece = text.take()
        if not piece:
            raise StopIteration
        return piece

    def close(self) -> None:
        """End the generation; what came so far stays in ``completion``."""
        if self._started and not self._ended:
            self._ended = True
            self._check_usable()
            self._turns.cancel(self._call.request)
        self._ended = True

    def __del__(self) -> None:
        # Perhaps in the middle of a step, so the row is only marked: the next step ends it.
        self._call.request.is_cancelled = True

    @property
    def completion(self) -> Completion:
        """The Completion: "cancelled" if the stream was closed before its end."""
        return self._call.completion(0)

    @contextmanager
    def _ending_on_error(self) -> Iterator[None]:
        with partial_on_error(self._call.completions):
            try:
                yield
            except BaseException:
                self._ended = True
                self._call.text_checks[0].stream.take()  # ``completion`` has it, as ``partial`` has
                raise


@contextmanager
def partial_on_error(results: Callable[[], object]) -> Iterator[None]:
    """Errors and Ctrl-C inside carry ``results()`` as ``partial``."""
    try:
        yield
    except LocalgenError as error:
        error.partial = results()
        raise
    except GenerationInterrupted:
        raise
    except KeyboardInterrupt as error:
        interrupted = GenerationInterrupted("generation was interrupted")
        interrupted.partial = results()
        raise interrupted from error
