"""Everything about one sequence in flight, and what a finished one leaves in the KV cache."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np

from localgen.engine.acceptance import Distribution
from localgen.engine.backend import Logits, TokenIds
from localgen.engine.constraint import ConstraintTracker
from localgen.engine.trackers import TokenCounts, Tracker
from localgen.engine.uniforms import UniformStream

FinishReason = Literal["eos", "stop", "length", "time", "cancelled"]
StopCheck = Callable[["Sequence"], bool]


class Recorder(Protocol):
    """Keeps something of each step's logits; called before the token is accepted."""

    def record(self, logits: Logits, scores: Callable[[], Logits], token_id: int) -> None:
        """Record a step. ``logits`` (n_vocab,) as the model gave them, borrowed; ``scores()`` the
        same after all processors and filters, borrowed too."""

    def rollback(self, n_tokens: int) -> None:
        """Drop the last ``n_tokens`` steps."""

    def copy(self) -> Recorder:
        """Return a recorder of the same steps that goes its own way from here."""


class TokenSampler(Protocol):
    """Chooses the next token of a sequence; see ``sampling.chain.Sampler``."""

    def sample(self, logits: Logits, sequence: Sequence) -> int: ...

    @property
    def needs_mask(self) -> bool: ...

    def scores(self, logits: Logits, sequence: Sequence) -> Logits: ...

    def distribution(self, logits: Logits, sequence: Sequence) -> Distribution: ...


@dataclass(slots=True, eq=False)
class CachedSequence:
    """What a finished sequence left in the KV cache under ``seq_id``: the KV of ``token_ids`` (n,).

    ``seq_id`` is None once it was dropped. ``is_pinned``: it must not be dropped; any thread may
    clear that, and read both, at any time.
    """

    token_ids: TokenIds
    seq_id: int | None
    last_used: int
    is_pinned: bool = False


@dataclass(slots=True)
class Speculation:
    """What speculation did for one sequence.

    n_drafted: draft tokens in its passes. n_accepted: those of them that became its tokens.
    n_passes: the passes that gave it tokens. off_because: why there can be none any more, though
    it was asked for. declined_because: why there was none so far. is_drawn: whether drafts are
    drawn, so that its seed does not repeat the text.
    """

    n_drafted: int = 0
    n_accepted: int = 0
    n_passes: int = 0
    off_because: str | None = None
    declined_because: str | None = None
    is_drawn: bool = False

    @property
    def none_because(self) -> str | None:
        """Why there is no speculation any more, or never was; None if there is."""
        return self.off_because or (None if self.n_drafted else self.declined_because)


@dataclass(slots=True, eq=False)
class Sequence:
    """One sequence: its tokens, its place in the KV cache, and how it is sampled and stopped.

    Given: ``index``, its number in the call; ``prompt_ids`` (n,) int32; ``trackers``, state that
    follows its tokens; ``prompt_of``, the sequence with the same prompt whose prefill, logits
    included, it shares; ``deadline``, a ``time.perf_counter()`` value at which it ends with
    "time"; ``pins``, whether its KV stays pinned when it is finished (as ``cached``);
    ``n_backed_up``, how many tokens at the end of its prompt it generates again: they are not in
    ``prompt_ids``, and ``max_new_tokens`` has room for as many more; ``group``, the sequences,
    itself among them, of which none starts before all can, and which become copies of each other;
    ``is_evaluated``, whether its tokens are given and only their probabilities are asked for.

    Its state: ``tokens`` (capacity,) int32 holds prompt and new tokens, ``n_tokens`` of them; the
    first ``n_kv`` are in the KV cache under ``seq_id``, which was given room for ``n_reserved``.
    ``draft``: tokens that may follow, to go through the next pass with the last token.
    ``output_from``: the index of the first token whose logits are still wanted. ``n_cached`` counts
    prompt tokens that it did not have to compute; ``cache_miss_reason`` says why none, where some
    were cached. ``waits_for``: a running sequence and how many tokens to copy from it once they are
    computed. ``order``: when it came. ``kv_unified``: whether it shares cells with others.
    ``flash_attention``: the settings that it was computed with, in their order;
    ``attention_obstacle``: why the faster one could not be used. ``guide_logprobs`` (n_vocab,):
    those of its guide for the next token; see ``guidance``. ``speculation``: its counts, if it was
    asked for.
    """

    index: int
    prompt_ids: TokenIds
    max_new_tokens: int
    eos_token_ids: frozenset[int]
    sampler: TokenSampler
    uniform: UniformStream
    trackers: tuple[Tracker, ...] = ()
    stop_checks: tuple[StopCheck, ...] = ()
    recorders: tuple[Recorder, ...] = ()
    prompt_of: Sequence | None = None
    deadline: float | None = None
    pins: bool = False
    n_backed_up: int = 0
    group: tuple[Sequence, ...] = ()
    is_evaluated: bool = False

    counts: TokenCounts | None = field(init=False)
    constraint: ConstraintTracker | None = field(init=False)
    tokens: TokenIds = field(init=False)
    n_tokens: int = field(init=False)
    n_reserved: int = field(init=False)
    last_token: int = field(init=False)
    output_from: int = field(init=False)
    draft: tuple[int, ...] = ()
    order: int = 0
    kv_unified: bool = False
    flash_attention: tuple[str, ...] = ()
    attention_obstacle: str | None = None
    n_kv: int = 0
    n_cached: int = 0
    cache_miss_reason: str | None = None
    waits_for: tuple[Sequence, int] | None = None
    cached: CachedSequence | None = None
    guide_logprobs: Logits | None = None
    speculation: Speculation | None = None
    seq_id: int | None = None
    finish_reason: FinishReason | None = None
    first_token_at: float | None = None
    last_token_at: float | None = None

    def __post_init__(self) -> None:
        self.n_tokens = len(self.prompt_ids)
        self.tokens = np.empty(self.n_tokens + self.max_new_tokens, np.int32)
        self.tokens[: self.n_tokens] = self.prompt_ids
        self.n_reserved = len(self.tokens)
        self.last_token = int(self.prompt_ids[-1])
        self.output_from = self.n_tokens - 1
        self._find_trackers()

    def _find_trackers(self) -> None:
        self.counts = next((t for t in self.trackers if isinstance(t, TokenCounts)), None)
        self.constraint = next((t for t in self.trackers if isinstance(t, ConstraintTracker)), None)

    @property
    def n_prompt(self) -> int:
        return len(self.prompt_ids)

    @property
    def n_new(self) -> int:
        return self.n_tokens - len(self.prompt_ids)

    @property
    def n_after_prompt(self) -> int:
        """New tokens without as many as are generated again, which may be more than there are."""
        return self.n_new - self.n_backed_up

    @property
    def n_pending(self) -> int:
        """Tokens that are not in the KV cache yet."""
        return self.n_tokens - self.n_kv

    @property
    def token_ids(self) -> TokenIds:
        """The tokens of the prompt and the new ones, (n_tokens,)."""
        return self.tokens[: self.n_tokens]

    @property
    def new_token_ids(self) -> TokenIds:
        return self.tokens[len(self.prompt_ids) : self.n_tokens]

    @property
    def n_room(self) -> int:
        """Tokens that there must be room for where it has a KV stream of its own."""
        return max(self.n_reserved, self.n_tokens)

    def reserve(self, n_new_tokens: int) -> None:
        """Ask for room for so many further tokens, but not for more than it may come to have."""
        self.n_reserved = min(len(self.tokens), self.n_tokens + n_new_tokens)

    @property
    def is_computing_prompt(self) -> bool:
        """Whether it runs, and its prompt is not all in the KV cache yet."""
        return self.seq_id is not None and not self.n_new and self.n_kv < self.n_prompt

    @property
    def held_seq_id(self) -> int:
        """The ``seq_id`` of a sequence that runs."""
        assert self.seq_id is not None
        return self.seq_id

    def note_attention(self, setting: str, obstacle: str | None = None) -> None:
        """Record how its next passes compute attention, and why not in the faster way."""
        self.attention_obstacle = obstacle
        if self.flash_attention[-1:] != (setting,):
            self.flash_attention += (setting,)

    def accept(self, token_id: int) -> None:
        """Add a new token, and tell the trackers."""
        self.tokens[self.n_tokens] = token_id
        self.output_from = self.n_tokens
        self.n_tokens += 1
        self.last_token = token_id
        for tracker in self.trackers:
            tracker.accept(token_id)

    def rollback(self, n_tokens: int) -> None:
        """Take the last ``n_tokens`` new tokens back, from trackers and recorders too; their KV is
        the caller's to return."""
        assert 0 <= n_tokens <= self.n_new
        self.n_tokens -= n_tokens
        self.last_token = int(self.tokens[self.n_tokens - 1])
        self.output_from = self.n_tokens - 1
        for tracker in self.trackers:
            tracker.rollback(n_tokens)
        for recorder in self.recorders:
            recorder.rollback(n_tokens)

    def fork(self, index: int) -> Sequence:
        """Return an exact copy of all that is per sequence, random stream included.

        The copy has no KV yet, and shares nothing that changes.
        """
        clone = copy(self)
        clone.index = index
        clone.tokens = self.tokens.copy()
        clone.trackers = tuple(tracker.copy() for tracker in self.trackers)
        clone.recorders = tuple(recorder.copy() for recorder in self.recorders)
        clone.uniform = self.uniform.copy()
        clone._find_trackers()
        clone.prompt_of = clone.waits_for = clone.cached = clone.seq_id = None
        clone.group = ()
        clone.n_kv = 0
        clone.draft = ()
        clone.speculation = copy(self.speculation)
        return clone

    def become(self, source: Sequence) -> None:
        """Take the tokens of ``source``, which has the same prompt, and the state that follows
        them; random stream and KV excepted."""
        self.n_tokens = source.n_tokens
        self.tokens[: self.n_tokens] = source.tokens[: self.n_tokens]
        self.last_token, self.output_from = source.last_token, source.output_from
        self.trackers = tuple(tracker.copy() for tracker in source.trackers)
        self.recorders = tuple(recorder.copy() for recorder in source.recorders)
        self.draft = ()
        self._find_trackers()

    def probe(self, token_id: int) -> Sequence:
        """Return what the sequence would be with one more token, to be looked at only."""
        probe = copy(self)
        probe.trackers = tuple(tracker.copy() for tracker in self.trackers)
        probe._find_trackers()
        probe.accept(token_id)  # in the same array, after the tokens that are the sequence's
        return probe
