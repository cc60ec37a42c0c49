"""What an actor needs, against the estimate that loading makes."""

from __future__ import annotations

from pathlib import Path

from localgen.config import ModelConfig
from localgen.gguf.gate import check_model
from localgen.jobs.ray.actor_memory import actor_memory
from localgen.jobs.ray.sizing import PROCESS_BYTES
from localgen.llama import fitting


def test_weights_are_shared_and_the_rest_is_each_actors_own(tiny_bpe_path: Path) -> None:
    config = ModelConfig(n_ctx=512, max_sequences=8)
    file = check_model(tiny_bpe_path)
    needs = actor_memory(file, config)
    one = fitting.estimate(file, config, 0)
    assert needs.shared + needs.least == PROCESS_BYTES + one.needed
    assert needs.shared + one.ram.repacked == one.ram.weights
    assert needs.kv_most == 8 * needs.kv_least > 0


def test_sequences_that_run_alone_need_the_kv_cache_of_one(tiny_bpe_path: Path) -> None:
    needs = actor_memory(check_model(tiny_bpe_path), ModelConfig(n_ctx=512, deterministic=True))
    assert needs.kv_most == needs.kv_least
