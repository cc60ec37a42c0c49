"""Times llama.cpp alone on a loaded model: the baseline that every speed is compared with.

All batches are filled beforehand; between the calls of llama_decode there is no sampling, no text
and no other Python.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from localgen.errors import DecodeError
from localgen.llama.backend import LlamaBackend
from localgen.llama.library import llama


@dataclass(frozen=True, slots=True)
class Passes:
    """Filled llama_batches: those to run ``before`` the clock starts, and the ``timed`` ones."""

    before: list[Any]
    timed: list[Any]


class Baseline:
    """llama.cpp alone, in the context that a backend has created for its own passes."""

    def __init__(self, backend: LlamaBackend) -> None:
        self._backend = backend

    def fill(
        self, prompts: Sequence[Sequence[int]], new: Sequence[Sequence[int]], n_cached: int = 0
    ) -> Passes:
        """Return the passes that localgen makes for ``prompts`` and the ``new`` tokens of each.

        A sequence's last new token is chosen but not evaluated. n_cached: tokens of each prompt
        that are computed before the clock starts. All prompts have one length, and all sequences
        get the same number of new tokens.
        """
        bindings, n_batch = llama(), self._backend.n_batch
        cached = [prompt[:n_cached] for prompt in prompts]
        return Passes(
            before=prompt_batches(bindings, cached, n_batch),
            timed=[
                *prompt_batches(bindings, prompts, n_batch, first=n_cached),
                *step_batches(bindings, prompts, new),
            ],
        )

    def seconds(self, passes: Passes) -> float:
        """Return the seconds of the timed passes, run in a KV cache that is emptied before.

        Raises DecodeError.
        """
        bindings = llama()
        with self._backend.lent_context() as context:
            run_batches(bindings, context, passes.before)
            return run_batches(bindings, context, passes.timed)


def make_batch(
    bindings: Any,
    token_ids: Sequence[int],
    positions: Sequence[int],
    seq_ids: Sequence[int],
    outputs: Sequence[int],
) -> Any:
    """Return a filled llama_batch, which keeps its arrays alive; all arguments are (n_tokens,)."""
    n = len(token_ids)
    pointer = ctypes.POINTER(bindings.llama_seq_id)
    return bindings.llama_batch(
        n_tokens=n,
        token=(bindings.llama_token * n)(*token_ids),
        embd=None,
        pos=(bindings.llama_pos * n)(*positions),
        n_seq_id=(ctypes.c_int32 * n)(*[1] * n),
        seq_id=(pointer * n)(*[(bindings.llama_seq_id * 1)(seq_id) for seq_id in seq_ids]),
        logits=(ctypes.c_int8 * n)(*outputs),
    )


def prompt_batches(
    bindings: Any, prompts: Sequence[Sequence[int]], n_batch: int, *, first: int = 0
) -> list[Any]:
    """Return batches of at most ``n_batch`` tokens with all ``prompts``, one after the other.

    They start at each prompt's token ``first`` and ask for the logits of its last token.
    """
    tokens = [(row, i) for row, prompt in enumerate(prompts) for i in range(first, len(prompt))]
    return [
        make_batch(
            bindings,
            [prompts[row][i] for row, i in part],
            [i for _, i in part],
            [row for row, _ in part],
            [int(i == len(prompts[row]) - 1) for row, i in part],
        )
        for part in (tokens[start : start + n_batch] for start in range(0, len(tokens), n_batch))
    ]


def step_batches(
    bindings: Any, prompts: Sequence[Sequence[int]], new: Sequence[Sequence[int]]
) -> list[Any]:
    """Return a batch for each decode step: all new tokens but each sequence's last."""
    rows = range(len(prompts))
    return [
        make_batch(
            bindings,
            [new[row][step] for row in rows],
            [len(prompts[row]) + step for row in rows],
            rows,
            [1 for _ in rows],
        )
        for step in range(len(new[0]) - 1)
    ]


def run_batches(bindings: Any, context: Any, batches: Sequence[Any]) -> float:
    """Return the seconds that llama.cpp takes for ``batches``, with logits ready after each."""
    started = time.perf_counter()
    for batch in batches:
        code = bindings.llama_decode(context, batch)
        if code:
            raise DecodeError(f"llama_decode returned {code}")
        bindings.llama_get_logits(context)
    return time.perf_counter() - started
