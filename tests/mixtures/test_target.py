"""Targets as users write them."""

from __future__ import annotations

from typing import Any

import pytest

from localgen.mixtures.target import target_of


@pytest.mark.parametrize(
    ("given", "n_bytes", "label"),
    [
        ("2.5GB", 2_500_000_000, "2.50GB"),
        ("100 mb", 100_000_000, "100MB"),
        ("1.5 GiB", 3 * 2**29, "1.61GB"),
        (123_456, 123_456, "123kB"),
        ("900", 900, "900B"),
    ],
)
def test_sizes(given: Any, n_bytes: int, label: str) -> None:
    target = target_of(given, None)
    assert (target.n_bytes, target.label) == (n_bytes, label)
    assert target.option == f"target_size={given}".replace(" ", "")


def test_losses() -> None:
    target = target_of(None, 0.05)
    assert (target.kld, target.label, target.option) == (0.05, "KLD0.05", "target_kld=0.05")


@pytest.mark.parametrize(
    ("size", "kld", "message"),
    [
        ("much", None, "target_size='much' is not a size. Write 2.5GB"),
        (True, None, "is not a size"),
        (-5, None, "is not a size"),
        (0, None, "target_size must be greater than 0"),
        (None, 0, "target_kld must be a number greater than 0 and at most 1000000, got 0"),
        (None, 1e7, "target_kld must be a number greater than 0 and at most 1000000, got 1"),
        (None, float("nan"), "target_kld must be a number"),
        (None, "0.1", "target_kld must be a number"),
        ("1GB", 0.1, "not both"),
    ],
)
def test_what_is_no_target(size: Any, kld: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        target_of(size, kld)
