"""What is measured, and what cannot be at a context's length; it runs nothing.

Names are llama-bench's: pp512 computes a prompt of 512 tokens, tg128 generates 128 tokens one after
the other, and "@ d1024" means that 1,024 tokens are in the KV cache before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from localgen._util.checks import check_int

PROMPT_LENGTHS = (128, 512)
NEW_TOKENS = 128
BATCH_SIZES = (1, 8, 32)
DEPTHS = (0, 1024)
# What comes after the cached prefix whose first token is timed: a short question.
N_AFTER_PREFIX = 16
_FEWEST_NEW = 16
_SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """``n_rows`` sequences with ``n_cached`` tokens each in the KV cache, which get ``n_prompt``
    more, and then ``n_new`` new ones: the last of these is chosen, and not evaluated any more."""

    kind: Literal["prefill", "decode"]
    n_rows: int = 1
    n_cached: int = 0
    n_prompt: int = 1
    n_new: int = 1

    @property
    def name(self) -> str:
        """As llama-bench would call it."""
        what = f"pp{self.n_prompt}" if self.kind == "prefill" else f"tg{self.n_new}"
        return f"{what} @ d{self.n_cached}" if self.n_cached else what

    @property
    def n_tokens(self) -> int:
        """The tokens of all rows that its speed counts: computed ones, or new ones."""
        return self.n_rows * (self.n_prompt if self.kind == "prefill" else self.n_new)

    @property
    def length(self) -> int:
        """The tokens that each sequence comes to."""
        return self.n_cached + self.n_prompt + self.n_new


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What this model can do here: tokens of a sequence by either limit, and sequences at once."""

    n_ctx: int
    n_ctx_train: int
    max_sequences: int

    def obstacle(self, case: Case) -> str | None:
        """Why a case cannot be measured; None if it can."""
        if case.n_rows > self.max_sequences:
            return f"it has {case.n_rows} rows, and max_sequences is {self.max_sequences}"
        if case.length > self.n_ctx_train:
            return f"it takes {case.length} tokens, and the model was trained on {self.n_ctx_train}"
        if case.length > self.n_ctx:
            return f"it takes {case.length} tokens, and n_ctx is {self.n_ctx}"
        return None


def plan(
    limits: Limits,
    *,
    prompt_lengths: Iterable[int] | None = None,
    new_tokens: int | None = None,
    batch_sizes: Iterable[int] | None = None,
    depths: Iterable[int] | None = None,
) -> dict[Case, str | None]:
    """The cases in their order, each with the reason why it is left out, or None.

    Raises ValueError for what was asked for and cannot be. A default (None) that cannot be is left
    out, and so is what follows from others: the prefix of the longest prompt.
    """
    prefills = _prefills(_numbers("prompt_lengths", prompt_lengths, 1, PROMPT_LENGTHS))
    decodes = _decodes(
        NEW_TOKENS if new_tokens is None else check_int("new_tokens", new_tokens, 1),
        _numbers("batch_sizes", batch_sizes, 1, BATCH_SIZES),
        _numbers("depths", depths, 0, DEPTHS),
    )
    given = {"batch_sizes": batch_sizes, "depths": depths, "new_tokens": new_tokens}
    asked = [case for case in decodes if _is_asked(case, limits, **given)]
    for case in asked if prompt_lengths is None else prefills + asked:
        if obstacle := limits.obstacle(case):
            raise ValueError(f"{case.name} cannot be measured: {obstacle}")
    found = {case: limits.obstacle(case) for case in prefills}
    longest = max((case.n_prompt for case in prefills if not found[case]), default=0)
    after = Case(kind="prefill", n_cached=longest, n_prompt=N_AFTER_PREFIX)
    found |= {case: limits.obstacle(case) for case in ([after] if longest else []) + decodes}
    if all(found.values()):
        raise ValueError(
            "nothing can be measured: "
            + "; ".join(f"{case.name}: {obstacle}" for case, obstacle in found.items())
        )
    return found


def token_ids(case: Case, n_vocab: int) -> list[list[int]]:
    """The rows' tokens, cached ones first: drawn, as llama-bench's are, and the same everywhere.

    Rows differ from their first token on, as far as the vocabulary goes, so that they share none.
    """
    random = np.random.RandomState(_SEED)
    rows = random.randint(0, n_vocab, (case.n_rows, case.n_cached + case.n_prompt))
    rows[:, 0] = np.resize(random.permutation(n_vocab), case.n_rows)
    found: list[list[int]] = rows.tolist()
    return found


def _numbers(
    name: str, given: Iterable[int] | None, low: int, default: Sequence[int]
) -> tuple[int, ...]:
    """``given``, each number once."""
    if given is None:
        return tuple(default)
    if not isinstance(given, Iterable) or isinstance(given, str):
        raise ValueError(f"{name} must be a list of integers, got {given!r}")
    numbers = tuple(dict.fromkeys(check_int(name, each, low) for each in given))
    if not numbers:
        raise ValueError(f"{name} is empty: give at least one, or leave it out")
    return numbers


def _prefills(lengths: Sequence[int]) -> list[Case]:
    return [Case(kind="prefill", n_prompt=length) for length in lengths]


def _decodes(new_tokens: int, batch_sizes: Sequence[int], depths: Sequence[int]) -> list[Case]:
    """Every batch size at the first depth, and every further depth with the first batch size."""
    pairs = [(n_rows, depths[0]) for n_rows in batch_sizes]
    pairs += [(batch_sizes[0], depth) for depth in depths[1:]]
    return [
        Case(kind="decode", n_rows=n_rows, n_cached=depth, n_new=n_new_of(n_rows, new_tokens))
        for n_rows, depth in pairs
    ]


def n_new_of(n_rows: int, new_tokens: int) -> int:
    """New tokens of each of several rows: fewer, for a step of many takes longer."""
    return min(new_tokens, max(_FEWEST_NEW, 2 * new_tokens // n_rows))


def _is_asked(
    case: Case, limits: Limits, *, batch_sizes: object, depths: object, new_tokens: object
) -> bool:
    """Whether it was the caller who named what makes a decode impossible."""
    if case.n_rows > limits.max_sequences:
        return batch_sizes is not None
    return depths is not None or (new_tokens is not None and not case.n_cached)
