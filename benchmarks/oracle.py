"""The bound of prompt lookup: llama.cpp alone, with drafts that are never wrong.

An oracle knows the text that localgen generated. Before each pass it drafts the longest run of the
next tokens that the sequence had before, after the same last token; which lengths pay is decided by
the measured time of passes of each size. The passes are then run as those of a floor.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import common
import numpy as np
from floors import Floor, new_context

from localgen.llama.baseline import make_batch, run_batches

_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
_DEPTH = 150
_ROUNDS = 5
# Runs shorter than one of the first are left out, longer ones cut to one of the second.
_LEAST = (1, 2, 3, 4, 6)
_MOST = (0, 3, 7, 11, 15, 23, 31)

Passes = list[list[int]]  # of each pass, how many tokens each sequence gets


@functools.cache
def pass_seconds(model: Any, setting: str) -> Callable[[int], float]:
    """Return the seconds of a pass by its number of tokens, measured at a depth of 150 tokens."""
    backend = model._backend
    llama, n_most = backend._llama, _SIZES[-1]
    text = (model.tokenizer.encode(common.PASSAGE) * 3)[: _DEPTH + n_most]
    context = new_context(backend, 1, _DEPTH + n_most, flash_attention=setting)
    batches = [_batch(llama, [text], [_DEPTH], [n]) for n in (1, *_SIZES)]
    times = []
    for _ in range(_ROUNDS):
        llama.llama_memory_clear(llama.llama_get_memory(context), True)
        run_batches(llama, context, [_batch(llama, [text], [0], [_DEPTH])])
        found = []
        for batch in batches:
            llama.llama_memory_seq_rm(llama.llama_get_memory(context), 0, _DEPTH, -1)
            found.append(run_batches(llama, context, [batch]))
        times.append(found[1:])  # the first one warms up
    llama.llama_free(context)
    medians = np.median(times, axis=0)
    return lambda n_tokens: float(np.interp(n_tokens, _SIZES, medians))


def known_runs(prompt: Sequence[int], new: Sequence[int]) -> list[int]:
    """Return for each new token but the first how many, from it on, stood together before it, after
    the token before it."""
    text = [*prompt, *new]
    after: dict[int, list[int]] = {}
    for position, token_id in enumerate(prompt):
        after.setdefault(token_id, []).append(position + 1)
    runs = []
    for position in range(len(prompt) + 1, len(text)):
        starts = after.setdefault(text[position - 1], [])
        runs.append(max((_n_equal(text, start, position) for start in starts), default=0))
        starts.append(position)
    return runs


def best_passes(
    texts: Sequence[tuple[Sequence[int], Sequence[int]]], seconds: Callable[[int], float]
) -> Passes:
    """Return the oracle's passes for sequences, each a prompt and its new tokens."""
    runs = [known_runs(prompt, new) for prompt, new in texts]
    ways = [_passes(runs, least, most) for least in _LEAST for most in _MOST]
    return min(ways, key=lambda passes: sum(seconds(sum(counts)) for counts in passes))


def oracle_seconds(floor: Floor, passes: Passes, completions: Sequence[Any]) -> float:
    """Return the seconds that llama.cpp takes for these passes; the prompts before them are not
    timed."""
    texts = [[*done.prompt_token_ids, *done.token_ids] for done in completions]
    starts = [len(done.prompt_token_ids) for done in completions]
    batches = []
    for counts in passes:
        batches.append(_batch(floor.llama, texts, starts, counts))
        starts = [start + count for start, count in zip(starts, counts, strict=True)]
    return floor.after_prompts(batches)


def _passes(runs: Sequence[Sequence[int]], least: int, most: int) -> Passes:
    passes, at = [], [0] * len(runs)
    while any(done < len(own) for done, own in zip(at, runs, strict=True)):
        counts = []
        for done, own in zip(at, runs, strict=True):
            if done >= len(own):
                counts.append(0)
                continue
            n_drafted = min(own[done], most)
            # A pass gives one token more than its draft.
            n_tokens = 1 + (n_drafted if n_drafted >= least else 0)
            counts.append(min(n_tokens, len(own) - done))
        passes.append(counts)
        at = [done + count for done, count in zip(at, counts, strict=True)]
    return passes


def _n_equal(text: Sequence[int], start: int, position: int) -> int:
    n_most = len(text) - position
    return next((n for n in range(n_most) if text[start + n] != text[position + n]), n_most)


def _batch(
    llama: Any, texts: Sequence[Sequence[int]], starts: Sequence[int], counts: Sequence[int]
) -> Any:
    """Return a batch of so many tokens of each text, from a position of each on."""
    places = [
        (row, position)
        for row, (start, count) in enumerate(zip(starts, counts, strict=True))
        for position in range(start, start + count)
    ]
    tokens = [texts[row][position] for row, position in places]
    rows, positions = [row for row, _ in places], [position for _, position in places]
    return make_batch(llama, tokens, positions, rows, [1] * len(places))
