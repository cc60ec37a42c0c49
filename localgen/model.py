"""LocalModel: the façade. Each method is a thin view of the one generation loop."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from localgen import hub
from localgen.arrays import id_row, parse_prompts, to_torch
from localgen.call import Call, as_hooks
from localgen.completion import Completion
from localgen.config import GenerationConfig, ModelConfig, replace_options
from localgen.engine.backend import TokenIds
from localgen.engine.scoring import score as engine_score
from localgen.errors import ContextFullError, GenerationInterrupted, LocalgenError
from localgen.options import eos_token_ids, pad_token_id, with_sampling_resolved
from localgen.tokenizer import Tokenizer

Prompt = str | Sequence[int]


class LocalModel:
    """A GGUF model that generates; close it, or use it in a ``with`` block.

    Calls from several threads are serialised. ``device`` is where token ids live, always "cpu".
    """

    device = "cpu"

    def __init__(self, backend: Any, config: ModelConfig) -> None:
        """For ``from_pretrained``, and for tests with a backend of their own."""
        self.config = config
        self.tokenizer = Tokenizer(backend.vocab)
        self._backend = backend
        self._lock = threading.RLock()
        self._in_use = False

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike[str],
        *,
        progress: Callable[[float], object] | None = None,
        **options: Any,
    ) -> LocalModel:
        """Load a model.

        source: "smollm2" (with the extra of that name installed), or the path of a .gguf file.
        progress: called with the loaded fraction, 0 to 1; what it raises stops the load.
        options: the fields of ``ModelConfig``.
        Raises ModelNotFoundError, InvalidGGUFError, BackendError, or ValueError for an option.
        """
        config = replace_options(ModelConfig(), options)
        path = hub.resolve(source)
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

    def close(self) -> None:
        """Free the model; calling it again does nothing. Later calls raise ClosedError."""
        if self._backend.is_forked:
            # A thread that does not exist in this process may have held the lock for ever.
            self._backend.close()
            return
        with self._lock:
            self._refuse_reentry()
            self._backend.close()

    # --- transformers' API ---

    def generate(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        *,
        generation_config: GenerationConfig | None = None,
        logits_processor: Iterable[Callable[..., Any]] | None = None,
        stopping_criteria: Iterable[Callable[..., Any]] | None = None,
        streamer: Any = None,
        **overrides: Any,
    ) -> Any:
        """Continue a batch of token ids, as ``transformers``' ``generate()`` does.

        input_ids: (batch, length) integers, padded on either side with ``attention_mask`` 0 there.
        logits_processor, stopping_criteria: functions (or lists of them) of (input_ids, scores),
        called for each row alone as a batch of one, without padding; stopping criteria get None as
        scores. streamer: anything with ``put`` and ``end``, for a single row. overrides: fields of
        ``GenerationConfig``.

        Returns int64 (batch * num_return_sequences, length + new), padded on the right; torch
        tensors for torch input; a ``GenerateOutput`` with ``return_dict_in_generate=True``.
        Raises ValueError, TypeError, ContextFullError, DecodeError; GenerationInterrupted on
        Ctrl-C, with what was generated as ``partial``.
        """
        started = time.perf_counter()
        config = replace_options(generation_config or GenerationConfig(), overrides)
        config = with_sampling_resolved(config, infer=False)
        _check_generate_options(config)
        vocab = self.tokenizer
        with self._locked():
            pad = pad_token_id(config, vocab.pad_token_id, vocab.vocab_size)
            eos = eos_token_ids(config, vocab.eos_token_ids, vocab.vocab_size)
            ends = eos.union(vocab.eos_token_ids)
            prompts = parse_prompts(input_ids, attention_mask, vocab.vocab_size, pad, ends)
            width = prompts.matrix.shape[1]
            hooks = as_hooks(logits_processor, stopping_criteria, prompts.is_torch)
            call = self._call(
                config, prompts.rows, [width] * len(prompts.rows), started, hooks=hooks
            )
            if streamer is not None and len(call.sequences) != 1:
                raise ValueError(
                    f"a streamer takes one row, and this call has {len(call.sequences)}"
                )
            pad = pad if pad is not None else min(eos, default=0)
            with _partial_on_error(lambda: call.output(prompts, pad)):
                if streamer is None:
                    _run(call)
                else:
                    _stream_to(streamer, call, prompts.matrix, prompts.is_torch)
            output = call.output(prompts, pad)
        return output if config.return_dict_in_generate else output.sequences

    # --- text API ---

    @overload
    def complete(
        self,
        prompts: str,
        *,
        generation_config: GenerationConfig | None = None,
        split_special_tokens: bool = False,
        **overrides: Any,
    ) -> Completion: ...

    @overload
    def complete(
        self,
        prompts: Sequence[Prompt],
        *,
        generation_config: GenerationConfig | None = None,
        split_special_tokens: bool = False,
        **overrides: Any,
    ) -> list[Completion]: ...

    def complete(
        self,
        prompts: str | Sequence[Prompt],
        *,
        generation_config: GenerationConfig | None = None,
        split_special_tokens: bool = False,
        **overrides: Any,
    ) -> Completion | list[Completion]:
        """Continue one text, or several together.

        prompts: a text, or a list whose items are texts or lists of token ids.
        split_special_tokens: see ``Tokenizer.encode``. overrides: fields of ``GenerationConfig``.
        Returns a Completion for a single text (a list of them with ``num_return_sequences`` > 1),
        else a list: ``num_return_sequences`` in a row for each prompt. Raises as ``generate()``.
        """
        started = time.perf_counter()
        config = self._text_config(generation_config, overrides)
        with self._locked():
            texts = [prompts] if isinstance(prompts, str) else prompts
            call = self._text_call(texts, config, split_special_tokens, started)
            with _partial_on_error(call.completions):
                _run(call)
            completions = call.completions()
        single = isinstance(prompts, str) and config.num_return_sequences == 1
        return completions[0] if single else completions

    def stream(
        self,
        prompt: Prompt,
        *,
        generation_config: GenerationConfig | None = None,
        split_special_tokens: bool = False,
        **overrides: Any,
    ) -> CompletionStream:
        """Continue one text, piece by piece: iterate for the pieces, then read ``.completion``.

        Takes the arguments of ``complete()``. Another call may come between two pieces; the
        stream goes on after it, computing again what that call displaced.
        """
        started = time.perf_counter()
        config = self._text_config(generation_config, overrides)
        if config.num_return_sequences != 1:
            raise ValueError(
                f"stream() gives one text; num_return_sequences is {config.num_return_sequences}"
            )
        with self._locked():
            call = self._text_call([prompt], config, split_special_tokens, started)
        return CompletionStream(call, self._locked)

    def score(self, text: Prompt, *, split_special_tokens: bool = False) -> npt.NDArray[np.float32]:
        """Log-probability of each token of ``text`` after the tokens before it.

        Returns float32 (n_tokens - 1,), natural logarithms. Raises ContextFullError.
        """
        with self._locked():
            token_ids = self._token_ids(text, split_special_tokens, "text")
            if len(token_ids) > self.config.n_ctx:
                raise ContextFullError(len(token_ids), self.config.n_ctx)
            return engine_score(self._backend, token_ids)

    # --- the parts of a call ---

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """The right to use the backend; other threads wait."""
        self._backend.check_usable()  # before the lock: after a fork nobody may ever free it
        with self._lock:
            self._refuse_reentry()
            self._backend.check_usable()
            self._in_use = True
            try:
                yield
            finally:
                self._in_use = False

    def _refuse_reentry(self) -> None:
        if self._in_use:
            raise RuntimeError(
                "the model was called by its own callback (a logits processor, stopping "
                "criterion or streamer); use a second model there"
            )

    def _text_config(
        self, config: GenerationConfig | None, overrides: dict[str, Any]
    ) -> GenerationConfig:
        config = replace_options(config or GenerationConfig(), overrides)
        for name in ("return_dict_in_generate", "output_scores", "output_logits"):
            if getattr(config, name):
                raise ValueError(f"{name} is for generate(); here use logprobs=n")
        return with_sampling_resolved(config, infer=True)

    def _text_call(
        self,
        prompts: Sequence[Prompt],
        config: GenerationConfig,
        split_special_tokens: bool,
        started: float,
    ) -> Call:
        if not isinstance(prompts, Iterable):
            raise TypeError(
                f"prompts must be a text or a list of texts or token ids, got {prompts!r}"
            )
        prompts = list(prompts)
        if not prompts:
            raise ValueError("the batch is empty: pass at least one prompt")
        before = time.perf_counter()
        rows = [
            self._token_ids(prompt, split_special_tokens, f"prompt {index}")
            for index, prompt in enumerate(prompts)
        ]
        text_seconds = time.perf_counter() - before
        widths = [len(row) for row in rows]
        return self._call(config, rows, widths, started, keep_text=True, text_seconds=text_seconds)

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
        config: GenerationConfig,
        rows: list[TokenIds],
        widths: list[int],
        started: float,
        **options: Any,
    ) -> Call:
        return Call(
            self._backend,
            self.tokenizer,
            config,
            rows,
            n_ctx=self.config.n_ctx,
            widths=widths,
            started=started,
            **options,
        )


class CompletionStream:
    """An iterator over the pieces of one text; ``completion`` is what there is so far.

    Closing it, or dropping it, ends the generation.
    """

    def __init__(self, call: Call, locked: Callable[[], Any]) -> None:
        self._call = call
        self._locked = locked
        self._ended = False

    def __iter__(self) -> CompletionStream:
        return self

    def __next__(self) -> str:
        text = self._call.text_checks[0].stream
        while not self._ended:
            try:
                self._step()
            except (LocalgenError, KeyboardInterrupt) as error:
                self._ended = True
                _reraise_with_partial(error, self._call.completions)
            if self._call.loop.done:
                self._ended = True
                text.finish()
            piece = text.take()
            if piece:
                return piece
        raise StopIteration

    def close(self) -> None:
        """End the generation; what came so far stays in ``completion``."""
        if not self._ended:
            self._ended = True
            self._call.loop.finish("cancelled")

    @property
    def completion(self) -> Completion:
        """The Completion: "cancelled" if the stream was closed before its end."""
        return self._call.completions()[0]

    def _step(self) -> None:
        with self._locked(), self._call.clock():
            self._call.loop.step()


def _run(call: Call) -> None:
    with call.clock():
        while not call.loop.done:
            call.loop.step()


def _stream_to(streamer: Any, call: Call, prompt: npt.NDArray[np.int64], use_torch: bool) -> None:
    """``_run`` for one row, with each token put to ``streamer`` as transformers does."""
    wrap: Callable[[Any], Any] = to_torch if use_torch else np.asarray
    streamer.put(wrap(prompt))
    while not call.loop.done:
        with call.clock():
            stepped = call.loop.step()
        for sequence in stepped:
            streamer.put(wrap(np.array([sequence.last_token], np.int64)))
    streamer.end()


@contextmanager
def _partial_on_error(results: Callable[[], object]) -> Iterator[None]:
    """Errors and Ctrl-C inside carry ``results()`` as ``partial``."""
    try:
        yield
    except (LocalgenError, KeyboardInterrupt) as error:
        _reraise_with_partial(error, results)


def _reraise_with_partial(
    error: LocalgenError | KeyboardInterrupt, results: Callable[[], object]
) -> None:
    if isinstance(error, LocalgenError):
        error.partial = results()
        raise error
    interrupted = GenerationInterrupted("generation was interrupted")
    interrupted.partial = results()
    raise interrupted from error


def _check_generate_options(config: GenerationConfig) -> None:
    if config.logprobs is not None:
        raise ValueError("logprobs is for complete() and stream(); here use output_logits=True")
    asked = [name for name in ("output_scores", "output_logits") if getattr(config, name)]
    if asked and not config.return_dict_in_generate:
        raise ValueError(f"{' and '.join(asked)} needs return_dict_in_generate=True")
