"""Amounts as people read them."""

from __future__ import annotations

import pytest

from localgen._util.format import as_count


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (999, "999"), (1000, "1k"), (134_515_008, "135M"), (7_241_732_096, "7.24B")],
)
def test_small_counts_are_whole_and_large_ones_rounded(number: int, text: str) -> None:
    assert as_count(number) == text
