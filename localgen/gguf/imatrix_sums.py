"""Sums of squares of the inputs of weight matrices: what an importance matrix is made of.

Pure NumPy; it knows no files and no llama.cpp. Which rows count follows llama-imatrix
(tools/imatrix/imatrix.cpp of llama.cpp, commit 0c1e57098).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from localgen.errors import QuantizeError

Inputs = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Sums:
    """The sums of one tensor.

    sums: (n_counts, n_values), squares of its inputs by column. counts: (n_counts,), how many
    inputs they are of: one for each expert, or a single one for all matrices of the tensor.
    """

    sums: Doubles
    counts: Counts

    @property
    def n_unused(self) -> int:
        """Experts that had no input."""
        return int((self.counts == 0).sum())

    @property
    def n_zero_columns(self) -> int:
        """Columns that were 0 in each input, where there was any."""
        return int((self.sums[self.counts > 0] == 0).sum())

    def means(self) -> Inputs:
        """Return the mean squares, float32 in the shape of ``sums``, and 0 without inputs."""
        counts = self.counts[:, None]
        means = np.divide(self.sums, counts, out=np.zeros_like(self.sums), where=counts != 0)
        return means.astype(np.float32)

    def __add__(self, other: Sums) -> Sums:
        """Return both together. Raises ValueError if their shapes differ."""
        one, two = self._with_counts(len(other.counts)), other._with_counts(len(self.counts))
        if one.sums.shape != two.sums.shape:
            raise ValueError(f"{self.sums.shape} and {other.sums.shape}")
        return Sums(one.sums + two.sums, one.counts + two.counts)

    def _with_counts(self, n: int) -> Sums:
        """Return the same with ``n`` counts, if a single one stands for that many."""
        if len(self.counts) != 1 or self.sums.size % n:
            return self
        return Sums(self.sums.reshape(n, -1), np.repeat(self.counts, n))


def dense_sums(inputs: Inputs, n_matrices: tuple[int, int] = (1, 1)) -> Sums:
    """Return the sums of a product of ``inputs`` with one tensor.

    inputs: (n3, n2, n_rows, n_columns). n_matrices: the tensor's own n3 and n2; several inputs
    meet the same matrix where it has fewer.
    """
    n3, n2, n_rows, n_columns = inputs.shape
    sums = np.zeros((n_matrices[0], n_matrices[1], n_columns))
    for i3 in range(n3):
        for i2 in range(n2):
            sums[i3 % n_matrices[0], i2 % n_matrices[1]] += squares(inputs[i3, i2])
    n_inputs = n3 * n2 * n_rows // math.prod(n_matrices)
    return Sums(sums.reshape(1, -1), np.array([n_inputs]))


def expert_sums(inputs: Inputs, experts: npt.NDArray[np.int32], n_experts: int) -> Sums:
    """Return the sums of a product in which each token meets the experts that were chosen for it.

    inputs: (n_tokens, n_slots, n_columns), where n_slots is 1 if all experts of a token see the
    same. experts: (n_tokens, n_chosen).
    """
    sums = np.zeros((n_experts, inputs.shape[-1]))
    for slot in range(experts.shape[1]):
        rows, chosen = inputs[:, slot % inputs.shape[1]], experts[:, slot]
        for expert in np.unique(chosen):
            sums[expert] += squares(rows[chosen == expert])
    return Sums(sums, np.bincount(experts.ravel(), minlength=n_experts))


def squares(rows: Inputs) -> Inputs:
    """Return the sum of the squares of each column, (n_columns,), of some hundred ``rows``."""
    found: Inputs = np.einsum("ij,ij->j", rows, rows)
    return found


def merged(parts: Iterable[tuple[str, Mapping[str, Sums]]]) -> dict[str, Sums]:
    """Return the sums of several importance matrices together; each comes with a name for errors.

    Raises QuantizeError if a tensor has other columns in one of them.
    """
    total: dict[str, Sums] = {}
    for source, sums in parts:
        for name, found in sums.items():
            if name not in total:
                total[name] = found
                continue
            try:
                total[name] = total[name] + found
            except ValueError as error:
                raise QuantizeError(
                    f"{source} belongs to another model: {name} has different shapes ({error})"
                ) from None
    return total
