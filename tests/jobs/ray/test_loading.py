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
    """With it, an actor would take other memory than was counted."""
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
