"""llama.cpp alone, with flash attention and without: the floors that localgen is measured against.

A floor is a plain loop of llama_decode calls on filled batches: the tokens that localgen generated,
at the same positions, with one llama_get_logits a step; no sampling, no text, no Python between the
calls. It runs on the same weights, with the same threads, in a context of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import common
import numpy as np
from common import Row
from llama_samplers import LlamaChain

from localgen.config import SamplingOptions
from localgen.llama.backend import FLASH_ATTENTION_TYPES
from localgen.llama.baseline import make_batch, prompt_batches, run_batches

# The names of both settings, as a row of results has them.
SETTINGS = ("on", "off")


# --- prompts ---


def text_of(tokenizer: Any, n_tokens: int, first: int = 0) -> str:
    """Return a text of exactly ``n_tokens`` tokens, from token ``first`` of the passage."""
    passage = common.PASSAGE * (2 + (first + n_tokens) // 100)
    ids = tokenizer.encode(passage, add_special_tokens=False)
    for start in range(first, first + 50):
        for length in (n_tokens, n_tokens - 1):  # some tokenizers add a first token
            text = tokenizer.decode(ids[start : start + length])
            if len(tokenizer.encode(text)) == n_tokens:
                return str(text)
    raise ValueError(f"no part of the passage has {n_tokens} tokens; choose another number")


def prompts_of(model: Any, n_rows: int, n_tokens: int) -> list[list[int]]:
    """Return ``n_rows`` prompts of ``n_tokens`` each, which differ from their first token on."""
    vocabulary = np.random.RandomState(3).permutation(model.tokenizer.vocab_size - 1000)[:n_rows]
    text = model.tokenizer.encode(text_of(model.tokenizer, n_tokens))
    return [[int(first) + 500, *text[1:]] for first in vocabulary]


def clear(model: Any) -> None:
    """Empty the KV cache, so that a round reuses nothing from an earlier one."""
    model._driver._engine.restart()


def free_context(model: Any) -> None:
    """Let localgen make its next context anew, elsewhere in memory; see ``Floors.renew``."""
    clear(model)
    model._backend.release()


# --- llama.cpp alone ---


def new_context(
    backend: Any,
    n_seqs: int,
    n_ctx: int,
    *,
    unified: bool = False,
    flash_attention: str | None = None,
) -> Any:
    """Create a context of ``n_ctx`` tokens in all, with the parameters that a LocalModel uses.

    flash_attention: "on" or "off"; None is the backend's own. The result is false if llama.cpp has
    no such context for this model.
    """
    params = backend._llama.llama_context_default_params()
    params.n_ctx, params.n_seq_max, params.kv_unified = n_ctx, n_seqs, unified
    params.n_batch = backend.n_batch
    params.n_ubatch = backend.n_ubatch
    params.n_threads = params.n_threads_batch = backend.n_threads
    params.flash_attn_type = FLASH_ATTENTION_TYPES[flash_attention or backend.flash_attention]
    return backend._llama.llama_init_from_model(backend._model, params)


def step_batches(
    bindings: Any, prompts: Sequence[Sequence[int]], new: Sequence[Sequence[int]]
) -> list[Any]:
    """Return a batch for each decode step; a sequence leaves after its last new token but one."""
    batches = []
    for step in range(max(map(len, new)) - 1):
        rows = [row for row, ids in enumerate(new) if step < len(ids) - 1]
        tokens = [new[row][step] for row in rows]
        positions = [len(prompts[row]) + step for row in rows]
        batches.append(make_batch(bindings, tokens, positions, rows, [1] * len(rows)))
    return batches


class Floor:
    """llama.cpp alone with one setting of flash attention, for what localgen has completed.

    make_context: makes a context, or returns None where llama.cpp has none for this model.
    """

    def __init__(
        self, backend: Any, completions: Sequence[Any], make_context: Callable[[], Any]
    ) -> None:
        self.llama, self._make_context = backend._llama, make_context
        self._context = make_context()
        self._lengths = [len(done.prompt_token_ids) for done in completions]
        self._is_prefilled = False
        self._model = backend._model
        self._prompt_ids = prompts = [done.prompt_token_ids for done in completions]
        self._prompts = prompt_batches(self.llama, prompts, backend.n_batch)
        self._steps = step_batches(self.llama, prompts, [done.token_ids for done in completions])

    def prefill(self) -> float:
        """Return the seconds of the passes of all prompts, in an empty KV cache.

        As in llama-bench, what its cells hold is left: writing zeros would bring them into the
        CPU's caches, unmeasured.
        """
        self.llama.llama_memory_clear(self._memory, False)
        self._is_prefilled = True
        return run_batches(self.llama, self._context, self._prompts)

    def decode(self) -> float:
        """Return the seconds of all decode steps; the prompts before them are not timed."""
        return self.after_prompts(self._steps)

    def decode_and_sample(self, options: SamplingOptions) -> float:
        """Return the seconds of all decode steps with llama.cpp's samplers after each, for every
        sequence; the tokens that they choose are not used, so that the passes stay the same."""
        self.after_prompts([])
        n_vocab = self.llama.llama_vocab_n_tokens(self.llama.llama_model_get_vocab(self._model))
        chains = [LlamaChain(n_vocab, options, np.array(ids)) for ids in self._prompt_ids]
        started = time.perf_counter()
        for batch in self._steps:
            run_batches(self.llama, self._context, [batch])
            for index in range(batch.n_tokens):
                chains[index].sample_output(self._context, index)
        seconds = time.perf_counter() - started
        for chain in chains:
            chain.close()
        return seconds

    def after_prompts(self, batches: Sequence[Any]) -> float:
        """Return the seconds of batches that follow the prompts, which are not timed."""
        if not (self._is_prefilled and self._truncate()):
            self.prefill()
        return run_batches(self.llama, self._context, batches)

    def reopen(self) -> None:
        """Make another context after ``close``, and use it once."""
        self._context = self._make_context()
        self.prefill()

    def close(self) -> None:
        self.llama.llama_free(self._context)
        self._context = None

    @property
    def exists(self) -> bool:
        return bool(self._context)

    @property
    def _memory(self) -> Any:
        return self.llama.llama_get_memory(self._context)

    def _truncate(self) -> bool:
        """Keep the prompts alone; False if llama.cpp cannot, as with recurrent models."""
        remove = self.llama.llama_memory_seq_rm
        return all(remove(self._memory, row, n, -1) for row, n in enumerate(self._lengths))


class Floors:
    """A ``Floor`` for each setting that the model allows; frees their contexts at the end."""

    def __init__(self, model: Any, completions: Sequence[Any]) -> None:
        backend = model._backend
        n_tokens = max(len(done.prompt_token_ids) + len(done.token_ids) for done in completions)
        n_ctx = len(completions) * max(backend.n_ctx_seq, backend._slot_size(n_tokens))
        self.by_setting: dict[str, Floor] = {}
        for setting in SETTINGS:
            make = partial(new_context, backend, len(completions), n_ctx, flash_attention=setting)
            floor = Floor(backend, completions, make)
            if floor.exists:
                self.by_setting[setting] = floor
            else:
                common.progress(f"  no floor with flash attention {setting}: not for this model")

    def renew(self, number: int, free_ours: Callable[[], Any], ours: Callable[[], Any]) -> None:
        """Go on with other contexts in round ``number``, localgen's included.

        Passes of one context can be 10 % slower than those of its twin in the same process, as long
        as both live: where their memory lies decides it, and who frees some gets it back. So all
        are freed first, and the one that is made first takes turns.

        free_ours, ours: free localgen's context, and make it by using it.
        """
        self.close()
        free_ours()
        makers = [*(floor.reopen for floor in self.by_setting.values()), ours]
        first = number % len(makers)
        for make in makers[first:] + makers[:first]:
            make()

    def close(self) -> None:
        for floor in self.by_setting.values():
            floor.close()

    def __enter__(self) -> Floors:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def faster(rounds: Sequence[Row]) -> str:
    """Return the setting whose floor has the smaller median: its seconds are under its name."""
    found = [setting for setting in SETTINGS if setting in rounds[0]]
    return min(found, key=lambda setting: common.median(rounds, setting))


def floor_columns(rounds: Sequence[Row], n_tokens: int, ours: str) -> Row:
    """Return the columns of one case: the ratio to the faster floor, and all speeds.

    rounds: the seconds of each floor under its setting, and of localgen under the name ``ours``.
    """
    best = faster(rounds)
    speeds = {
        f"floor_{setting}_tokens_per_s": setting for setting in SETTINGS if setting in rounds[0]
    }
    row = {**common.spread("ratio", [r[best] / r[ours] for r in rounds]), "floor": best}
    for column, key in {**speeds, "localgen_tokens_per_s": ours}.items():
        row |= common.spread(column, [n_tokens / r[key] for r in rounds])
    return row
