"""Everything about one row in flight."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from localgen.engine.backend import Logits, TokenIds

_UNIFORMS = 64

FinishReason = Literal["eos", "stop", "length", "time", "cancelled"]
StopCheck = Callable[["Sequence"], bool]


class Recorder(Protocol):
    """Keeps something of each step's logits; called before the token is appended."""

    def record(self, logits: Logits, scores: Callable[[], Logits], token_id: int) -> None:
        """``logits`` (n_vocab,) as the model gave them, borrowed; ``scores()`` the same after all
        processors and filters, borrowed too."""


class RowSampler(Protocol):
    """Chooses the next token of a row; see ``sampler.Sampler``."""

    def sample(self, logits: Logits, sequence: Sequence) -> int: ...


def uniform_stream(seed: int, row: int) -> Callable[[], float]:
    """The uniforms in [0, 1) of one row: NumPy's counter-based Philox keyed by (seed, row)."""
    key = np.array([seed, row], dtype=np.uint64)
    generator = np.random.Generator(np.random.Philox(key=key))

    def uniforms() -> Iterator[float]:
        while True:
            # Many at once: the same numbers, without a call into NumPy for each token.
            yield from generator.random(_UNIFORMS).tolist()

    return uniforms().__next__


class TokenCounts:
    """The distinct tokens of a row so far, kept as arrays that grow by one token a step.

    ``seen`` (n,) int64: distinct ids of prompt and new tokens. ``generated`` (n,) float32: how
    often each of them was generated (the prompt does not count). ``places``: where each id stands
    in both.
    """

    def __init__(self, prompt_ids: TokenIds, capacity: int) -> None:
        distinct = np.unique(prompt_ids).astype(np.int64)
        self.places = {token_id: place for place, token_id in enumerate(distinct.tolist())}
        # Written a number at a time, which NumPy is slow at, and read as its arrays.
        self._ids = array("q", distinct.tobytes() + bytes(8 * capacity))
        self._counts = array("f", bytes(4 * len(self._ids)))
        self._all_ids = np.frombuffer(self._ids, np.int64)
        self._all_counts = np.frombuffer(self._counts, np.float32)

    @property
    def seen(self) -> npt.NDArray[np.int64]:
        return self._all_ids[: len(self.places)]

    @property
    def generated(self) -> npt.NDArray[np.float32]:
        return self._all_counts[: len(self.places)]

    def add(self, token_id: int) -> None:
        place = self.places.setdefault(token_id, len(self.places))
        self._ids[place] = token_id
        self._counts[place] += 1.0


@dataclass(slots=True, eq=False)
class Sequence:
    """One row: its tokens, its place in the KV cache, and how it is sampled and stopped.

    ``tokens`` (capacity,) int32 holds the prompt and then the new tokens; the first ``n_kv`` of
    its ``n_tokens`` are in the KV cache at ``slot``. ``fork_of`` is the row with the same prompt
    whose prefill, logits included, this one shares. ``awaits`` is a running row and how many tokens
    of it to copy once it has computed them. ``n_cached`` counts prompt tokens that this row did not
    have to compute; ``not_reused`` says why none, where some could have been. ``order`` is when the
    row came, ``deadline`` when it ends with "time", ``pins`` whether its KV stays when it is over
    (then as ``kept``, a ``KvCache`` entry), ``kv_unified`` whether it shares cells with others.
    Times are ``time.perf_counter()`` values.
    """

    row: int
    prompt_ids: TokenIds
    max_new_tokens: int
    eos_token_ids: frozenset[int]
    sampler: RowSampler
    uniform: Callable[[], float]
    min_new_tokens: int = 0
    stop_checks: tuple[StopCheck, ...] = ()
    recorders: tuple[Recorder, ...] = ()
    counts: TokenCounts | None = None
    fork_of: Sequence | None = None
    deadline: float | None = None
    pins: bool = False

    tokens: TokenIds = field(init=False)
    n_tokens: int = field(init=False)
    last_token: int = field(init=False)
    order: int = 0
    kv_unified: bool = False
    n_kv: int = 0
    n_cached: int = 0
    not_reused: str | None = None
    awaits: tuple[Sequence, int] | None = None
    kept: object = None
    slot: int | None = None
    finish_reason: FinishReason | None = None
    first_token_at: float | None = None
    last_token_at: float | None = None

    def __post_init__(self) -> None:
        self.n_tokens = len(self.prompt_ids)
        self.tokens = np.empty(self.n_tokens + self.max_new_tokens, np.int32)
        self.tokens[: self.n_tokens] = self.prompt_ids
        self.last_token = int(self.prompt_ids[-1])

    @property
    def n_prompt(self) -> int:
        return len(self.prompt_ids)

    @property
    def n_new(self) -> int:
        return self.n_tokens - len(self.prompt_ids)

    @property
    def n_pending(self) -> int:
        """Tokens that are not in the KV cache yet."""
        return self.n_tokens - self.n_kv

    @property
    def new_token_ids(self) -> TokenIds:
        return self.tokens[len(self.prompt_ids) : self.n_tokens]

    def append(self, token_id: int) -> None:
        self.tokens[self.n_tokens] = token_id
        self.n_tokens += 1
        self.last_token = token_id
        if self.counts is not None:
            self.counts.add(token_id)


def is_computing_prompt(row: Sequence) -> bool:
    """Whether the row runs, and has not given a token yet."""
    return row.slot is not None and not row.n_new


def slot_of(row: Sequence) -> int:
    """The slot of a row that runs."""
    assert row.slot is not None
    return row.slot
