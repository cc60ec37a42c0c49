"""What a method of LocalModel was given → a Call: prompts as token ids, every option checked."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from localgen.completion import Completion, GenerateOutput
from localgen.config import GenerationConfig
from localgen.engine.backend import TokenIds
from localgen.engine.kv_cache import KvCache
from localgen.engine.sampling.chain import Sampler, SamplingOptions
from localgen.engine.sequence import Sequence as Row
from localgen.errors import ContextFullError
from localgen.generation.call import GenerationCall, as_hooks
from localgen.generation.inputs import Prompts, id_row, parse_prompts
from localgen.generation.resolve import (
    check_cancel,
    check_generate_options,
    check_text_options,
    eos_token_ids,
    pad_token_id,
    resolved_configs,
)
from localgen.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from localgen.text.chat_template import Message

Prompt = str | Sequence[int]
Configs = GenerationConfig | Sequence[GenerationConfig] | None


@dataclass(frozen=True, slots=True)
class IdCall:
    """A call of ``generate()``, whose rows come out as one matrix after ``prompts`` as given."""

    call: GenerationCall
    prompts: Prompts
    pad_token_id: int
    returns_dict: bool

    def output(self) -> GenerateOutput:
        return self.call.output(self.prompts, self.pad_token_id)

    def result(self) -> Any:
        """What ``generate()`` returns."""
        output = self.output()
        return output if self.returns_dict else output.sequences


class RequestBuilder:
    """Makes the calls of one model; it runs none."""

    def __init__(self, tokenizer: Tokenizer, backend: Any, kv_cache: KvCache, n_ctx: int) -> None:
        self._tokenizer = tokenizer
        # As in transformers, what the tokenizer is set to pad with later is its own affair.
        self._pad_token_id = tokenizer.pad_token_id
        self._backend = backend
        self._kv_cache = kv_cache
        self._n_ctx = n_ctx

    def from_ids(
        self,
        input_ids: Any,
        attention_mask: Any,
        config: Configs,
        overrides: dict[str, Any],
        *,
        logits_processor: Iterable[Callable[..., Any]] | None,
        stopping_criteria: Iterable[Callable[..., Any]] | None,
        cancel: threading.Event | None,
    ) -> IdCall:
        """That of ``generate()``, whose arguments these are."""
        started = time.perf_counter()
        check_cancel(cancel)
        configs = resolved_configs(config, overrides, infer=False)
        check_generate_options(configs)
        vocab = self._tokenizer
        self._backend.check_usable()
        pad = pad_token_id(configs[0], self._pad_token_id, vocab.vocab_size)
        eos = eos_token_ids(configs[0], vocab.eos_token_ids, vocab.vocab_size)
        ends = eos.union(vocab.eos_token_ids)
        prompts = parse_prompts(input_ids, attention_mask, vocab.vocab_size, pad, ends)
        widths = [prompts.matrix.shape[1]] * len(prompts.rows)
        hooks = as_hooks(logits_processor, stopping_criteria, prompts.is_torch)
        call = self._call(configs, prompts.rows, widths, started, hooks=hooks, cancel=cancel)
        pad = pad if pad is not None else min(eos, default=0)
        return IdCall(call, prompts, pad, configs[0].return_dict_in_generate)

    def from_texts(
        self,
        prompts: str | Sequence[Prompt],
        config: Configs,
        overrides: dict[str, Any],
        split_special_tokens: bool,
        cancel: threading.Event | None = None,
    ) -> GenerationCall:
        """That of ``complete()``, whose arguments these are."""
        started = time.perf_counter()
        check_cancel(cancel)
        if config is None and overrides.get("do_sample") is not False:
            overrides = {**self._backend.sampling_defaults, **overrides}
        configs = resolved_configs(config, overrides, infer=True)
        for each in configs:
            check_text_options(each)
        self._backend.check_usable()
        texts = _prompt_list(prompts)
        before = time.perf_counter()
        names = [f"prompt {i}" for i in range(len(texts))] if len(texts) > 1 else ["the prompt"]
        rows = [
            self._token_ids(text, split_special_tokens, name)
            for text, name in zip(texts, names, strict=True)
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

    def from_text(
        self,
        prompt: Prompt,
        config: GenerationConfig | None,
        overrides: dict[str, Any],
        split_special_tokens: bool,
        cancel: threading.Event | None = None,
    ) -> GenerationCall:
        """That of ``stream()``, which has one row."""
        call = self.from_texts([prompt], config, overrides, split_special_tokens, cancel)
        if len(call.sequences) != 1:
            raise ValueError(
                f"stream() gives one text; num_return_sequences is {len(call.sequences)}"
            )
        return call

    def chat_prompt(
        self,
        messages: Sequence[Message],
        *,
        continue_final_message: bool,
        template_variables: Mapping[str, Any] | None,
        **given: Any,
    ) -> list[int]:
        """The token ids of a conversation; ``given`` is for ``Tokenizer.apply_chat_template``."""
        self._backend.check_usable()
        if not messages:
            raise ValueError("there are no messages to answer: a conversation has at least one")
        ids: list[int] = self._tokenizer.apply_chat_template(
            messages,
            add_generation_prompt=not continue_final_message,
            continue_final_message=continue_final_message,
            return_dict=False,
            **given,
            **(template_variables or {}),
        )
        return ids

    def from_prefix(self, text: Prompt, split_special_tokens: bool) -> GenerationCall:
        """That of ``prefill()``: one row, which stays in the KV cache."""
        started = time.perf_counter()
        self._backend.check_usable()
        token_ids = self._token_ids(text, split_special_tokens, "text")
        config = GenerationConfig(max_new_tokens=1, do_sample=False)
        call = self._call([config], [token_ids], [len(token_ids)], started)
        call.sequences[0].pins = True
        return call

    def sequence_to_score(self, text: Prompt, split_special_tokens: bool) -> Row:
        """The row of ``score()``, which is no call: nothing is generated."""
        self._backend.check_usable()
        token_ids = self._token_ids(text, split_special_tokens, "text")
        if len(token_ids) > self._n_ctx:
            raise ContextFullError(len(token_ids), self._n_ctx)
        return Row(
            row=0,
            prompt_ids=token_ids,
            max_new_tokens=0,
            eos_token_ids=frozenset(),
            sampler=Sampler(SamplingOptions(), self._tokenizer.vocab_size),
            uniform=float,
        )

    def _token_ids(self, prompt: Prompt, split_special_tokens: bool, what: str) -> TokenIds:
        if not isinstance(prompt, str):
            return id_row(prompt, self._tokenizer.vocab_size, what)
        ids = self._tokenizer.encode(prompt, split_special_tokens=split_special_tokens)
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
    ) -> GenerationCall:
        if len(configs) not in (1, len(rows)):
            raise ValueError(
                f"generation_config has {len(configs)} entries for {len(rows)} prompts; give one "
                f"for all, or one a prompt"
            )
        call = GenerationCall(
            self._tokenizer,
            configs,
            rows,
            n_ctx=self._n_ctx,
            widths=widths,
            started=started,
            **options,
        )
        self._kv_cache.check_fits(max(len(row.tokens) for row in call.sequences))
        return call


def _prompt_list(prompts: str | Sequence[Prompt]) -> list[Prompt]:
    if isinstance(prompts, str):
        return [prompts]
    if not isinstance(prompts, Iterable) or isinstance(prompts, bytes | bytearray | Mapping):
        advice = "; decode them to a str first" if isinstance(prompts, bytes | bytearray) else ""
        raise TypeError(
            f"prompts must be a text or a list whose items are texts or lists of token ids, got "
            f"{prompts!r:.80}{advice}"
        )
    prompts = list(prompts)
    if not prompts:
        raise ValueError("the batch is empty: pass at least one prompt")
    return prompts


def one_or_all(prompts: object, completions: list[Completion]) -> Completion | list[Completion]:
    """What ``complete()`` returns: the one Completion of a single text, else the list."""
    single = isinstance(prompts, str) and len(completions) == 1
    return completions[0] if single else completions
