"""What the engine needs from a model: a Protocol, and the batch that it decodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

TokenIds = npt.NDArray[np.int32]
Logits = npt.NDArray[np.float32]


class DeadlineReached(Exception):
    """A forward pass was cut short because its deadline came.

    The KV cache is as before it, or, for a recurrent model, empty and without an owner.
    """


@dataclass(frozen=True, slots=True)
class Batch:
    """One forward pass, tokens of one sequence together and sequences in rising ``seq_id``.

    token_ids, positions, seq_ids: int32 (n_tokens,); wants_logits: int8 (n_tokens,), 1 where the
    token's row of logits is needed.
    """

    token_ids: TokenIds
    positions: TokenIds
    seq_ids: TokenIds
    wants_logits: npt.NDArray[np.int8]


class Backend(Protocol):
    """A model with a KV cache of numbered sequences.

    ``owner`` is whoever filled the KV cache last: a loop that finds another owner starts afresh.
    """

    owner: object

    @property
    def n_vocab(self) -> int: ...

    @property
    def n_batch(self) -> int:
        """The most tokens of one ``decode``."""

    def reserve(self, n_sequences: int, n_tokens: int) -> int:
        """Make room for sequences of up to ``n_tokens`` each, and clear the KV cache.

        Returns the number of sequences that there is room for: fewer than asked when memory is
        short, never less than one.
        """

    def decode(self, batch: Batch, deadline: float | None = None) -> Logits:
        """Run one forward pass.

        Returns float32 (rows, n_vocab), one row for each 1 in ``wants_logits``, in batch order:
        borrowed, valid until the next call. Raises DeadlineReached when ``time.perf_counter()``
        passes ``deadline`` inside.
        """

    def kv_remove(self, seq_id: int) -> None:
        """Forget one sequence."""

    def kv_copy(self, source: int, target: int) -> None:
        """Make ``target`` hold all that ``source`` holds."""
