"""What an actor's model is loaded with, whatever its machine has found to be faster."""

from __future__ import annotations

from pathlib import Path

import pytest

import localgen
from localgen import LocalModel
from localgen.jobs.ray.loading import load_for_actor
from localgen.tuning.results import Speed
from localgen.tuning.workload import Workload


@pytest.mark.slow
def test_the_profile_of_a_node_is_left_out(
    tiny_bpe_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With it, a row's text would depend on the node that computes it."""
    monkeypatch.setenv("LOCALGEN_PROFILES", str(tmp_path))
    monkeypatch.setattr(
        Workload,
        "speed",
        lambda _, settings: Speed(9e6 if settings.get("n_batch") == 64 else 1e6, 1e5),
    )
    localgen.tune(tiny_bpe_path, n_threads=1, flash_attention="off")
    with LocalModel.from_pretrained(tiny_bpe_path, n_threads=1) as here:
        assert here.config.n_batch == 64
    with load_for_actor(tiny_bpe_path, {"n_threads": 1}) as of_actor:
        assert of_actor.config.n_batch != 64


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "used"),
    [({}, "off"), ({"flash_attention": "on"}, "on"), ({"kv_type": "q8_0"}, "auto")],
)
def test_the_attention_follows_no_measured_speeds(
    tiny_bpe_path: Path, given: dict[str, str], used: str
) -> None:
    """Else two actors may compute a row with different rounding, and its text would change.

    "auto" with a quantized KV cache is llama.cpp's choice, which does not depend on speeds.
    """
    with load_for_actor(tiny_bpe_path, {"device": "cpu", "n_threads": 1, **given}) as of_actor:
        assert of_actor.config.flash_attention == used
