"""Says what an actor with a model needs, by the estimate that loading makes; on CPUs."""

from __future__ import annotations

from localgen.config import ModelConfig
from localgen.gguf.gate import ModelFile
from localgen.jobs.ray.sizing import PROCESS_BYTES, ActorMemory
from localgen.llama import fitting


def actor_memory(file: ModelFile, config: ModelConfig) -> ActorMemory:
    """Return the memory of an actor that loads ``file`` so, without a GPU.

    Weights that llama.cpp copies into another order are each actor's own.
    """
    one = fitting.estimate(file, config, 0)
    n_sequences = 1 if config.deterministic else config.max_sequences
    most = fitting.estimate(file, config, 0, n_sequences)
    ram = one.ram
    return ActorMemory(
        shared=ram.weights - one.reclaimable,
        own=PROCESS_BYTES + ram.repacked + ram.compute + ram.vocabulary,
        kv_least=ram.kv_cache,
        kv_most=most.ram.kv_cache,
    )
