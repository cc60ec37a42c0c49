"""Texts in, texts out: all at once, as they finish, or piece by piece; and pinned prefixes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from functools import partial
from typing import TypeAlias, overload

from localgen._util.call_signature import method_takes
from localgen.completion import Completion
from localgen.config import GenerationConfig
from localgen.generation import results
from localgen.generation.call import GenerationCall
from localgen.generation.inputs import Prompt
from localgen.generation.prefix import Prefix
from localgen.generation.progress import show_progress
from localgen.generation.results import one_or_all
from localgen.generation.row_stream import CallRows, RowStream
from localgen.generation.streaming import CompletionStream, as_they_finish, partial_on_error
from localgen.generation.text_arguments import (
    Configs,
    StreamArguments,
    TextArguments,
    async_arguments,
    async_stream_arguments,
    branching_arguments,
    iter_arguments,
    stream_arguments,
    text_arguments,
)
from localgen.model.parts import ModelParts
from localgen.text.replies.results import ReplyDelta

OneText: TypeAlias = TextArguments[str, GenerationConfig]
SeveralTexts: TypeAlias = TextArguments[Sequence[Prompt], Configs]
Texts: TypeAlias = TextArguments[str | Sequence[Prompt], Configs]


class TextMethods(ModelParts):
    """``complete()``, ``stream()`` and their variants, whose arguments ``text_arguments`` lists."""

    @overload
    @method_takes(branching_arguments)
    def complete(self, given: OneText) -> Completion | list[Completion]: ...

    # mypy overlooks that the first one needs an argument more.
    @overload
    @method_takes(text_arguments)
    def complete(self, given: OneText) -> Completion: ...  # type: ignore[overload-cannot-match]

    @overload
    @method_takes(text_arguments)
    def complete(self, given: SeveralTexts) -> list[Completion]: ...

    @method_takes(text_arguments)
    def complete(self, given: Texts) -> Completion | list[Completion]:
        """Continue one text, or any number of texts together.

        prompts: a text, or a list whose items are texts or lists of token ids.
        generation_config: one, or one for each prompt. logits_processor, stopping_criteria:
        functions, or lists of them, called for each sequence as a batch of one without padding;
        stopping criteria get None as scores. split_special_tokens: see ``Tokenizer.encode``.
        cancel: an event that ends the call when set, from any thread.
        progress: show a bar on stderr. overrides: fields of ``GenerationConfig``.
        Returns a Completion for a single text (a list of them with ``num_return_sequences`` > 1),
        else a list: ``num_return_sequences`` in a row for each prompt. Raises as ``generate()``.
        """
        call = self._requests.from_texts(given)
        with partial_on_error(lambda: results.completions(call)):
            self._driver.submit(call.request)
            if given.progress:
                show_progress(call, self._driver)
            else:
                self._driver.run(call.request)
        return one_or_all(given.prompts, results.completions(call))

    @method_takes(iter_arguments)
    def complete_iter(self, given: SeveralTexts) -> Iterator[tuple[int, Completion]]:
        """Yield the results of ``complete()`` as they are ready: (index in its list, Completion).

        Leaving the loop early cancels the rest.
        """
        call = self._requests.from_texts(given)
        call.leave()
        return as_they_finish(call, self._driver)

    @method_takes(stream_arguments)
    def stream(self, given: StreamArguments) -> CompletionStream:
        """Continue one text piece by piece: iterate over the pieces, then read ``.completion``.

        Takes the arguments of ``complete()``, but no ``num_beams`` above 1: the best text is known
        only at its end. Other calls may run between two pieces.
        """
        call = self._requests.from_text(given)
        return CompletionStream(call, self._driver, self._backend.check_usable)

    @overload
    @method_takes(async_arguments)
    async def acomplete(self, given: OneText) -> Completion: ...

    @overload
    @method_takes(async_arguments)
    async def acomplete(self, given: SeveralTexts) -> list[Completion]: ...

    @method_takes(async_arguments)
    async def acomplete(self, given: Texts) -> Completion | list[Completion]:
        """Await ``complete()``: calls of one event loop run in one batch.

        Cancelling the task ends the generation.
        """
        call = self._requests.from_texts(given)
        with partial_on_error(lambda: results.completions(call)):
            await self._async_driver.run(call.request)
        return one_or_all(given.prompts, results.completions(call))

    @method_takes(async_stream_arguments)
    async def astream(self, given: StreamArguments) -> AsyncGenerator[str, None]:
        """Iterate over ``stream()`` with ``async for``; leaving the loop ends the generation."""
        call = self._requests.from_text(given)
        async with aclosing(self._deltas(call, takes_apart=False)) as deltas:
            async for delta in deltas:
                yield delta.text

    async def _deltas(
        self, call: GenerationCall, *, takes_apart: bool
    ) -> AsyncGenerator[ReplyDelta, None]:
        """Run a call of one sequence, and yield the pieces of its text."""
        rows = CallRows(self._async_driver, takes_apart=takes_apart)
        async with aclosing(rows.run(call)) as updates:
            async for (update,) in updates:
                for delta in update.deltas:
                    yield delta

    @method_takes(async_arguments)
    def astream_rows(self, given: Texts) -> RowStream:
        """Return ``acomplete()`` as a stream of all its rows, ``num_return_sequences`` for each
        prompt.

        It is for ``async for``: each item is a list of ``RowUpdate``, what one or more steps gave.
        Leaving the loop inside ``async with aclosing(rows)`` ends the call. ``completions`` are
        the results. Replies to ``chat_prompt()`` are taken apart; the rows of a beam search come
        at its end. Errors, those of the arguments included, raise from the iteration.
        """
        rows = CallRows(self._async_driver)
        build = partial(self._requests.from_texts, given)
        return RowStream(rows.build_and_run(build), rows.completions, rows.is_over)

    def prefill(self, text: Prompt, *, split_special_tokens: bool = False) -> Prefix:
        """Compute the beginning of later prompts, and pin it in the KV cache.

        Raises ContextFullError, or BackendError if another pinned prefix does not fit.
        """
        call = self._requests.from_prefix(text, split_special_tokens)
        (sequence,) = call.sequences
        # Made first: what is pinned then is released even if Ctrl-C comes right after it was.
        prefix = Prefix(self, text, sequence, split_special_tokens=split_special_tokens)
        with partial_on_error(lambda: None):
            try:
                self._driver.submit(call.request)
                self._driver.run(call.request)
            except BaseException:
                prefix.release()
                raise
        return prefix
