"""LocalModel: the façade. Each method is a thin view of the one generation loop."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, overload

import numpy as np
import numpy.typing as npt

from localgen import hub
from localgen._util.checks import check_bool, check_int
from localgen.completion import Completion, ForwardOutput, TokenLogprob
from localgen.config import GenerationConfig, ModelConfig, replace_options
from localgen.engine.engine import Engine
from localgen.engine.request import Request
from localgen.errors import (
    CLOSED,
    BackendError,
    ClosedError,
    KvBudgetError,
    NotEnoughMemoryError,
)
from localgen.generation import results
from localgen.generation.assistants import Assistants
from localgen.generation.async_driver import AsyncDriver
from localgen.generation.call import GenerationCall
from localgen.generation.choice_tokens import (
    LABEL_TEMPLATE,
    checked_documents,
    checked_texts,
    prompts_from_template,
)
from localgen.generation.choosing import ChoiceScores, Choosing, Normalization
from localgen.generation.continuation_scores import ContinuationScore
from localgen.generation.defaults import CallDefaults, as_config, is_config
from localgen.generation.driver import Driver, close_at_exit
from localgen.generation.forward import checked_labels, forward_output
from localgen.generation.hooks import Functions
from localgen.generation.inputs import ChatPrompt, Prompt, check_token_types, one_of
from localgen.generation.model_backend import ModelBackend
from localgen.generation.model_facts import loaded_config
from localgen.generation.model_methods import ModelMethods
from localgen.generation.prefix import Prefix
from localgen.generation.progress import show_progress
from localgen.generation.request_builder import RequestBuilder
from localgen.generation.resolve import check_streams
from localgen.generation.results import one_or_all
from localgen.generation.row_stream import CallRows, RowStream
from localgen.generation.sessions import Sessions
from localgen.generation.streaming import (
    ChatStream,
    CompletionStream,
    as_they_finish,
    ending,
    partial_on_error,
    put_tokens,
)
from localgen.generation.tool_runs import (
    ToolRun,
    ToolRunner,
    check_one_reply,
    functions_by_name,
)
from localgen.option_names import normalize_options
from localgen.text.chat_arguments import as_conversations
from localgen.text.replies.formats import calls_format
from localgen.text.replies.reasoning import Reasoning
from localgen.text.replies.results import ReplyDelta
from localgen.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from localgen.text.chat_template import Message
    from localgen.text.tool_schema import Tool
    from localgen.worker.config import WorkerConfig

T = TypeVar("T")


class LocalModel(ModelMethods):
    """A GGUF model that generates. Close it, or use it in a ``with`` block.

    Calls from several threads, and ``async`` ones, run together in one batch. ``config`` has the
    options that it was loaded with, and what its file says of it; see ``LoadedConfig``.
    """

    def __init__(self, backend: ModelBackend, config: ModelConfig | None = None) -> None:
        """Use ``from_pretrained``; tests pass a backend of their own."""
        if isinstance(backend, str | os.PathLike):
            raise TypeError(f"use LocalModel.from_pretrained({os.fspath(backend)!r})")
        config = config or ModelConfig()
        # A program may keep the tokenizer alone.
        path = str(backend.path)
        self.tokenizer = tokenizer = Tokenizer(backend.vocab, owner=backend, name_or_path=path)
        ids = {
            name: getattr(tokenizer, name)
            for name in ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id")
        }
        self.config = loaded_config(config, {**backend.sizes, **ids})
        self._backend = backend
        engine = Engine(
            backend,
            config.max_sequences,
            deterministic=config.deterministic,
            reserved_new_tokens=config.reserved_new_tokens,
        )
        self._driver = Driver(engine)
        self._async_driver = AsyncDriver(self._driver)
        self._assistants = Assistants(backend, config, self._load_assistant)
        self._requests = RequestBuilder(self.tokenizer, backend, config, self._assistants)
        self._sessions = Sessions(backend, self._driver, config)
        close_at_exit(self._driver, backend)

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike[str],
        *,
        revision: str | None = None,
        local_files_only: bool = False,
        progress: Callable[[float], object] | None = None,
        use_profile: bool = True,
        isolated: bool | WorkerConfig = False,
        **options: Any,
    ) -> LocalModel:
        """Load a model.

        source: the path of a .gguf file; "org/repo", "org/repo:Q4_K_M" or "org/repo/file.gguf" on
        the Hugging Face Hub, optionally with "@revision"; or an alias such as "smollm2" (which
        needs the extra of that name). Without a level, Q4_K_M is used, or the nearest one there is.
        revision: a branch, a tag or a commit. local_files_only: make no request.
        progress: called with the loaded fraction, 0 to 1; an exception in it stops the load.
        use_profile: use the settings that ``localgen tune`` found for this model on this machine,
        where ``options`` do not set them; never with deterministic=True.
        isolated: run the model in a process of its own, an ``IsolatedModel``: where llama.cpp
        aborts, calls raise WorkerCrashedError, and the model is loaded again. A ``WorkerConfig``
        says how the process is watched.
        options: the fields of ``ModelConfig``.
        Raises ModelNotFoundError, DownloadError, InvalidGGUFError, BackendError, or ValueError.
        """
        config = replace_options(ModelConfig(), options)
        check_bool("use_profile", use_profile)
        _check_source(source)
        path = hub.resolve(source, revision=revision, local_files_only=local_files_only)
        if isolated is not False:
            from localgen.worker.loading import load_isolated  # noqa: PLC0415  # a circle otherwise

            return load_isolated(path, options, isolated, progress, use_profile=use_profile)
        # llama.cpp is loaded only now, so that importing localgen stays light.
        from localgen.llama.backend import LlamaBackend  # noqa: PLC0415
        from localgen.llama.tuned import find_tuned, logger  # noqa: PLC0415

        tuned = find_tuned(path, config, options) if use_profile else None
        try:
            backend = LlamaBackend(path, tuned or config, progress)
        except NotEnoughMemoryError:
            if tuned is None:
                raise
            logger.info("%s does not fit in memory with its profile, which is not used", path.name)
            backend = LlamaBackend(path, config, progress)
        model = cls(backend, backend.config)
        try:
            model._check_kv_budget()
        except BackendError:
            model.close()
            raise
        return model

    def __repr__(self) -> str:
        return (
            f"LocalModel({getattr(self._backend, 'path', 'closed')!s}, n_ctx={self.config.n_ctx})"
        )

    def __enter__(self) -> LocalModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def sampling_defaults(self) -> dict[str, Any]:
        """The sampling options that the model's file asks for (``general.sampling``).

        The text API and ``chat()`` use them for options that the caller does not name, unless
        there is a ``generation_config`` or ``do_sample=False``; ``generate()`` never does.
        """
        return dict(self._backend.sampling_defaults)

    def n_sequences_that_fit(self, n_tokens: int) -> int:
        """Return how many sequences of ``n_tokens`` can run together; 0 if not even one fits.

        The limits are ``max_sequences`` and the memory for the KV cache.
        """
        n_fit: int = self._backend.n_slots_that_fit(n_tokens)
        return min(self.config.max_sequences, n_fit)

    def close(self) -> None:
        """Free the model; calling it again does nothing.

        Calls that still run in other threads, and all later ones, raise ClosedError.
        """
        if self._backend.is_forked:  # a thread that this process lacks may hold the turn
            self._free()
        else:
            self._driver.close(ClosedError(CLOSED), self._free)

    def _free(self) -> None:
        self._assistants.close()
        self._backend.close()

    def _load_assistant(self, name: str) -> LocalModel:
        """Load a draft model with this model's settings."""
        kept = ("n_ctx", "device", "n_gpu_layers", "n_threads", "kv_type", "flash_attention")
        options = {each: getattr(self.config, each) for each in kept}
        return LocalModel.from_pretrained(name, check_memory=self.config.check_memory, **options)

    def _check_kv_budget(self) -> None:
        """Raise KvBudgetError for a budget without room for one token."""
        if self.config.kv_budget is not None and not self._backend.n_slots_that_fit(1):
            raise KvBudgetError(
                f"kv_budget={self.config.kv_budget} bytes have no room for even the shortest "
                f"sequence; use a larger kv_budget, or leave it out"
            )

    # --- transformers' API ---

    @property
    def generation_config(self) -> CallDefaults:
        """The options that a call takes unless it is given others; see ``CallDefaults``.

        Set its attributes, or set it to a ``GenerationConfig``, localgen's or transformers'.
        """
        return self._requests.defaults

    @generation_config.setter
    def generation_config(self, config: Any) -> None:
        self._requests.defaults = CallDefaults(as_config(config, self._requests.own_defaults))

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a LocalModel cannot be pickled or copied: it owns memory of llama.cpp; load it in "
            "each process with LocalModel.from_pretrained(), and share one model between threads"
        )

    def __call__(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        *,
        token_type_ids: Any = None,
        labels: Any = None,
        logits_to_keep: int = 0,
        return_dict: bool = True,
        **options: Any,
    ) -> ForwardOutput:
        """Return the logits after each token of a batch, in one forward pass for each row.

        input_ids, attention_mask: as in ``generate()``. labels: the same ids, or -100 where there
        is none, for the ``loss`` of predicting each from those before. logits_to_keep: return the
        logits of so many places at the end; 0 is all. options: those that only transformers has, at
        a value that changes nothing, such as ``use_cache=False``. Other calls wait meanwhile.

        The logits take 4 * n_vocab bytes for each token, twice while the result is made: 400 MB for
        1,000 tokens of a vocabulary of 50,000. With ``logits_to_keep``, only the places that are
        kept are computed and take memory: 0.4 MB for the last token of a row; but ``labels`` need
        the logits of all tokens once. ``score()`` needs 16 MiB whatever the length.
        Raises ContextFullError, DecodeError, TypeError or ValueError.
        """
        check_token_types(token_type_ids)
        if not return_dict or normalize_options(options, loads=False):
            raise TypeError(
                f"model(…) takes input_ids and attention_mask, and returns an object with logits; "
                f"got {', '.join(options) or 'return_dict=False'}"
            )
        prompts, sequences = self._requests.sequences_to_evaluate(input_ids, attention_mask)
        n_vocab = self._backend.n_vocab
        wanted = checked_labels(labels, prompts, n_vocab)
        check_int("logits_to_keep", logits_to_keep, 0)
        n_wanted = logits_to_keep if wanted is None else 0  # the loss needs all
        for each in sequences:
            each.output_from = max(each.n_prompt - n_wanted, 0) if n_wanted else 0
        with partial_on_error(lambda: None), self._driver.alone() as (engine, interrupted):
            self._backend.check_usable()
            logits = [engine.prompt_logits(sequence, interrupted) for sequence in sequences]
        return forward_output(prompts, logits, n_vocab, wanted, logits_to_keep)

    forward = __call__

    def compute_transition_scores(
        self,
        sequences: Any,
        scores: Any,
        beam_indices: Any = None,
        normalize_logits: bool = False,
    ) -> Any:
        """Return the score of each new token, float32 (rows, new).

        sequences, scores: of a ``GenerateOutput``; beam_indices: of one with beams.
        normalize_logits: return log-probabilities. Tokens after the end of a row are NaN, with
        beam_indices 0. A torch tensor if ``sequences`` is one.
        """
        return results.transition_scores(
            sequences, scores, beam_indices, normalize_logits=normalize_logits
        )

    def generate(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        *,
        inputs: Any = None,
        generation_config: Any = None,
        logits_processor: Functions | None = None,
        stopping_criteria: Functions | None = None,
        streamer: Any = None,
        tokenizer: Tokenizer | None = None,
        token_type_ids: Any = None,
        negative_prompt_ids: Any = None,
        negative_prompt_attention_mask: Any = None,
        cancel: threading.Event | None = None,
        **overrides: Any,
    ) -> Any:
        """Continue a batch of token ids, as ``transformers``' ``generate()`` does.

        input_ids: (batch, length) integers, padded on either side with ``attention_mask`` 0 there;
        inputs: another name for them. generation_config: a ``GenerationConfig``, localgen's or
        transformers', or one for each prompt; also accepted as the second argument.
        logits_processor, stopping_criteria: functions, or lists of them, as in transformers: they
        get the whole batch, (rows, length) and (rows, n_vocab), padded as given, and a finished row
        is padded on. All sequences are then decoded together, so they must fit ``max_sequences``.
        streamer: an object with ``put`` and ``end``, for a single sequence; ``end`` is called
        however the call ends. tokenizer: this model's, which ``stop_strings`` use anyway.
        token_type_ids: all 0. negative_prompt_ids, negative_prompt_attention_mask: for
        ``guidance_scale``, one row for all prompts or one each.
        cancel: an event that ends the call when set, from any thread. overrides: fields of
        ``GenerationConfig``, and options that only transformers has at a value that changes
        nothing, such as ``use_cache=True``.

        Returns int64 (batch * num_return_sequences, length + new), padded on the right; torch
        tensors for torch input; a ``GenerateOutput`` with ``return_dict_in_generate=True``, or a
        ``GenerateBeamOutput`` with ``num_beams`` above 1.
        Sampling torch input without a seed draws one from torch's generator.
        Raises ValueError, TypeError, ContextFullError, DecodeError; GenerationInterrupted on
        Ctrl-C, whose ``partial`` holds what was generated.
        """
        with ending(streamer):
            if tokenizer is not None and tokenizer is not self.tokenizer:
                raise ValueError(
                    f"tokenizer must be this model's own, model.tokenizer, or left out, "
                    f"got {tokenizer!r}"
                )
            if is_config(attention_mask):  # transformers' second argument
                if generation_config is not None:
                    raise TypeError("generate() got two generation_configs")
                attention_mask, generation_config = None, attention_mask
            check_token_types(token_type_ids)
            call = self._requests.from_ids(
                one_of(input_ids, inputs, overrides),
                attention_mask,
                generation_config,
                overrides,
                logits_processor=logits_processor,
                stopping_criteria=stopping_criteria,
                cancel=cancel,
                negative=(negative_prompt_ids, negative_prompt_attention_mask),
            )
            if streamer is not None:
                check_streams(call.configs[0])
            if streamer is not None and len(call.sequences) != 1:
                raise ValueError(
                    f"a streamer takes one sequence, this call has {len(call.sequences)}"
                )
            with partial_on_error(lambda: results.generate_output(call)):
                self._driver.submit(call.request)
                if streamer is None:
                    self._driver.run(call.request)
                else:
                    put_tokens(streamer, call, self._driver)
        if streamer is not None:
            call.leave()
            with partial_on_error(lambda: results.generate_output(call)):
                streamer.end()
        return results.generated(call)

    # --- text API ---

    @overload
    def complete(
        self,
        prompts: str,
        *,
        num_return_sequences: int,
        generation_config: GenerationConfig | None = None,
        logits_processor: Functions | None = None,
        stopping_criteria: Functions | None = None,
        split_special_tokens: bool = False,
        cancel: threading.Event | None = None,
        progress: bool = False,
        **overrides: Any,
    ) -> Completion | list[Completion]: ...

    @overload
    def complete(
        self,
        prompts: str,
        *,
        generation_config: GenerationConfig | None = None,
        logits_processor: Functions | None = None,
        stopping_criteria: Functions | None = None,
        split_special_tokens: bool = False,
        cancel: threading.Event | None = None,
        progress: bool = False,
        **overrides: Any,
    ) -> Completion: ...

    @overload
    def complete(
        self,
        prompts: Sequence[Prompt],
        *,
        generation_config: GenerationConfig | Sequence[GenerationConfig] | None = None,
        logits_processor: Functions | None = None,
        stopping_criteria: Functions | None = None,
        split_special_tokens: bool = False,
        cancel: threading.Event | None = None,
        progress: bool = False,
        **overrides: Any,
    ) -> list[Completion]: ...

    def complete(
        self,
        prompts: str | Sequence[Prompt],
        *,
        generation_config: GenerationConfig | Sequence[GenerationConfig] | None = None,
        logits_processor: Functions | None = None,
        stopping_criteria: Functions | None = None,
        split_special_tokens: bool = False,
        cancel: threading.Event | None = None,
        progress: bool = False,
        **overrides: Any,
    ) -> Completion | list[Completion]:
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
        call = self._requests.from_texts(
            prompts,
            generation_config,
            overrides,
            split_special_tokens,
            cancel,
            logits_processor=logits_processor,
            stopping_criteria=stopping_criteria,
        )
        with partial_on_error(lambda: results.completions(call)):
            self._driver.submit(call.request)
            if progress:
                show_progress(call, self._driver)
            else:
                self._driver.run(call.request)
        return one_or_all(prompts, results.completions(call))

    def complete_iter(
        self,
        prompts: Sequence[Prompt],
        *,
        generation_config: GenerationConfig | Sequence[GenerationConfig] | None = None,
        logits_processor: Functions | None = None,
        stopping_criteria: Functions | None = None,
        split_special_tokens: bool = False,
        cancel: threading.Event | None = None,
        **overrides: Any,
    ) -> Iterator[tuple[int, Completion]]:
        """Yield the results of ``complete()`` as they are ready: (index in its list, Completion).

        Leaving the loop early cancels the rest.
        """
        call = self._requests.from_texts(
            prompts,
            generation_config,
            overrides,
            split_special_tokens,
            cancel,
            logits_processor=logits_processor,
            stopping_criteria=stopping_criteria,
        )
        call.leave()
        return as_they_finish(call, self._driver)

    def stream(
        self,
        prompt: Prompt,
        *,
        generation_config: GenerationConfig | None = None,
        logits_processor: Functions | None = None,
        stopping_criteria: Functions | None = None,
        split_special_tokens: bool = False,
        cancel: threading.Event | None = None,
        **overrides: Any,
    ) -> CompletionStream:
        """Continue one text piece by piece: iterate over the pieces, then read ``.completion``.

        Takes the arguments of ``complete()``, but no ``num_beams`` above 1: the best text is known
        only at its end. Other calls may run between two pieces.
        """
        call = self._requests.from_text(
            prompt,
            generation_config,
            overrides,
            split_special_tokens,
            cancel,
            logits_processor=logits_processor,
            stopping_criteria=stopping_criteria,
        )
        return CompletionStream(call, self._driver, self._backend.check_usable)

    @overload
    async def acomplete(
        self,
        prompts: str,
        *,
        generation_config: GenerationConfig | None = None,
        logits_processor: Functions | None = None,
        stopping_criteria: Functions | None = None,
        split_special_tokens: bool = False,
        **overrides: Any,
    ) -> Completion: ...

    @overload
    async def acomplete(
        self,
        prompts: Sequence[Prompt],
        *,
        generation_config: GenerationConfig | Sequence[GenerationConfig] | None = None,
        logits_processor: Functions | None = None,
        stopping_criteria: Functions | None = None,
        split_special_tokens: bool = False,
        **overrides: Any,
    ) -> list[Completion]: ...

    async def acomplete(
        self,
        prompts: str | Sequence[Prompt],
        *,
        generation_config: GenerationConfig | Sequence[GenerationConfig] | None = None,
        logits_processor: Functions | None = None,
        stopping_criteria: Functions | None = None,
        split_special_tokens: bool = False,
        **overrides: Any,
    ) -> Completion | list[Completion]:
        """Await ``complete()``: calls of one event loop run in one batch.

        Cancelling the task ends the generation.
        """
        call = self._requests.from_texts(
            prompts,
            generation_config,
            overrides,
            split_special_tokens,
            logits_processor=logits_processor,
            stopping_criteria=stopping_criteria,
        )
        with partial_on_error(lambda: results.completions(call)):
            await self._async_driver.run(call.request)
        return one_or_all(prompts, results.completions(call))

    async def astream(
        self,
        prompt: Prompt,
        *,
        generation_config: GenerationConfig | None = None,
        logits_processor: Functions | None = None,
        stopping_criteria: Functions | None = None,
        split_special_tokens: bool = False,
        **overrides: Any,
    ) -> AsyncGenerator[str, None]:
        """Iterate over ``stream()`` with ``async for``; leaving the loop ends the generation."""
        call = self._requests.from_text(
            prompt,
            generation_config,
            overrides,
            split_special_tokens,
            logits_processor=logits_processor,
            stopping_criteria=stopping_criteria,
        )
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

    def astream_rows(
        self,
        prompts: str | Sequence[Prompt],
        *,
        generation_config: GenerationConfig | Sequence[GenerationConfig] | None = None,
        logits_processor: Functions | None = None,
        stopping_criteria: Functions | None = None,
        split_special_tokens: bool = False,
        **overrides: Any,
    ) -> RowStream:
        """Return ``acomplete()`` as a stream of all its rows, ``num_return_sequences`` for each
        prompt.

        It is for ``async for``: each item is a list of ``RowUpdate``, what one or more steps gave.
        Leaving the loop inside ``async with aclosing(rows)`` ends the call. ``completions`` are
        the results. Replies to ``chat_prompt()`` are taken apart; the rows of a beam search come
        at its end. Errors, those of the arguments included, raise from the iteration.
        """
        rows = CallRows(self._async_driver)
        build = partial(
            self._requests.from_texts,
            prompts,
            generation_config,
            overrides,
            split_special_tokens,
            logits_processor=logits_processor,
            stopping_criteria=stopping_criteria,
        )
        return RowStream(rows.build_and_run(build), rows.completions)

    # --- chat ---

    @overload
    def chat(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        chat_template: str | None = None,
        continue_final_message: bool = False,
        template_variables: Mapping[str, Any] | None = None,
        split_special_tokens: bool = True,
        reply_format: str | None = None,
        tool_choice: str | None = None,
        parallel_tool_calls: bool | None = None,
        reasoning: Reasoning | None = None,
        **options: Any,
    ) -> Completion: ...

    @overload
    def chat(
        self,
        messages: Sequence[Sequence[Message]],
        *,
        tools: Sequence[Tool] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        chat_template: str | None = None,
        continue_final_message: bool = False,
        template_variables: Mapping[str, Any] | None = None,
        split_special_tokens: bool = True,
        reply_format: str | None = None,
        tool_choice: str | None = None,
        parallel_tool_calls: bool | None = None,
        reasoning: Reasoning | None = None,
        **options: Any,
    ) -> list[Completion]: ...

    def chat(
        self,
        messages: Sequence[Message] | Sequence[Sequence[Message]],
        *,
        tools: Sequence[Tool] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        chat_template: str | None = None,
        continue_final_message: bool = False,
        template_variables: Mapping[str, Any] | None = None,
        split_special_tokens: bool = True,
        reply_format: str | None = None,
        tool_choice: str | None = None,
        parallel_tool_calls: bool | None = None,
        reasoning: Reasoning | None = None,
        **options: Any,
    ) -> Completion | list[Completion]:
        """Answer a conversation, or several together.

        messages: dicts with "role" and "content"; the model answers the last one. tools: Python
        functions, or JSON schemas. tools to split_special_tokens: see
        ``Tokenizer.apply_chat_template``; template_variables: further variables of the template.
        reply_format: how the model writes reasoning and tool calls, such as "hermes"; None is what
        its chat template shows, "none" leaves the reply as it is.
        tool_choice: "auto" lets the model decide, "none" does not show it the tools, "required"
        makes it call at least one, the name of a tool that one. Calls then follow the format and
        the tools' schemas; with None, the default, nothing is enforced. parallel_tool_calls: False
        allows one call, and means "auto" if it is alone.
        reasoning: "off" or "on", where the chat template has a switch for it; "low", "medium" or
        "high", where it has an effort; a number of tokens, after which the reasoning is ended and
        the answer begins. None leaves it to the template.
        options: the arguments of ``complete()``.
        Returns a Completion for one conversation (a list of them with ``num_return_sequences`` >
        1), else a list. Raises TemplateError, and as ``complete()``.
        """
        prompts, several = self._chat_prompts(
            messages,
            tools=tools,
            documents=documents,
            chat_template=chat_template,
            continue_final_message=continue_final_message,
            template_variables=template_variables,
            split_special_tokens=split_special_tokens,
            reply_format=reply_format,
            tool_choice=tool_choice,
            parallel_tool_calls=parallel_tool_calls,
            reasoning=reasoning,
        )
        done = self.complete(prompts, **options)
        return done if several or len(done) > 1 else done[0]

    def chat_stream(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        chat_template: str | None = None,
        continue_final_message: bool = False,
        template_variables: Mapping[str, Any] | None = None,
        split_special_tokens: bool = True,
        reply_format: str | None = None,
        tool_choice: str | None = None,
        parallel_tool_calls: bool | None = None,
        reasoning: Reasoning | None = None,
        **options: Any,
    ) -> ChatStream:
        """Answer one conversation piece by piece; see ``chat()`` and ``stream()``.

        Iterating gives the text; ``deltas()`` also the reasoning and the tool calls.
        """
        prompt = self.chat_prompt(
            messages,
            tools=tools,
            documents=documents,
            chat_template=chat_template,
            continue_final_message=continue_final_message,
            template_variables=template_variables,
            split_special_tokens=split_special_tokens,
            reply_format=reply_format,
            tool_choice=tool_choice,
            parallel_tool_calls=parallel_tool_calls,
            reasoning=reasoning,
        )
        call = self._chat_call(prompt, **options)
        return ChatStream(call, self._driver, self._backend.check_usable)

    @overload
    async def achat(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        chat_template: str | None = None,
        continue_final_message: bool = False,
        template_variables: Mapping[str, Any] | None = None,
        split_special_tokens: bool = True,
        reply_format: str | None = None,
        tool_choice: str | None = None,
        parallel_tool_calls: bool | None = None,
        reasoning: Reasoning | None = None,
        **options: Any,
    ) -> Completion: ...

    @overload
    async def achat(
        self,
        messages: Sequence[Sequence[Message]],
        *,
        tools: Sequence[Tool] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        chat_template: str | None = None,
        continue_final_message: bool = False,
        template_variables: Mapping[str, Any] | None = None,
        split_special_tokens: bool = True,
        reply_format: str | None = None,
        tool_choice: str | None = None,
        parallel_tool_calls: bool | None = None,
        reasoning: Reasoning | None = None,
        **options: Any,
    ) -> list[Completion]: ...

    async def achat(
        self,
        messages: Sequence[Message] | Sequence[Sequence[Message]],
        *,
        tools: Sequence[Tool] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        chat_template: str | None = None,
        continue_final_message: bool = False,
        template_variables: Mapping[str, Any] | None = None,
        split_special_tokens: bool = True,
        reply_format: str | None = None,
        tool_choice: str | None = None,
        parallel_tool_calls: bool | None = None,
        reasoning: Reasoning | None = None,
        **options: Any,
    ) -> Completion | list[Completion]:
        """Await ``chat()``: calls of one event loop run in one batch.

        Cancelling the task ends the generation.
        """
        prompts, several = self._chat_prompts(
            messages,
            tools=tools,
            documents=documents,
            chat_template=chat_template,
            continue_final_message=continue_final_message,
            template_variables=template_variables,
            split_special_tokens=split_special_tokens,
            reply_format=reply_format,
            tool_choice=tool_choice,
            parallel_tool_calls=parallel_tool_calls,
            reasoning=reasoning,
        )
        done = await self.acomplete(prompts, **options)
        return done if several or len(done) > 1 else done[0]

    async def achat_stream(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        chat_template: str | None = None,
        continue_final_message: bool = False,
        template_variables: Mapping[str, Any] | None = None,
        split_special_tokens: bool = True,
        reply_format: str | None = None,
        tool_choice: str | None = None,
        parallel_tool_calls: bool | None = None,
        reasoning: Reasoning | None = None,
        **options: Any,
    ) -> AsyncGenerator[ReplyDelta, None]:
        """Iterate over the deltas of ``chat_stream()`` with ``async for``; leaving the loop ends
        the generation."""
        prompt = self.chat_prompt(
            messages,
            tools=tools,
            documents=documents,
            chat_template=chat_template,
            continue_final_message=continue_final_message,
            template_variables=template_variables,
            split_special_tokens=split_special_tokens,
            reply_format=reply_format,
            tool_choice=tool_choice,
            parallel_tool_calls=parallel_tool_calls,
            reasoning=reasoning,
        )
        call = self._chat_call(prompt, **options)
        async with aclosing(self._deltas(call, takes_apart=True)) as deltas:
            async for delta in deltas:
                yield delta

    def chat_prompt(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        chat_template: str | None = None,
        continue_final_message: bool = False,
        template_variables: Mapping[str, Any] | None = None,
        split_special_tokens: bool = True,
        reply_format: str | None = None,
        tool_choice: str | None = None,
        parallel_tool_calls: bool | None = None,
        reasoning: Reasoning | None = None,
    ) -> ChatPrompt:
        """Return a conversation as a prompt for ``complete()``, ``stream()`` and their async twins.

        They take the reply apart as ``chat()`` does, whose arguments these are. ``token_ids`` are
        those of the conversation.
        """
        return self._requests.chat_prompt(
            messages,
            tools=tools,
            documents=documents,
            chat_template=chat_template,
            continue_final_message=continue_final_message,
            template_variables=template_variables,
            split_special_tokens=split_special_tokens,
            reply_format=reply_format,
            tool_choice=tool_choice,
            parallel_tool_calls=parallel_tool_calls,
            reasoning=reasoning,
        )

    async def achat_prompt(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        chat_template: str | None = None,
        continue_final_message: bool = False,
        template_variables: Mapping[str, Any] | None = None,
        split_special_tokens: bool = True,
        reply_format: str | None = None,
        tool_choice: str | None = None,
        parallel_tool_calls: bool | None = None,
        reasoning: Reasoning | None = None,
    ) -> ChatPrompt:
        """Await ``chat_prompt()``, which runs in a thread: a long conversation takes a while."""
        return await self._in_thread(
            self.chat_prompt,
            messages,
            tools=tools,
            documents=documents,
            chat_template=chat_template,
            continue_final_message=continue_final_message,
            template_variables=template_variables,
            split_special_tokens=split_special_tokens,
            reply_format=reply_format,
            tool_choice=tool_choice,
            parallel_tool_calls=parallel_tool_calls,
            reasoning=reasoning,
        )

    async def _in_thread(self, function: Callable[..., T], *args: Any, **given: Any) -> T:
        """Return what a function of this model returns, called in a thread."""
        return await asyncio.to_thread(function, *args, **given)

    def _chat_prompts(
        self, messages: Sequence[Message] | Sequence[Sequence[Message]], **given: Any
    ) -> tuple[list[ChatPrompt], bool]:
        """Return one conversation or several as prompts, and whether they were several."""
        chats, several = as_conversations(messages)
        return [self.chat_prompt(chat, **given) for chat in chats], several

    def _chat_call(
        self,
        prompt: Prompt,
        *,
        generation_config: GenerationConfig | None = None,
        cancel: threading.Event | None = None,
        logits_processor: Functions | None = None,
        stopping_criteria: Functions | None = None,
        **overrides: Any,
    ) -> GenerationCall:
        """Return the call of one reply; the arguments are those of ``stream()``."""
        return self._requests.from_text(
            prompt,
            generation_config,
            overrides,
            False,
            cancel,
            logits_processor=logits_processor,
            stopping_criteria=stopping_criteria,
        )

    def run_tools(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Callable[..., Any]],
        max_rounds: int = 5,
        **options: Any,
    ) -> ToolRun:
        """Answer a conversation, and call the Python functions that the model asks for.

        tools: functions with type hints and a docstring. Each round is a reply and the calls in it,
        whose results the next reply sees; a reply without calls is the answer. max_rounds: the most
        replies. options: the arguments of ``chat()``; a ``tool_choice`` that makes the model call
        holds for the first round, and later ones are "auto", so that an answer can follow.
        An exception of a tool becomes the result of its call, as do a wrong name or arguments.
        Raises ValueError if the chat template shows no format of tool calls and ``reply_format``
        names none, TypeError for tools that are no functions, and as ``chat()``. Whatever is raised
        has ``tool_run``, what was done until then.
        """
        functions = functions_by_name(tools)
        template = self.tokenizer.get_chat_template(options.get("chat_template"), list(tools))
        form = calls_format(options.get("reply_format"), template)
        check_one_reply(options)
        chats, several = as_conversations(messages)
        if several:
            raise ValueError(f"run_tools() takes one conversation, got {len(chats)}")
        return ToolRunner(
            chat=lambda chat, given: self.chat(chat, tools=tools, **given),
            options=options,
            functions=functions,
            form=form,
            template=template,
            messages=chats[0],
            max_rounds=max_rounds,
        ).run()

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

    def score(self, text: Prompt, *, split_special_tokens: bool = False) -> npt.NDArray[np.float32]:
        """Return the log-probability of each token of ``text`` given the tokens before it.

        text: one text, or its token ids (n,).
        Returns float32 (n_tokens - 1,), natural logarithms. Raises ContextFullError.
        """
        sequence = self._requests.sequence_to_score(text, split_special_tokens)
        with partial_on_error(lambda: None), self._driver.alone() as (engine, interrupted):
            self._backend.check_usable()
            return engine.score(sequence, interrupted)

    def score_continuations(
        self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]
    ) -> list[ContinuationScore]:
        """Return the log-probability of given token ids after given token ids, for any number of
        pairs, and whether greedy decoding would write them.

        pairs: (token ids of a prompt, token ids that follow it), none empty. What prompts have in
        common is computed once, and equal pairs, too.
        Raises ContextFullError for a pair longer than n_ctx, KvBudgetError, DecodeError, TypeError
        or ValueError.
        """
        call = self._requests.continuations(pairs)
        self._run_all(call.requests())
        return call.results()

    async def ascore_tokens(self, token_ids: Sequence[int], *, top: int = 0) -> list[TokenLogprob]:
        """Return the log-probability of each token of a prompt after the first, given those before
        it, in the batch of all other calls.

        top: how many of the likeliest tokens each entry has besides. The sum over a text is that
        of ``score()``, which has the model alone. Raises ContextFullError, KvBudgetError,
        DecodeError, TypeError or ValueError.
        """
        request, found = self._requests.tokens_to_score(token_ids, top)
        with partial_on_error(lambda: None):
            if request is not None:
                await self._async_driver.run(request)
        return found()

    # --- choices ---

    def choose(
        self,
        prompt: Prompt,
        choices: Sequence[str],
        *,
        normalization: Normalization = "sum",
        unconditional_prompt: Prompt | None = None,
        split_special_tokens: bool = False,
    ) -> ChoiceScores:
        """Return the probability of each choice after a prompt; nothing is sampled.

        The log-probability of a choice, log P(choice | prompt), is the sum over all of its tokens.
        Each is tokenized together with the prompt. Include what belongs to it, such as the space
        before a word, or a line feed after it: without an end, " no" is at least as likely as
        " no one", which begins with it.

        normalization: the score whose softmax over the choices is their probability. "sum": log
        P(choice | prompt), so that probabilities are those of the model, given that it writes one
        of the choices (lm-evaluation-harness: ``acc``). "mean": log P(choice | prompt) / tokens of
        the choice, which long choices need not lose (``acc_norm`` divides by characters).
        "unconditional": log P(choice | prompt) - log P(choice | unconditional prompt), which
        discounts what is likely anywhere (``acc_mutual_info``).
        unconditional_prompt: what "unconditional" compares with; None is BOS alone, or EOS in a
        vocabulary without. split_special_tokens: see ``Tokenizer.encode``.

        Raises ValueError for an empty choice and for equal ones, ContextFullError for one that
        does not fit, KvBudgetError and DecodeError.
        """
        texts = checked_texts("choices", choices)
        call = self._requests.choosing(
            [prompt],
            texts,
            texts,
            normalization=normalization,
            unconditional_prompt=unconditional_prompt,
            split_special_tokens=split_special_tokens,
        )
        return self._chosen(call)[0]

    async def achoose(
        self,
        prompt: Prompt,
        choices: Sequence[str],
        *,
        normalization: Normalization = "sum",
        unconditional_prompt: Prompt | None = None,
        split_special_tokens: bool = False,
    ) -> ChoiceScores:
        """Await ``choose()``."""
        texts = checked_texts("choices", choices)
        call = self._requests.choosing(
            [prompt],
            texts,
            texts,
            normalization=normalization,
            unconditional_prompt=unconditional_prompt,
            split_special_tokens=split_special_tokens,
        )
        return (await self._achosen(call))[0]

    @overload
    def classify(
        self,
        texts: str,
        labels: Sequence[str],
        *,
        template: str = ...,
        instruction: str = ...,
        normalization: Normalization = ...,
        unconditional_prompt: Prompt | None = ...,
        split_special_tokens: bool = ...,
    ) -> ChoiceScores: ...

    @overload
    def classify(
        self,
        texts: list[str] | tuple[str, ...],
        labels: Sequence[str],
        *,
        template: str = ...,
        instruction: str = ...,
        normalization: Normalization = ...,
        unconditional_prompt: Prompt | None = ...,
        split_special_tokens: bool = ...,
    ) -> list[ChoiceScores]: ...

    def classify(
        self,
        texts: str | Sequence[str],
        labels: Sequence[str],
        *,
        template: str = LABEL_TEMPLATE,
        instruction: str = "",
        normalization: Normalization = "sum",
        unconditional_prompt: Prompt | None = None,
        split_special_tokens: bool = False,
    ) -> ChoiceScores | list[ChoiceScores]:
        """Return the probability of each label for a text, or for each of a list of texts.

        template: has {text} and then {label}, each once. What comes before {label} is the prompt;
        the label and what comes after it is scored. instruction: comes before the template, with an
        empty line between: what to do, or examples. It is computed once for all texts.
        normalization, unconditional_prompt, split_special_tokens: see ``choose()``.
        Returns ChoiceScores for a single text, else a list. Raises as ``choose()``.
        """
        call = self._classifying(
            *(texts, labels, template, instruction),
            normalization=normalization,
            unconditional_prompt=unconditional_prompt,
            split_special_tokens=split_special_tokens,
        )
        found = self._chosen(call)
        return found[0] if isinstance(texts, str) else found

    @overload
    async def aclassify(
        self,
        texts: str,
        labels: Sequence[str],
        *,
        template: str = ...,
        instruction: str = ...,
        normalization: Normalization = ...,
        unconditional_prompt: Prompt | None = ...,
        split_special_tokens: bool = ...,
    ) -> ChoiceScores: ...

    @overload
    async def aclassify(
        self,
        texts: list[str] | tuple[str, ...],
        labels: Sequence[str],
        *,
        template: str = ...,
        instruction: str = ...,
        normalization: Normalization = ...,
        unconditional_prompt: Prompt | None = ...,
        split_special_tokens: bool = ...,
    ) -> list[ChoiceScores]: ...

    async def aclassify(
        self,
        texts: str | Sequence[str],
        labels: Sequence[str],
        *,
        template: str = LABEL_TEMPLATE,
        instruction: str = "",
        normalization: Normalization = "sum",
        unconditional_prompt: Prompt | None = None,
        split_special_tokens: bool = False,
    ) -> ChoiceScores | list[ChoiceScores]:
        """Await ``classify()``."""
        call = self._classifying(
            *(texts, labels, template, instruction),
            normalization=normalization,
            unconditional_prompt=unconditional_prompt,
            split_special_tokens=split_special_tokens,
        )
        found = await self._achosen(call)
        return found[0] if isinstance(texts, str) else found

    def _classifying(
        self,
        texts: str | Sequence[str],
        labels: Sequence[str],
        template: str,
        instruction: str,
        **options: Any,
    ) -> Choosing:
        names = checked_texts("labels", labels)
        given = checked_documents(texts)
        prompts, choices = prompts_from_template(template, instruction, given, names)
        return self._requests.choosing(prompts, choices, names, **options)

    def _chosen(self, call: Choosing) -> list[ChoiceScores]:
        self._run_all(call.requests())
        return call.results()

    def _run_all(self, requests: Iterable[Request]) -> None:
        with partial_on_error(lambda: None):
            for request in requests:
                self._driver.submit(request)
                self._driver.run(request)

    async def _achosen(self, call: Choosing) -> list[ChoiceScores]:
        with partial_on_error(lambda: None):
            for request in call.requests():
                await self._async_driver.run(request)
        return call.results()

    # --- sessions ---

    def save_session(self, path: str | os.PathLike[str]) -> int:
        """Write the KV cache of finished texts and pinned prefixes to a file.

        ``load_session`` continues from it in another process. The file replaces what was at
        ``path`` as a whole or not at all; it holds the texts' tokens, and only its owner may read
        it. Returns how many sequences it holds.
        Raises StateError where the model's state cannot be saved, OSError where the file cannot be
        written.
        """
        return self._sessions.save(Path(path))

    def load_session(self, path: str | os.PathLike[str]) -> int:
        """Load what ``save_session`` wrote: a prompt that begins like it computes only the rest.

        Returns how many sequences were loaded. Those longer than n_ctx are left out and, if the KV
        budget or max_sequences leaves no room, those used least recently.
        Raises FileNotFoundError if there is no such file, and StateError if it is damaged, if it
        was saved by another model, version of llama.cpp or with other settings (it says which), or
        if not even the sequence used last fits. What was cached before then still is.
        """
        return self._sessions.load(Path(path))


def _check_source(source: object) -> None:
    if not isinstance(source, str | os.PathLike) or not os.fspath(source):
        raise (ValueError if source == "" else TypeError)(
            f"source must be the path of a .gguf file, a name on the Hub like 'org/repo', or an "
            f"alias like 'smollm2', got {source!r}"
        )
