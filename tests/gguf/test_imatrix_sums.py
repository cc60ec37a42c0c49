"""Sums of squares by hand, against a loop, and of parts that are added."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localgen import QuantizeError
from localgen.gguf.imatrix_sums import Sums, dense_sums, expert_sums, merged


def sums(values: list[list[float]], counts: list[int]) -> Sums:
    return Sums(np.array(values, np.float64), np.array(counts))


def test_a_matrix_by_hand() -> None:
    """Two inputs of three columns: 1 + 16, 4 + 0, 9 + 1."""
    found = dense_sums(np.array([[[[1, 2, 3], [4, 0, -1]]]], np.float32))
    assert found.sums.tolist() == [[17, 4, 10]]
    assert found.counts.tolist() == [2]


def test_several_matrices_of_one_tensor_share_a_count() -> None:
    """Four heads meet two matrices in turn: the first gets 1 + 9, the other 4 + 16."""
    found = dense_sums(np.array([[[[1]], [[2]], [[3]], [[4]]]], np.float32), (1, 2))
    assert found.sums.tolist() == [[10, 20]]
    assert found.counts.tolist() == [2]


@given(
    st.integers(1, 6),
    st.integers(1, 3),
    st.integers(1, 4),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_experts_get_what_a_loop_gives_them(
    n_tokens: int, n_chosen: int, n_columns: int, is_shared: bool, seed: int
) -> None:
    random = np.random.default_rng(seed)
    inputs = random.integers(-3, 4, (n_tokens, 1 if is_shared else n_chosen, n_columns))
    experts = random.integers(0, 5, (n_tokens, n_chosen)).astype(np.int32)
    expected, counts = np.zeros((5, n_columns)), np.zeros(5)
    for token in range(n_tokens):
        for slot in range(n_chosen):
            expected[experts[token, slot]] += inputs[token, 0 if is_shared else slot] ** 2
            counts[experts[token, slot]] += 1
    found = expert_sums(inputs.astype(np.float32), experts, 5)
    assert found.sums.tolist() == expected.tolist()
    assert found.counts.tolist() == counts.tolist()


@given(st.integers(0, 7), st.integers(0, 2**32 - 1))
def test_parts_add_up_to_the_whole(cut: int, seed: int) -> None:
    rows = np.random.default_rng(seed).integers(-9, 10, (1, 1, 8, 3)).astype(np.float32)
    whole = dense_sums(rows)
    parts = dense_sums(rows[:, :, :cut]) + dense_sums(rows[:, :, cut:])
    assert parts.sums.tolist() == whole.sums.tolist()
    assert parts.counts.tolist() == whole.counts.tolist()


def test_one_count_stands_for_each_expert() -> None:
    """A file of the older format has a single count for all experts of a tensor."""
    found = sums([[1, 2, 3, 4]], [5]) + sums([[1, 1], [1, 1]], [1, 0])
    assert found.sums.tolist() == [[2, 3], [4, 5]]
    assert found.counts.tolist() == [6, 5]


def test_what_has_no_data() -> None:
    """The second expert had no input, and the first one's last column was always 0."""
    found = sums([[4, 0], [0, 0]], [2, 0])
    assert (found.n_unused, found.n_zero_columns) == (1, 1)
    assert found.means().tolist() == [[2, 0], [0, 0]]


def test_other_shapes_are_another_model() -> None:
    parts = [("a.gguf", {"w": sums([[1, 2]], [1])}), ("b.gguf", {"w": sums([[1, 2, 3]], [1])})]
    message = r"b\.gguf belongs to another model: w has different shapes \(\(1, 2\) and \(1, 3\)\)"
    with pytest.raises(QuantizeError, match=message):
        merged(parts)
