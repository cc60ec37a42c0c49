"""What the engine needs from a model: a Protocol, and the batch of one forward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

TokenIds = npt.NDArray[np.int32]
Logits = npt.NDArray[np.float32]
State = npt.NDArray[np.uint8]


class PassStopped(Exception):
    """A forward pass, or the making of a KV cache, was stopped because its caller asked for it.

    After a pass the KV cache is as before or, where that is impossible, lost: see
    ``Backend.n_cache_resets``.
    """


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """The tokens of one forward pass: tokens of a sequence together, sequences in rising seq_id.

    token_ids, positions, seq_ids: int32 (n_tokens,), C-contiguous. output_rows: int32
    (n_outputs,), rising: the tokens, by their index in the batch, whose logits are returned.

    ``token_ids`` and ``positions`` may be filled anew and the same Batch decoded again; ``seq_ids``
    and ``output_rows`` are read once.
    """

    token_ids: TokenIds
    positions: TokenIds
    seq_ids: TokenIds
    output_rows: TokenIds


@dataclass(frozen=True, slots=True, eq=False)
class Saved:
    """A saved sequence: its int32 ``token_ids`` (n,) and their ``kv_state`` bytes."""

    token_ids: TokenIds
    state: State


@dataclass(frozen=True, slots=True)
class Work:
    """What sequences still have to compute: ``n_prompt`` tokens of prompts, and then at most
    ``n_steps`` passes with a token of each of ``n_rows`` sequences, which attend to ``depth``
    tokens each at the first of them. has_deadline: one of them ends at some time, done or not."""

    n_prompt: int
    n_rows: int
    depth: int
    n_steps: int
    has_deadline: bool = False


class Backend(Protocol):
    """A model with a KV cache of numbered sequences, 0 to ``n_slots`` - 1."""

    @property
    def can_truncate(self) -> bool:
        """Whether a sequence can be cut anywhere; a recurrent state can only be dropped whole."""

    @property
    def can_share_cells(self) -> bool:
        """Whether ``reserve`` accepts ``n_cells``."""

    @property
    def n_cache_resets(self) -> int:
        """How often everything in the KV cache was lost; grows with each loss."""

    @property
    def n_vocab(self) -> int: ...

    @property
    def n_batch(self) -> int:
        """The most tokens of one ``decode``."""

    @property
    def n_slots(self) -> int:
        """How many sequences the KV cache holds at most; 0 before the first ``reserve``."""

    @property
    def n_ctx_seq(self) -> int:
        """The most tokens of one sequence."""

    @property
    def pass_threads(self) -> int:
        """CPU threads of the last pass."""

    def n_slots_that_fit(self, n_tokens: int) -> int:
        """Return how many sequences of ``n_tokens`` the KV budget allows; may be 0."""

    def cells_fit(self, n_cells: int) -> bool:
        """Return whether the KV budget allows ``n_cells`` shared by all sequences."""

    @property
    def adapts(self) -> bool:
        """Whether ``suits`` may ever return False."""

    @property
    def flash_attention(self) -> str:
        """How passes compute attention now: "on", "off", or "auto" where llama.cpp decides."""

    @property
    def attention_obstacle(self) -> str | None:
        """Why the setting that is faster for the work cannot be used; None if it can."""

    def suits(self, work: Work | None, should_stop: Callable[[], bool] | None = None) -> bool:
        """Return whether the KV cache suits ``work`` as it was made, or another one would not repay
        being made; the next ``reserve`` makes the one that suits.

        work: None for results that are compared with others: they do not depend on measurements.
        Raises PassStopped if ``should_stop()``, called now and then, returns True.
        """

    def reserve(
        self,
        n_slots: int,
        n_tokens: int,
        keep: Sequence[int] = (),
        *,
        n_cells: int | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        """Make the KV cache anew, for ``n_slots`` sequences of at least ``n_tokens`` each, as it
        suits the work that ``suits`` was last asked about.

        keep: what sequence ``keep[i]`` held becomes sequence i; the rest is dropped. n_cells: let
        all sequences share that many cells, of which a copy of another sequence takes none.
        Raises BackendError if it does not fit the budget, and PassStopped if ``should_stop()``,
        called now and then, returns True: what ``keep`` names is lost then, and ``n_slots`` is 0.
        """

    def decode(self, batch: Batch, should_stop: Callable[[], bool] | None = None) -> Logits:
        """Run one forward pass.

        Returns float32 (n_outputs, n_vocab), a row for each of ``batch.output_rows``: borrowed,
        valid until the next call, which may return the same array with other numbers.
        Raises PassStopped if ``should_stop()``, called now and then in a long pass, returns True.
        """

    def forget(self) -> None:
        """Empty every sequence."""

    def kv_truncate(self, seq_id: int, n_tokens: int) -> bool:
        """Keep the first ``n_tokens`` of a sequence; False, with nothing changed, if the model
        cannot. 0 always works."""

    def kv_copy(self, source: int, target: int) -> None:
        """Make sequence ``target`` a copy of ``source``."""

    def flush_copies(self) -> None:
        """Finish copies that were deferred to the next pass; this may lose the KV cache."""

    def kv_state(self, seq_id: int) -> State:
        """Return a sequence's state as bytes for ``set_kv_state``: of any seq_id, with any number
        of sequences, of a backend with the same model and settings, however ``suits`` chose."""

    def set_kv_state(self, seq_id: int, saved: State, n_tokens: int) -> bool:
        """Fill a sequence with the ``n_tokens`` tokens of a ``kv_state``; False, with the sequence
        empty, if the bytes are refused."""
