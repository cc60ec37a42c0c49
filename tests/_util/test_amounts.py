"""Sizes and rates as people write them."""

from __future__ import annotations

import pytest

from localgen._util.amounts import bits_per_second_of, n_bytes_of


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [("64GB", 64 * 10**9), ("3.5GiB", 3758096384), ("800 mb", 800 * 10**6), (4096, 4096)],
)
def test_sizes(text: str | int, n_bytes: int) -> None:
    assert n_bytes_of("node_memory", text) == n_bytes


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("1Gbit", 1e9), ("2.5 Mbit/s", 2.5e6), ("1gbits/s", 1e9), ("1Gbps", 1e9), ("1Gb/s", 1e9),
        ("125MB/s", 1e9), ("125MBps", 1e9),
    ],
)  # fmt: skip
def test_rates(text: str, rate: float) -> None:
    assert bits_per_second_of("bandwidth", text) == rate


@pytest.mark.parametrize("text", ["1", "1GB", "1Gb", "9s", "125MiB/s"])
def test_what_may_be_no_rate_is_refused_with_the_forms_that_are(text: str) -> None:
    with pytest.raises(ValueError, match=r"^bandwidth='.*' is not a rate\. .* or in bytes 125MB/s"):
        bits_per_second_of("bandwidth", text)


def test_nothing_is_no_amount() -> None:
    with pytest.raises(ValueError, match="node_memory must be greater than 0"):
        n_bytes_of("node_memory", "0GB")
    with pytest.raises(ValueError, match="bandwidth must be greater than 0"):
        bits_per_second_of("bandwidth", "0Gbit")
    with pytest.raises(ValueError, match="node_memory='much' is not a size"):
        n_bytes_of("node_memory", "much")
