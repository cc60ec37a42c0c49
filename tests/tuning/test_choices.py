"""Which settings are searched, and with which values."""

from __future__ import annotations

from typing import Any

import pytest

from localgen import ModelConfig
from localgen._util import system
from localgen.tuning.choices import choices, thread_counts
from localgen.tuning.search import LEAST_GAIN


def searched(
    n_prompt: int = 1024, *, attention_adapts: bool = False, **options: Any
) -> dict[str, tuple[Any, ...]]:
    found = choices(
        ModelConfig(**options),
        n_prompt,
        attention_adapts=lambda: attention_adapts,
        allow_kv_types=True,
    )
    return {choice.setting: choice.values for choice in found}


def test_counts_of_threads_are_fewer_than_all_cpus() -> None:
    """All of them are the default, which adapts; a stored number would end that."""
    assert thread_counts(16, 8) == (15, 8)
    assert thread_counts(4, 64) == (3, 2)
    assert thread_counts(2, 2) == (1,)
    assert thread_counts(1, None) == ()


def test_fewer_threads_need_a_clear_gain_and_quiet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(system, "usable_cpus", lambda: 4)
    found = choices(ModelConfig(), 1024, attention_adapts=lambda: True, allow_kv_types=False)
    limits = {choice.setting: (choice.least_gain, choice.least_cpu_share) for choice in found}
    assert limits == {"n_threads": (1.1, 0.9), "n_batch": (LEAST_GAIN, 0.0)}


def test_attention_is_searched_only_where_it_does_not_adapt() -> None:
    assert searched()["flash_attention"] == ("on", "off")
    assert "flash_attention" not in searched(attention_adapts=True)


@pytest.mark.parametrize("kv_type", ["q8_0", "f32"])
def test_some_caches_leave_no_choice_of_attention(kv_type: str) -> None:
    assert "flash_attention" not in searched(kv_type=kv_type)


def test_passes_are_no_longer_than_the_prompt_nor_smaller_than_max_sequences() -> None:
    assert searched()["n_batch"] == (64, 128, 256, 1024)
    assert searched(n_prompt=128, max_sequences=100)["n_batch"] == ()


@pytest.mark.parametrize("n_batch", [256, 2048])
def test_a_size_that_cuts_the_prompt_as_the_default_does_is_not_searched(n_batch: int) -> None:
    """Noise alone would decide between them."""
    assert searched(n_prompt=256, n_batch=n_batch)["n_batch"] == (64, 128)


def test_what_is_given_is_not_searched_nor_asked_for() -> None:
    found = choices(
        ModelConfig(),
        1024,
        given=["flash_attention", "n_batch", "kv_type"],
        attention_adapts=lambda: pytest.fail("it was asked for"),
        allow_kv_types=True,
    )
    assert [choice.setting for choice in found] == ["n_threads"]
