"""Plans what is measured, and what does not fit the context; it runs nothing.

The names are llama-bench's: pp512 evaluates a prompt of 512 tokens, tg128 generates 128 tokens one
by one, and "@ d1024" means that the KV cache holds 1,024 tokens before.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from localgen._util.checks import check_int

PROMPT_LENGTHS = (128, 512)
NEW_TOKENS = 128
BATCH_SIZES = (1, 8, 32)
DEPTHS = (0, 1024)
# Tokens after a cached prefix whose time to the first token is measured: a short question.
N_AFTER_PREFIX = 16
_MIN_NEW = 16
_SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """``n_rows`` sequences, each with ``n_cached`` tokens in the KV cache, ``n_prompt`` further
    prompt tokens and ``n_new`` new ones, the last of which is chosen but not evaluated."""

    kind: Literal["prefill", "decode"]
    n_rows: int = 1
    n_cached: int = 0
    n_prompt: int = 1
    n_new: int = 1

    @property
    def name(self) -> str:
        """The name that llama-bench would use."""
        what = f"pp{self.n_prompt}" if self.kind == "prefill" else f"tg{self.n_new}"
        return f"{what} @ d{self.n_cached}" if self.n_cached else what

    @property
    def n_tokens(self) -> int:
        """The tokens of all sequences that its speed counts: prompt tokens, or new ones."""
        return self.n_rows * (self.n_prompt if self.kind == "prefill" else self.n_new)

    @property
    def length(self) -> int:
        """The length of each sequence at its end."""
        return self.n_cached + self.n_prompt + self.n_new


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of this model here: tokens of a sequence, and sequences at a time."""

    n_ctx: int
    n_ctx_train: int
    max_sequences: int

    def obstacle(self, case: Case) -> str | None:
        """Return why a case cannot be measured; None if it can."""
        if case.n_rows > self.max_sequences:
            return f"it has {case.n_rows} sequences, but max_sequences is {self.max_sequences}"
        if case.length > self.n_ctx_train:
            return f"it needs {case.length} tokens, but the model was trained on {self.n_ctx_train}"
        if case.length > self.n_ctx:
            return f"it needs {case.length} tokens, but n_ctx is {self.n_ctx}"
        return None


def plan(
    limits: Limits,
    *,
    prompt_lengths: Iterable[int] | None = None,
    new_tokens: int | None = None,
    batch_sizes: Iterable[int] | None = None,
    depths: Iterable[int] | None = None,
) -> dict[Case, str | None]:
    """Return the cases in their order, each with the reason why it is skipped, or None.

    At each depth above 0, the longest prompt that fits there is measured, too. A default (None)
    that does not fit is skipped, and so is what follows from it, the prefix of the longest prompt.
    Raises ValueError for an explicit value that does not fit.
    """
    prefills = _prefills(_numbers("prompt_lengths", prompt_lengths, 1, PROMPT_LENGTHS))
    at_depths = _numbers("depths", depths, 0, DEPTHS)
    decodes = _decodes(
        NEW_TOKENS if new_tokens is None else check_int("new_tokens", new_tokens, 1),
        _numbers("batch_sizes", batch_sizes, 1, BATCH_SIZES),
        at_depths,
    )
    given = {"batch_sizes": batch_sizes, "depths": depths, "new_tokens": new_tokens}
    asked = [case for case in decodes if _is_asked(case, limits, **given)]
    for case in asked if prompt_lengths is None else prefills + asked:
        if obstacle := limits.obstacle(case):
            raise ValueError(f"{case.name} cannot be measured: {obstacle}")
    found = {case: limits.obstacle(case) for case in prefills}
    longest = max((case.n_prompt for case in prefills if not found[case]), default=0)
    after = Case(kind="prefill", n_cached=longest, n_prompt=N_AFTER_PREFIX)
    deep = [_prefill_at(depth, prefills, limits) for depth in at_depths if depth]
    cases = [*([after] if longest else []), *deep, *decodes]
    found |= {case: limits.obstacle(case) for case in cases}
    if all(found.values()):
        raise ValueError(
            "nothing can be measured: "
            + "; ".join(f"{case.name}: {obstacle}" for case, obstacle in found.items())
        )
    return found


def token_ids(case: Case, n_vocab: int) -> list[list[int]]:
    """Return each sequence's tokens, cached ones first: random as in llama-bench, but reproducible.

    Sequences differ in their first token, as far as the vocabulary allows, and so share no prefix.
    """
    random = np.random.RandomState(_SEED)
    rows = random.randint(0, n_vocab, (case.n_rows, case.n_cached + case.n_prompt))
    rows[:, 0] = np.resize(random.permutation(n_vocab), case.n_rows)
    found: list[list[int]] = rows.tolist()
    return found


def _numbers(
    name: str, given: Iterable[int] | None, low: int, default: Sequence[int]
) -> tuple[int, ...]:
    """Return ``given`` without repeated numbers."""
    if given is None:
        return tuple(default)
    if not isinstance(given, Iterable) or isinstance(given, str):
        raise ValueError(f"{name} must be a list of integers, got {given!r}")
    numbers = tuple(dict.fromkeys(check_int(name, each, low) for each in given))
    if not numbers:
        raise ValueError(f"{name} is empty: pass at least one number, or leave it out")
    return numbers


def _prefills(lengths: Sequence[int]) -> list[Case]:
    return [Case(kind="prefill", n_prompt=length) for length in lengths]


def _prefill_at(depth: int, prefills: Sequence[Case], limits: Limits) -> Case:
    """Return the longest prompt after ``depth`` tokens that fits; the shortest if none does."""
    deep = [dataclasses.replace(case, n_cached=depth) for case in prefills]
    fitting = [case for case in deep if limits.obstacle(case) is None]
    if fitting:
        return max(fitting, key=lambda case: case.n_prompt)
    return min(deep, key=lambda case: case.n_prompt)


def _decodes(new_tokens: int, batch_sizes: Sequence[int], depths: Sequence[int]) -> list[Case]:
    """Return every batch size at the first depth, and the first batch size at further depths."""
    pairs = [(n_rows, depths[0]) for n_rows in batch_sizes]
    pairs += [(batch_sizes[0], depth) for depth in depths[1:]]
    return [
        Case(kind="decode", n_rows=n_rows, n_cached=depth, n_new=n_new_of(n_rows, new_tokens))
        for n_rows, depth in pairs
    ]


def n_new_of(n_rows: int, new_tokens: int) -> int:
    """Return the new tokens of each sequence: fewer for many, since their steps take longer."""
    return min(new_tokens, max(_MIN_NEW, 2 * new_tokens // n_rows))


def _is_asked(
    case: Case, limits: Limits, *, batch_sizes: object, depths: object, new_tokens: object
) -> bool:
    """Return whether the caller passed the value that makes a decode case impossible."""
    if case.n_rows > limits.max_sequences:
        return batch_sizes is not None
    return depths is not None or (new_tokens is not None and not case.n_cached)
