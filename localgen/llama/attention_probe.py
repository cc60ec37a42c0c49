"""Measures passes with and without flash attention: some tokens, in two small contexts, in turns.

The KV cache is filled with the cells of a few tokens, again and again: what they hold does not
change how long a pass takes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from localgen.engine.backend import Batch, PassStopped
from localgen.llama.attention import SETTINGS, AttentionTimes, PassSeconds
from localgen.llama.context import Context
from localgen.llama.state import stretched

# Tokens of a prefill pass: enough for the kernels of matrices, few enough to be short.
N_PREFILL = 16
# llama.cpp attends to whole blocks of so many cells, so the seconds rise in steps: in the middle of
# a block they are those of the mean depth.
_BLOCK = 256
# In the first block, the second, and one that is deep enough to tell how the seconds rise.
_SHALLOW, _MIDDLE, _DEEP = (number * _BLOCK + _BLOCK // 2 for number in (0, 1, 5))
_LEAST_DEPTH = 32
# Room for a prefill pass after the deepest tokens.
SPARE = 64
# Rounds of each pass, the untimed first one included: fewer once this many seconds are over.
_LEAST_ROUNDS, _MOST_ROUNDS = 3, 5
_SECONDS = 0.3
# A model that takes longer, or a machine so busy, is not measured.
_MOST_SECONDS = 3.0
# If the two shortest times of a pass lie further apart than this, it was disturbed.
_MOST_SPREAD = 1.25


@dataclass(frozen=True, slots=True)
class Measured:
    """is_steady: whether nothing seems to have disturbed it, so that it may be kept."""

    times: AttentionTimes
    is_steady: bool


def depths_within(n_tokens: int) -> tuple[int, ...]:
    """Return the depths to measure at if a context may have ``n_tokens``; none if too few."""
    room = n_tokens - SPARE
    if room < _LEAST_DEPTH:
        return ()
    fit = (depth for depth in (_SHALLOW, _MIDDLE, _DEEP) if depth <= room)
    return tuple(fit) or (room,)


def measure(
    contexts: dict[str, Context],
    depths: tuple[int, ...],
    n_vocab: int,
    should_stop: Callable[[], bool] | None = None,
) -> Measured:
    """Return the seconds of passes at ``depths``, which rise.

    contexts: for each of ``SETTINGS``, with one sequence of the deepest of them, and ``SPARE``.
    Raises DecodeError, StateError, ValueError if that takes too long or gives seconds that cannot
    be true, and PassStopped if ``should_stop()`` between two passes.
    """
    probe = _Probe(contexts, n_vocab, should_stop)
    probe.fill(depths[-1])
    steps = {depth: probe.seconds(depth, 1) for depth in depths[::-1]}
    # Prompts are mostly computed where nothing is before them.
    prefill = probe.seconds(0, N_PREFILL)
    found = {
        setting: PassSeconds(
            depths,
            tuple(min(steps[depth][setting]) for depth in depths),
            min(prefill[setting]) / N_PREFILL,
        )
        for setting in SETTINGS
    }
    spreads = [
        sorted(seconds)[1] / min(seconds)
        for each in (*steps.values(), prefill)
        for seconds in each.values()
    ]
    times = AttentionTimes(off=found["off"], on=found["on"])
    return Measured(times, is_steady=max(spreads) <= _MOST_SPREAD)


class _Probe:
    def __init__(
        self,
        contexts: dict[str, Context],
        n_vocab: int,
        should_stop: Callable[[], bool] | None,
    ) -> None:
        self._contexts = contexts
        self._n_vocab = n_vocab
        self._should_stop = should_stop or (lambda: False)
        now = time.perf_counter()
        self._enough_at, self._give_up_at = now + _SECONDS, now + _MOST_SECONDS

    def fill(self, n_tokens: int) -> None:
        """Let each context hold ``n_tokens`` of a sequence."""
        context = self._contexts["on"]
        context.truncate(0, 0)
        self._run(context, 0, N_PREFILL)
        state = stretched(context.state(0), n_tokens)
        for each in self._contexts.values():
            if not each.set_state(0, state, n_tokens):
                raise ValueError("a made-up state was refused")

    def seconds(self, depth: int, n_tokens: int) -> dict[str, list[float]]:
        """Return the seconds of each round's pass of ``n_tokens`` after ``depth`` others."""
        found: dict[str, list[float]] = {setting: [] for setting in SETTINGS}
        for index in range(_MOST_ROUNDS):
            if index >= _LEAST_ROUNDS and time.perf_counter() > self._enough_at:
                break
            for setting in SETTINGS if index % 2 else SETTINGS[::-1]:
                context = self._contexts[setting]
                context.truncate(0, depth)
                started = time.perf_counter()
                self._run(context, depth, n_tokens)
                found[setting].append(time.perf_counter() - started)
        # The first round plans the pass, and touches memory.
        return {setting: seconds[1:] for setting, seconds in found.items()}

    def _run(self, context: Context, first: int, n_tokens: int) -> None:
        if self._should_stop():
            raise PassStopped
        if time.perf_counter() > self._give_up_at:
            raise ValueError(f"passes would take longer than {_MOST_SECONDS:g} s")
        positions = np.arange(first, first + n_tokens, dtype=np.int32)
        seq_ids, last = np.zeros(n_tokens, np.int32), np.array([n_tokens - 1], np.int32)
        token_ids = (positions * 7 % self._n_vocab).astype(np.int32)
        context.decode(Batch(token_ids, positions, seq_ids, last))
