"""LocalModel: the façade. Each method is a thin view of the one generation loop."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt

from localgen import hub, session
from localgen.arrays import id_row, parse_prompts, to_torch
from localgen.background import Background
from localgen.call import Call, as_hooks
from localgen.completion import Completion
from localgen.config import GenerationConfig, ModelConfig, replace_options
from localgen.engine.backend import TokenIds
from localgen.engine.kv_cache import Entry, KvCache
from localgen.engine.loop import Loop
from localgen.engine.sampler import Sampler, SamplingOptions
from localgen.engine.sequence import Sequence as Row
from localgen.engine.turns import Turns
from localgen.errors import CLOSED, ClosedError, ContextFullError, StateError
from localgen.options import (
    check_generate_options,
    check_text_options,
    eos_token_ids,
    pad_token_id,
    resolved_configs,
)
from localgen.prefix import Prefix
from localgen.progress import show_progress
from localgen.stream import CompletionStream, partial_on_error
from localgen.tokenizer import Tokenizer

if TYPE_CHECKING:
    from localgen.chat_template import Message
    from localgen.tool_schema import Tool

Prompt = str | Sequence[int]


class LocalModel:
    """A GGUF model that generates; close it, or use it in a ``with`` block.

    Calls from several threads, and ``async`` ones, run together in one batch. ``device`` is where
    token ids live, always "cpu".
    """

    device = "cpu"

    def __init__(self, backend: Any, config: ModelConfig) -> None:
        """For ``from_pretrained``, and for tests with a backend of their own."""
        self.config = config
        self.tokenizer = Tokenizer(backend.vocab)
        self._backend = backend
        self._loop = Loop(backend, config.max_sequences, deterministic=config.deterministic)
        self._turns = Turns(self._loop)
        self._background = Background(self._turns)

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike[str],
        *,
        revision: str | None = None,
        local_files_only: bool = False,
        progress: Callable[[float], object] | None = None,
        **options: Any,
    ) -> LocalModel:
        """Load a model.

        source: the path of a .gguf file; "org/repo", "org/repo:Q4_K_M" or "org/repo/file.gguf" on
        the Hugging Face Hub, perhaps with "@revision"; or an alias, as "smollm2" (with the extra of
        that name installed). With no level named it is Q4_K_M, else the nearest one.
        revision: a branch, a tag or a commit. local_files_only: make no request.
        progress: called with the loaded fraction, 0 to 1; what it raises stops the load.
        options: the fields of ``ModelConfig``.
        Raises ModelNotFoundError, DownloadError, InvalidGGUFError, BackendError, or ValueError.
        """
        config = replace_options(ModelConfig(), options)
        path = hub.resolve(source, revision=revision, local_files_only=local_files_only)
        # llama.cpp is loaded only now, so that importing localgen stays light.
        from localgen.llama.backend import LlamaBackend  # noqa: PLC0415

        return cls(LlamaBackend(path, config, progress), config)

    def __repr__(self) -> str:
        return (
            f"LocalModel({getattr(self._backend, 'path', 'closed')!s}, n_ctx={self.config.n_ctx})"
        )

    def __enter__(self) -> LocalModel:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def sampling_defaults(self) -> dict[str, float]:
        """The sampling options that the model's file asks for (``general.sampling``).

        The text API and ``chat()`` take them for options that the caller does not name, unless
        there is a ``generation_config`` or ``do_sample=False``; ``generate()`` never does.
        """
        return dict(self._backend.sampling_defaults)

    def close(self) -> None:
        """Free the model; calling it again does nothing.

        Calls that still run in other threads, and all later ones, raise ClosedError.
        """
        if not self._backend.is_forked:  # else a thread that this process lacks may hold the turn
            self._turns.close(ClosedError(CLOSED))
        self._backend.close()

    # --- transformers' API ---

    def generate(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        *,
        generation_config: GenerationConfig | Sequence[GenerationConfig] | None = None,
        logits_processor: Iterable[Callable[..., Any]] | None = None,
        stopping_criteria: Iterable[Callable[..., Any]] | None = None,
        streamer: Any = None,
        cancel: threading.Event | None = None,
        **overrides: Any,
    ) -> Any:
        """Continue a batch of token ids, as ``transformers``' ``generate()`` does.

        input_ids: (batch, length) integers, padded on either side with ``attention_mask`` 0 there.
        generation_config: one, or one a prompt. logits_processor, stopping_criteria: functions (or
        lists of them) of (input_ids, scores), called for each row alone as a batch of one, without
        padding; stopping criteria get None as scores. streamer: anything with ``put`` and ``end``,
        for a single row. cancel: an event that ends the call when set, from any thread. overrides:
        fields of ``GenerationConfig``.

        Returns int64 (batch * num_return_sequences, length + new), padded on the right; torch
        tensors for torch input; a ``GenerateOutput`` with ``return_dict_in_generate=True``.
        Raises ValueError, TypeError, ContextFullError, DecodeError; GenerationInterrupted on
        Ctrl-C, with what was generated as ``partial``.
        """
        started = time.perf_counter()
        configs = resolved_configs(generation_config, overrides, infer=False)
        config = configs[0]
        check_generate_options(configs)
        vocab = self.tokenizer
        self._backend.check_usable()
        pad = pad_token_id(config, vocab.pad_token_id, vocab.vocab_size)
        eos = eos_token_ids(config, vocab.eos_token_ids, vocab.vocab_size)
        ends = eos.union(vocab.eos_token_ids)
        prompts = parse_prompts(input_ids, attention_mask, vocab.vocab_size, pad, ends)
        widths = [prompts.matrix.shape[1]] * len(prompts.rows)
        hooks = as_hooks(logits_processor, stopping_criteria, prompts.is_torch)
        call = self._call(configs, prompts.rows, widths, started, hooks=hooks, cancel=cancel)
        if streamer is not None and len(call.sequences) != 1:
            raise ValueError(f"a streamer takes one row, and this call has {len(call.sequences)}")
        pad = pad if pad is not None else min(eos, default=0)
        with partial_on_error(lambda: call.output(prompts, pad)):
            self._turns.submit(call.request)
            if streamer is None:
                self._turns.run(call.request)
            else:
                self._stream_to(streamer, call, prompts.matrix, prompts.is_torch)
        output = call.output(prompts, pad)
        return output if config.return_dict_in_generate else output.sequences

    def _stream_to(
        self, streamer: Any, call: Call, prompt: npt.NDArray[np.int64], use_torch: bool
    ) -> None:
        """Run one row, with each token put to ``streamer`` as transformers does."""
        wrap: Callable[[Any], Any] = to_torch if use_torch else np.asarray
        (row,) = call.sequences
        n_put = 0
        try:
            streamer.put(wrap(prompt))
            while n_put < row.n_new or not call.request.done:
                self._turns.run(call.request, lambda n=n_put: row.n_new > n)  # type: ignore[misc]
                for token_id in row.new_token_ids[n_put:].tolist():
                    n_put += 1
                    streamer.put(wrap(np.array([token_id], np.int64)))
            self._turns.run(call.request)  # raises what ended it between two tokens
        except BaseException:  # of the streamer, perhaps
            self._turns.cancel(call.request)
            raise
        streamer.end()

    # --- text API ---

    @overload
    def complete(
        self,
        prompts: str,
        *,
        generation_config: GenerationConfig | None = None,
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
        split_special_tokens: bool = False,
        cancel: threading.Event | None = None,
        progress: bool = False,
        **overrides: Any,
    ) -> Completion | list[Completion]:
        """Continue one text, or any number of them together.

        prompts: a text, or a list whose items are texts or lists of token ids.
        generation_config: one, or one a prompt. split_special_tokens: see ``Tokenizer.encode``.
        cancel: an event that ends the call when set, from any thread. progress: show a bar on
        stderr. overrides: fields of ``GenerationConfig``.
        Returns a Completion for a single text (a list of them with ``num_return_sequences`` > 1),
        else a list: ``num_return_sequences`` in a row for each prompt. Raises as ``generate()``.
        """
        call = self._text_call(
            prompts, generation_config, overrides, split_special_tokens, cancel=cancel
        )
        with partial_on_error(call.completions):
            self._turns.submit(call.request)
            if progress:
                show_progress(call, self._turns)
            else:
                self._turns.run(call.request)
        return _one_or_all(prompts, call.completions())

    def complete_iter(
        self,
        prompts: Sequence[Prompt],
        *,
        generation_config: GenerationConfig | Sequence[GenerationConfig] | None = None,
        split_special_tokens: bool = False,
        cancel: threading.Event | None = None,
        **overrides: Any,
    ) -> Iterator[tuple[int, Completion]]:
        """``complete()`` whose results come as they are ready: (index in its list, Completion).

        Leaving the loop early cancels the rest.
        """
        call = self._text_call(
            prompts, generation_config, overrides, split_special_tokens, cancel=cancel
        )
        return self._as_they_finish(call)

    def _as_they_finish(self, call: Call) -> Iterator[tuple[int, Completion]]:
        waiting = dict(enumerate(call.sequences))
        try:
            with partial_on_error(call.completions):
                self._turns.submit(call.request)
                while waiting:
                    self._turns.run(
                        call.request, lambda: any(row.finish_reason for row in waiting.values())
                    )
                    for index in [i for i, row in waiting.items() if row.finish_reason]:
                        del waiting[index]
                        yield index, call.completion(index)
        finally:
            call.request.is_cancelled = True

    def stream(
        self,
        prompt: Prompt,
        *,
        generation_config: GenerationConfig | None = None,
        split_special_tokens: bool = False,
        cancel: threading.Event | None = None,
        **overrides: Any,
    ) -> CompletionStream:
        """Continue one text, piece by piece: iterate for the pieces, then read ``.completion``.

        Takes the arguments of ``complete()``. Other calls may come between two pieces.
        """
        call = self._text_call(
            [prompt], generation_config, overrides, split_special_tokens, cancel=cancel
        )
        _check_one_row(call)
        return CompletionStream(call, self._turns, self._backend.check_usable)

    async def acomplete(
        self,
        prompts: str | Sequence[Prompt],
        *,
        generation_config: GenerationConfig | Sequence[GenerationConfig] | None = None,
        split_special_tokens: bool = False,
        **overrides: Any,
    ) -> Any:
        """``complete()`` for ``await``: calls of one event loop run in one batch.

        Cancelling the task ends the generation.
        """
        call = self._text_call(prompts, generation_config, overrides, split_special_tokens)
        with partial_on_error(call.completions):
            await self._background.run(call.request)
        return _one_or_all(prompts, call.completions())

    async def astream(
        self,
        prompt: Prompt,
        *,
        generation_config: GenerationConfig | None = None,
        split_special_tokens: bool = False,
        **overrides: Any,
    ) -> AsyncIterator[str]:
        """``stream()`` for ``async for``; leaving the loop ends the generation."""
        call = self._text_call([prompt], generation_config, overrides, split_special_tokens)
        _check_one_row(call)
        text = call.text_checks[0].stream
        with partial_on_error(call.completions):
            async for _ in self._background.steps(call.request, lambda: text.has_more):
                if call.request.done:
                    text.finish()
                if piece := text.take():
                    yield piece

    # --- chat ---

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
        **options: Any,
    ) -> Any:
        """Answer a conversation, or several together.

        messages: dicts with "role" and "content", the last one for the model to answer. tools:
        Python functions, or JSON schemas. tools to split_special_tokens: see
        ``Tokenizer.apply_chat_template``; template_variables are its further ones. options: the
        arguments of ``complete()``.
        Returns a Completion for one conversation (a list of them with ``num_return_sequences`` >
        1), else a list. Raises TemplateError, and as ``complete()``.
        """
        several = bool(messages) and not isinstance(messages[0], Mapping)
        chats: Any = messages if several else [messages]
        prompts = [
            self._chat_prompt(
                chat,
                tools=tools,
                documents=documents,
                chat_template=chat_template,
                continue_final_message=continue_final_message,
                split_special_tokens=split_special_tokens,
                variables=template_variables,
            )
            for chat in chats
        ]
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
        **options: Any,
    ) -> CompletionStream:
        """``chat()`` for one conversation, piece by piece; see ``stream()``."""
        prompt = self._chat_prompt(
            messages,
            tools=tools,
            documents=documents,
            chat_template=chat_template,
            continue_final_message=continue_final_message,
            split_special_tokens=split_special_tokens,
            variables=template_variables,
        )
        return self.stream(prompt, **options)

    def _chat_prompt(
        self,
        messages: Sequence[Message],
        *,
        continue_final_message: bool,
        variables: Mapping[str, Any] | None,
        **given: Any,
    ) -> list[int]:
        self._backend.check_usable()
        ids: list[int] = self.tokenizer.apply_chat_template(
            messages,
            add_generation_prompt=not continue_final_message,
            continue_final_message=continue_final_message,
            return_dict=False,
            **given,
            **(variables or {}),
        )
        return ids

    def prefill(self, text: Prompt, *, split_special_tokens: bool = False) -> Prefix:
        """Compute the beginning of later prompts, and pin it in the KV cache.

        Raises ContextFullError, BackendError where another pinned prefix does not fit.
        """
        started = time.perf_counter()
        self._backend.check_usable()
        token_ids = self._token_ids(text, split_special_tokens, "text")
        config = GenerationConfig(max_new_tokens=1, do_sample=False)
        call = self._call([config], [token_ids], [len(token_ids)], started)
        (row,) = call.sequences
        row.pins = True
        self._turns.submit(call.request)
        self._turns.run(call.request)
        return Prefix(self, token_ids, row)

    def score(self, text: Prompt, *, split_special_tokens: bool = False) -> npt.NDArray[np.float32]:
        """Log-probability of each token of ``text`` after the tokens before it.

        Returns float32 (n_tokens - 1,), natural logarithms. Raises ContextFullError.
        """
        self._backend.check_usable()
        token_ids = self._token_ids(text, split_special_tokens, "text")
        if len(token_ids) > self.config.n_ctx:
            raise ContextFullError(len(token_ids), self.config.n_ctx)
        row = Row(
            row=0,
            prompt_ids=token_ids,
            max_new_tokens=0,
            eos_token_ids=frozenset(),
            sampler=Sampler(SamplingOptions(), self.tokenizer.vocab_size),
            uniform=float,
        )
        with self._turns.alone():
            self._backend.check_usable()
            return self._loop.score(row)

    # --- sessions ---

    def save_session(self, path: str | os.PathLike[str]) -> int:
        """Write what is computed of finished texts and pinned prefixes to a file.

        ``load_session`` takes it up in another process. The file replaces what was at ``path`` as a
        whole or not at all; it holds the texts' tokens, and only its owner may read it. Returns how
        many sequences it holds.
        Raises StateError where the model's state cannot be saved, OSError where the file cannot be
        written.
        """
        self._check_sessions()
        with self._alone_with_cache() as kv_cache:
            saved = kv_cache.save()
        session.write(Path(path), self._backend.state_identity, saved)
        return len(saved)

    def load_session(self, path: str | os.PathLike[str]) -> int:
        """Take up what ``save_session`` wrote: a prompt that begins so computes only what follows.

        Returns how many sequences came back. Those that are longer than n_ctx are left out and,
        where the KV budget or max_sequences leaves no room, those used least recently.
        Raises FileNotFoundError if there is no such file, and StateError if it is damaged, if it
        was saved by another model, version of llama.cpp or with other settings (it says which), or
        if not even the sequence used last fits. What was cached before is then still there.
        """
        self._check_sessions()
        saved = session.read(Path(path), self._backend.state_identity)
        n_ctx = self.config.n_ctx
        if saved and len(saved[-1].token_ids) > n_ctx:
            raise StateError(
                f"{path} ends with a sequence of {len(saved[-1].token_ids)} tokens and n_ctx is "
                f"{n_ctx}: load the model with a larger n_ctx"
            )
        with self._alone_with_cache() as kv_cache:
            return kv_cache.restore([each for each in saved if len(each.token_ids) <= n_ctx])

    def _check_sessions(self) -> None:
        """StateError unless what this model computes can be kept in a file."""
        self._backend.check_usable()
        obstacle = self._backend.not_saved_because
        if self.config.deterministic:
            obstacle = "with deterministic=True nothing that was computed is used again"
        if obstacle:
            raise StateError(f"this model can have no sessions: {obstacle}")

    @contextmanager
    def _alone_with_cache(self) -> Iterator[KvCache]:
        """The KV cache between two steps; an error inside leaves nothing half done."""
        with self._turns.alone():
            self._backend.check_usable()
            try:
                yield self._loop.kv_cache
            except StateError:
                raise
            except BaseException:
                self._loop.start_afresh()
                raise

    def _unpin(self, entry: Entry) -> None:
        with self._turns.alone():
            self._loop.kv_cache.unpin(entry)

    # --- the parts of a call ---

    def _text_call(
        self,
        prompts: str | Sequence[Prompt],
        config: GenerationConfig | Sequence[GenerationConfig] | None,
        overrides: dict[str, Any],
        split_special_tokens: bool,
        cancel: threading.Event | None = None,
    ) -> Call:
        started = time.perf_counter()
        if config is None and overrides.get("do_sample") is not False:
            overrides = {**self.sampling_defaults, **overrides}
        configs = resolved_configs(config, overrides, infer=True)
        for each in configs:
            check_text_options(each)
        self._backend.check_usable()
        texts = _prompt_list(prompts)
        before = time.perf_counter()
        rows = [
            self._token_ids(
                prompt, split_special_tokens, f"prompt {index}" if len(texts) > 1 else "the prompt"
            )
            for index, prompt in enumerate(texts)
        ]
        text_seconds = time.perf_counter() - before
        return self._call(
            configs,
            rows,
            [len(row) for row in rows],
            started,
            keep_text=True,
            text_seconds=text_seconds,
            cancel=cancel,
        )

    def _token_ids(self, prompt: Prompt, split_special_tokens: bool, what: str) -> TokenIds:
        if not isinstance(prompt, str):
            return id_row(prompt, self.tokenizer.vocab_size, what)
        ids = self.tokenizer.encode(prompt, split_special_tokens=split_special_tokens)
        if not ids:
            raise ValueError(
                f"{what} is empty: it has no tokens, and this model adds none of its own"
            )
        return np.array(ids, np.int32)

    def _call(
        self,
        configs: list[GenerationConfig],
        rows: list[TokenIds],
        widths: list[int],
        started: float,
        **options: Any,
    ) -> Call:
        if len(configs) not in (1, len(rows)):
            raise ValueError(
                f"generation_config has {len(configs)} entries for {len(rows)} prompts; give one "
                f"for all, or one a prompt"
            )
        n_ctx = self.config.n_ctx
        call = Call(
            self.tokenizer, configs, rows, n_ctx=n_ctx, widths=widths, started=started, **options
        )
        self._loop.kv_cache.check_fits(max(len(row.tokens) for row in call.sequences))
        return call


def _prompt_list(prompts: str | Sequence[Prompt]) -> list[Prompt]:
    if isinstance(prompts, str):
        return [prompts]
    if not isinstance(prompts, Iterable):
        raise TypeError(f"prompts must be a text or a list of texts or token ids, got {prompts!r}")
    prompts = list(prompts)
    if not prompts:
        raise ValueError("the batch is empty: pass at least one prompt")
    return prompts


def _check_one_row(call: Call) -> None:
    if len(call.sequences) != 1:
        raise ValueError(f"stream() gives one text; num_return_sequences is {len(call.sequences)}")


def _one_or_all(
    prompts: str | Sequence[Prompt], completions: list[Completion]
) -> Completion | list[Completion]:
    single = isinstance(prompts, str) and len(completions) == 1
    return completions[0] if single else completions
