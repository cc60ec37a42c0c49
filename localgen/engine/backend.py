"""What the engine needs from a model: a Protocol, and the batch that it decodes."""

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
    """A forward pass was cut short because its caller asked for it.

    The KV cache is as before it or, where that cannot be had, lost: see ``Backend.epoch``.
    """


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """One forward pass, tokens of one sequence together and sequences in rising ``seq_id``.

    token_ids, positions, seq_ids: int32 (n_tokens,); wants_logits: int8 (n_tokens,), 1 where the
    token's row of logits is needed. All are C-contiguous. The same object given to ``decode`` again
    means the same rows with other tokens, each one position further.
    """

    token_ids: TokenIds
    positions: TokenIds
    seq_ids: TokenIds
    wants_logits: npt.NDArray[np.int8]


@dataclass(frozen=True, slots=True, eq=False)
class Saved:
    """What a slot held: int32 ``token_ids`` (n,), and ``kv_state``'s bytes for them."""

    token_ids: TokenIds
    state: State


class Backend(Protocol):
    """A model with a KV cache of numbered slots, one sequence each.

    ``can_truncate``: whether a sequence can be cut anywhere, or only be forgotten (a recurrent
    state knows no earlier one). ``can_share_cells``: whether ``reserve`` knows ``n_cells``.
    """

    can_truncate: bool
    can_share_cells: bool

    @property
    def epoch(self) -> int:
        """Grows whenever all that the KV cache held is lost."""

    @property
    def n_vocab(self) -> int: ...

    @property
    def n_batch(self) -> int:
        """The most tokens of one ``decode``."""

    @property
    def n_slots(self) -> int:
        """Slots that there are; 0 before the first ``reserve``."""

    @property
    def n_ctx_seq(self) -> int:
        """The most tokens of one slot."""

    def n_slots_that_fit(self, n_tokens: int) -> int:
        """How many slots for ``n_tokens`` each the KV budget allows; may be 0."""

    def cells_fit(self, n_cells: int) -> bool:
        """Whether the KV budget allows as many cells, shared by all slots."""

    def reserve(
        self, n_slots: int, n_tokens: int, keep: Sequence[int] = (), *, n_cells: int | None = None
    ) -> None:
        """Make the KV cache anew, for ``n_slots`` of at least ``n_tokens`` each.

        n_cells: let the slots take their tokens from that many cells in common; what one has as a
        copy of another takes none. What was in slot ``keep[i]`` is then in slot i; everything else
        is forgotten. Raises BackendError if it does not fit the budget.
        """

    def decode(self, batch: Batch, should_stop: Callable[[], bool] | None = None) -> Logits:
        """Run one forward pass.

        Returns float32 (rows, n_vocab), one row for each 1 in ``wants_logits``, in batch order:
        borrowed, valid until the next call, which may give the same array with other numbers.
        Raises PassStopped when ``should_stop()``, asked now and then in a long pass, is true.
        """

    def forget(self) -> None:
        """Empty every slot."""

    def kv_truncate(self, slot: int, n_tokens: int) -> bool:
        """Keep the first ``n_tokens`` of what a slot holds; False, with nothing changed, if the
        model cannot. 0 always works."""

    def kv_copy(self, source: int, target: int) -> None:
        """Make slot ``target`` hold all that ``source`` holds."""

    def settle(self) -> None:
        """Do now what copies left to the next pass; what the KV cache held may be lost by it."""

    def kv_state(self, slot: int) -> State:
        """All that a slot holds, as bytes for ``set_kv_state``: of any slot, in any number of
        slots, of a backend with the same model and settings."""

    def set_kv_state(self, slot: int, saved: State, n_tokens: int) -> bool:
        """Fill a slot with the ``n_tokens`` tokens of a ``kv_state``; False, with the slot empty,
        if the bytes are refused."""
