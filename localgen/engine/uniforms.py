"""The random numbers of one sequence, which depend on nothing but its seed."""

from __future__ import annotations

from copy import deepcopy

import numpy as np

_BLOCK = 64


class UniformStream:
    """Uniforms in [0, 1) of one sequence: NumPy's counter-based Philox keyed by (seed, index)."""

    __slots__ = ("_block", "_generator", "_n_used")

    def __init__(self, seed: int, index: int) -> None:
        key = np.array([seed, index], dtype=np.uint64)
        self._generator = np.random.Generator(np.random.Philox(key=key))
        self._block: list[float] = []
        self._n_used = 0

    def __call__(self) -> float:
        """Return the next uniform."""
        if self._n_used == len(self._block):
            # Many at once: the same numbers, without a call into NumPy for each token.
            self._block, self._n_used = self._generator.random(_BLOCK).tolist(), 0
        uniform = self._block[self._n_used]
        self._n_used += 1
        return uniform

    def copy(self) -> UniformStream:
        """Return a stream that goes on with the same numbers."""
        clone = object.__new__(UniformStream)
        clone._generator = deepcopy(self._generator)
        clone._block, clone._n_used = self._block, self._n_used
        return clone
