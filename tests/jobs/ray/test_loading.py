"""What an actor's model is loaded with, whatever its machine has found to be faster."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import localgen
from localgen import LocalModel, ModelConfig
from localgen.jobs.ray.loading import for_actors, load_for_actor
from localgen.tuning.results import Speed
from localgen.tuning.workload import Workload
from tests.conformance.compare import KINDS


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


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ({}, "on"),
        ({"kv_type": "bf16"}, "on"),
        ({"flash_attention": "off"}, "off"),
        # Those below never follow measured speeds.
        ({"kv_type": "f32"}, "auto"),
        ({"deterministic": True}, "auto"),
        ({"device": "auto"}, "auto"),
    ],
)
def test_the_attention_of_actors_follows_no_measured_speeds(
    given: dict[str, Any], used: str
) -> None:
    """Else two actors may compute a row with different rounding, and its text would change."""
    config = ModelConfig(**{"device": "cpu", **given})
    assert for_actors(config) == replace(config, flash_attention=used)


@pytest.mark.slow
def test_an_actor_loads_with_the_attention_of_all(tiny_bpe_path: Path) -> None:
    with load_for_actor(tiny_bpe_path, {"device": "cpu", "n_threads": 1}) as of_actor:
        assert of_actor.config.flash_attention == "on"


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_models_of_every_kind_of_memory_compute_with_flash_attention(
    kind: str, tmp_path: Path
) -> None:
    """Log-probabilities differ by the rounding to F16 only: no kernel of llama.cpp is missing."""
    path = tmp_path / f"{kind}.gguf"
    KINDS[kind](path, n_ctx_train=256)
    found = {}
    for flash_attention in ("on", "off"):
        with LocalModel.from_pretrained(
            path, n_ctx=256, n_threads=1, flash_attention=flash_attention
        ) as model:
            found[flash_attention] = model.score(list(range(3, 40)))
    np.testing.assert_allclose(found["on"], found["off"], rtol=0, atol=0.1)
