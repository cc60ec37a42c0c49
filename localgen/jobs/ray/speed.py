"""How long rows take in a continuous batch: a cost model, and its fit to what was measured.

A forward pass that gives n sequences a token takes ``forward_pass + n * new_token`` seconds, and a
prompt takes ``prompt_token`` seconds for each token that is computed.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

# Longer rows repeat: the number of passes is then proportional to that of the rows.
_MOST_SIMULATED = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """How fast each of ``n_actors`` is while all run on one machine, with ``n_threads`` each.

    In seconds. load: until all were loaded. The others: see the module.
    """

    n_actors: int
    n_threads: int
    load: float
    prompt_token: float
    forward_pass: float
    new_token: float

    def seconds(self, rows: Sequence[tuple[int, int]], n_rows: int, n_slots: int) -> float:
        """Return the seconds that an actor takes for ``n_rows`` rows like ``rows``.

        rows: (prompt tokens that are computed, new tokens) of each, one after the other; they
        repeat. n_slots: rows that run together.
        """
        n_prompt = sum(n for n, _ in rows) / len(rows)
        steps = [_steps(new) for _, new in rows]
        simulated = [steps[i % len(steps)] for i in range(min(n_rows, _MOST_SIMULATED))]
        passes = n_passes(simulated, n_slots) * n_rows / len(simulated)
        of_row = n_prompt * self.prompt_token + sum(steps) / len(steps) * self.new_token
        return n_rows * of_row + passes * self.forward_pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Wave:
    """Rows that an actor was given at once: seconds, and (prompt, new) tokens of each row.

    n_slots: rows that ran together.
    """

    seconds: float
    rows: tuple[tuple[int, int], ...]
    n_slots: int


def n_passes(steps: Sequence[int], n_slots: int) -> int:
    """Return how many passes a continuous batch needs: a row begins where one has ended."""
    ends = [0] * n_slots
    for n in steps:
        heapq.heapreplace(ends, ends[0] + n)
    return max(ends)


def fit(prefill: Wave, large: Wave, small: Wave) -> dict[str, float]:
    """Return the costs that explain three waves: ``prompt_token``, ``forward_pass``, ``new_token``.

    prefill: of rows with one new token. large, small: with many and with few rows together. Where
    the two give a negative cost, the other one explains the large wave alone.
    """
    prompt_token = prefill.seconds / max(1, sum(n for n, _ in prefill.rows))
    (passes, steps, seconds), (few, few_steps, few_seconds) = (
        _decoding(wave, prompt_token) for wave in (large, small)
    )
    forward_pass, new_token = 0.0, seconds / max(1, steps)
    if (determinant := passes * few_steps - few * steps) != 0:
        forward_pass = (seconds * few_steps - few_seconds * steps) / determinant
        new_token = (passes * few_seconds - few * seconds) / determinant
    if forward_pass < 0:
        forward_pass, new_token = 0.0, seconds / max(1, steps)
    elif new_token < 0:
        forward_pass, new_token = seconds / max(1, passes), 0.0
    return {"prompt_token": prompt_token, "forward_pass": forward_pass, "new_token": new_token}


def _decoding(wave: Wave, prompt_token: float) -> tuple[int, int, float]:
    """Return the passes, the tokens and the seconds of a wave without its prompts."""
    steps = [_steps(new) for _, new in wave.rows]
    seconds = wave.seconds - prompt_token * sum(n for n, _ in wave.rows)
    return n_passes(steps, wave.n_slots), sum(steps), max(0.0, seconds)


def _steps(n_new: int) -> int:
    """Return the passes of a row after its prompt, which gives the first token."""
    return max(0, n_new - 1)
