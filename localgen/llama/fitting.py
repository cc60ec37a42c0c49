"""Refuses a model that does not fit the available memory, and suggests what does."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from localgen._util import system
from localgen._util.format import as_size
from localgen.config import UNQUANTIZED, ModelConfig
from localgen.errors import NotEnoughMemoryError
from localgen.gguf import memory
from localgen.gguf.gate import ModelFile
from localgen.gguf.memory import MemoryEstimate
from localgen.llama import amx, devices
from localgen.llama.ggml_devices import gpu_memory
from localgen.llama.library import system_info

# Bits per weight of whole files of a common model, Llama-3.1-8B, embeddings included: an estimate
# for levels of which there is no file to measure (llama.cpp's tools/quantize/README.md).
_TYPICAL_BITS = {
    "Q8_0": 8.50, "Q6_K": 6.56, "Q5_K_M": 5.70, "Q4_K_M": 4.89, "Q3_K_M": 4.00, "Q2_K": 3.16,
    "IQ2_XS": 2.59,
}  # fmt: skip
_LEAST_CONTEXT = 512
_SMALLER_KV = "q8_0"


def estimate(
    file: ModelFile, config: ModelConfig, n_gpu_layers: int, n_sequences: int = 1
) -> MemoryEstimate:
    """Return ``memory.estimate`` for the llama.cpp of this process."""
    repacked = memory.repacked_types(system_info()) if amx.is_safe() else ()
    return memory.estimate(
        file, config, n_sequences=n_sequences, n_gpu_layers=n_gpu_layers, repacked=repacked
    )


@dataclass(frozen=True, slots=True)
class AvailableMemory:
    """Bytes available now, of RAM and of all GPUs together; None if not reported."""

    ram: int | None
    gpu: int | None

    @classmethod
    def now(cls, found: Sequence[MemoryEstimate]) -> AvailableMemory:
        """Return what is available now.

        GPUs are asked only if ``found`` uses one, since asking makes their driver allocate memory.
        """
        on_gpu = any(each.gpu.total for each in found)
        return cls(system.available_memory(), gpu_memory() if on_gpu else None)

    def has_ram(self, found: Sequence[MemoryEstimate]) -> bool:
        """Return whether all of ``found`` fit the RAM together; True if that is unknown."""
        return self.ram is None or sum(each.needed for each in found) <= self.ram

    def has_gpu(self, found: Sequence[MemoryEstimate]) -> bool:
        """Return whether all of ``found`` fit the GPUs together; True if that is unknown."""
        return self.gpu is None or sum(each.gpu.total for each in found) <= self.gpu


def check(file: ModelFile, config: ModelConfig, n_gpu_layers: int) -> None:
    """Raise NotEnoughMemoryError if ``file`` needs more RAM or GPU memory than is available.

    It needs memory for its weights and for one sequence of ``config.n_ctx`` tokens.
    """
    found = estimate(file, config, n_gpu_layers)
    available = AvailableMemory.now([found])
    if available.ram is not None and not available.has_ram([found]):
        hints = what_fits(file, config, n_gpu_layers, available.ram)
        raise NotEnoughMemoryError(
            f"{file.path.name} with n_ctx={config.n_ctx} needs about {as_size(found.needed)} of "
            f"memory ({_parts(found.ram, found.reclaimable)}), but only "
            f"{as_size(available.ram)} is available; {'; '.join(hints) or 'no level of it fits'}; "
            f"check_memory=False loads it anyway",
            found.needed,
            available.ram,
        )
    if available.gpu is not None and not available.has_gpu([found]):
        raise NotEnoughMemoryError(
            f"{file.path.name} with n_ctx={config.n_ctx} needs about {as_size(found.gpu.total)} of "
            f"GPU memory ({_parts(found.gpu)}), but only {as_size(available.gpu)} is free; use a "
            f"smaller n_gpu_layers or n_ctx, or check_memory=False to load it anyway",
            found.gpu.total,
            available.gpu,
            is_of_gpu=True,
        )


def fit_together(models: Sequence[tuple[ModelFile, ModelConfig]]) -> bool:
    """Return whether all of ``models`` fit the memory at the same time; True if that is unknown."""
    found = [
        estimate(file, config, devices.n_gpu_layers(config.device, config.n_gpu_layers))
        for file, config in models
    ]
    available = AvailableMemory.now(found)
    return available.has_ram(found) and available.has_gpu(found)


def what_fits(file: ModelFile, config: ModelConfig, n_gpu_layers: int, available: int) -> list[str]:
    """Return changes that would make the model fit ``available`` bytes of RAM, as phrases."""

    def needed(**changed: int | str) -> int:
        changed_config = dataclasses.replace(config, **changed)  # type: ignore[arg-type]
        return estimate(file, changed_config, n_gpu_layers).needed

    hints = []
    n_ctx = config.n_ctx // 2
    while n_ctx >= _LEAST_CONTEXT and needed(n_ctx=n_ctx) > available:
        n_ctx //= 2
    if n_ctx >= _LEAST_CONTEXT:
        hints.append(f"n_ctx={n_ctx} would fit")
    may_be_quantized = config.flash_attention != "off" and not config.deterministic
    is_larger = config.kv_type in UNQUANTIZED
    if may_be_quantized and is_larger and needed(kv_type=_SMALLER_KV) <= available:
        hints.append(f"kv_type={_SMALLER_KV!r} would fit")
    if levels := levels_that_fit(file, estimate(file, config, n_gpu_layers), available):
        several = len(levels) > 1
        hints.append(f"the level{'s' if several else ''} {', '.join(levels)} of it would fit")
    return hints


def levels_that_fit(file: ModelFile, found: MemoryEstimate, available: int) -> list[str]:
    """Return the levels of the same model that would fit ``available`` bytes of RAM, largest first.

    Their sizes are estimated from what such levels usually weigh.
    """
    n_weights = sum(tensor.n_values for shard in file.shards for tensor in shard.tensors)
    n_bytes = sum(tensor.n_bytes for shard in file.shards for tensor in shard.tensors)
    # The weights in RAM shrink in the same proportion as all weights.
    share = found.ram.weights / n_bytes if n_bytes else 0.0
    left = available - (found.needed - found.ram.weights)
    return [
        level
        for level, bits in _TYPICAL_BITS.items()
        if n_weights * bits / 8 < n_bytes and share * n_weights * bits / 8 <= left
    ]


def _parts(share: memory.Share, reclaimable: int = 0) -> str:
    amounts = {
        "weights": share.weights + share.repacked - reclaimable,
        "KV cache": share.kv_cache,
        "compute": share.compute,
        "vocabulary": share.vocabulary,
    }
    return ", ".join(f"{name} {as_size(n)}" for name, n in amounts.items() if n)
