"""Rows that are written to while one token is chosen."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from localgen.engine.backend import Logits
from localgen.engine.sampling.filters import RowWeights


@dataclass(frozen=True, slots=True, eq=False)
class Scratch:
    """Memory that the samplers of a model share: one of them at a time chooses a token, and none
    reads what it has not written.

    row: a copy of the logits, for processors. weights: those of all tokens. ``limits``: what a
    constraint allows, made when it is first needed.
    """

    row: Logits
    weights: RowWeights
    _limits: list[Logits] = field(default_factory=list)

    @property
    def limits(self) -> Logits:
        """A row of (ceil(n_vocab / 8) * 8,), for ``masks.limits``."""
        if not self._limits:
            self._limits.append(np.empty(-(-len(self.row) // 8) * 8, np.float32))
        return self._limits[0]

    @classmethod
    def of_size(cls, n_vocab: int) -> Scratch:
        """Return rows (n_vocab,). The first use of fresh ones costs more page faults than a pass
        over them takes, so they are made once, not for each call."""
        return cls(np.empty(n_vocab, np.float32), np.empty(n_vocab, np.float32))
