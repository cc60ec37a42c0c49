"""What is measured: lengths that fit the time and the context, and a real measurement."""

from __future__ import annotations

from pathlib import Path

import pytest

from localgen.tuning.results import Speed
from localgen.tuning.workload import Workload, attention_adapts, load


def lengths(n_ctx: int, speed: Speed) -> tuple[int, int]:
    work = Workload(Path("x"), {}, n_ctx).sized_for(speed, 2.0)
    return work.n_prompt, work.n_new


def test_lengths_follow_the_speed() -> None:
    assert lengths(4096, Speed(1100.0, 60.0)) == (512, 20)
    assert lengths(4096, Speed(1.0, 1.0)) == (64, 8)
    assert lengths(4096, Speed(1e6, 1e6)) == (1024, 64)


def test_prompt_and_new_tokens_fit_the_context() -> None:
    assert lengths(1024, Speed(1e6, 1e6)) == (960, 64)
    assert lengths(16, Speed(1e6, 1e6)) == (8, 8)
    first = Workload(Path("x"), {}, 66)
    assert (first.n_prompt, first.n_new) == (58, 8)


@pytest.mark.slow
def test_a_real_measurement_of_a_tiny_model(tiny_bpe_path: Path) -> None:
    work = Workload(tiny_bpe_path, {"n_ctx": 64}, 64)
    speed = work.speed({"n_threads": 1})
    assert speed.decode > 0
    assert speed.prefill is not None
    assert speed.prefill > 0


@pytest.mark.slow
def test_whether_attention_adapts_is_what_the_model_says(
    tiny_bpe_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model so small is not worth measuring; the limit is lowered to see the other answer."""

    def adapts(**options: str) -> bool:
        with load(tiny_bpe_path, {"n_ctx": 256, "n_threads": 1}, options) as model:
            return attention_adapts(model)

    assert not adapts()
    monkeypatch.setattr("localgen.llama.backend.LEAST_WEIGHTS", 0)
    assert adapts()
    assert not adapts(flash_attention="on")
