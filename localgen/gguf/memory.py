"""How much memory a model takes, told from its file before C loads it; it allocates nothing.

What the terms stand for was found by measuring llama.cpp on CPUs, which ``benchmarks/estimate.py``
repeats; where models differ from the common form, a term is what they take at most.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field, fields

from localgen.config import UNQUANTIZED, ModelConfig
from localgen.gguf.gate import ModelFile
from localgen.gguf.metadata import Hyperparameters
from localgen.gguf.reader import TOKENS, Array, Tensor, Value

# A sequence gets room for tokens by this many.
CELLS = 256
# Above this, flash attention is worth its time on a CPU: of one batch over a full context, the
# attention scores that it does not keep.
_MOST_SCORE_BYTES = 2**29
# Its strings, their hash tables, and what stays of reading them.
_BYTES_PER_TOKEN, _BYTES_PER_MERGE = 250, 100
# Pages of the library's code, and buffers that do not grow with the model.
_BYTES_OF_CODE = 5_000_000
_LAYER = re.compile(r"blk\.(\d+)\.")
_MERGES = "tokenizer.ggml.merges"
# What a CPU keeps a second time, in an order that its kernels read faster: see repack.cpp and
# amx/mmq.cpp in ggml/src/ggml-cpu. By the feature that the build must have.
_REPACKED_BY = {
    "AMX_INT8": ("Q4_0", "Q4_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS"),
    "AVX512": ("Q2_K",),
    "AVX2": ("Q4_0", "Q4_K", "IQ4_NL", "MXFP4"),
    "DOTPROD": ("Q4_0", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "MXFP4", "Q8_0", "Q1_0"),
}
_REPACKED_ROWS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Bytes in one kind of memory.

    weights: of the file, as they are. repacked: the copies of some that CPU kernels read.
    kv_cache: of all sequences, with recurrent states. compute: what a full batch over a full
    context needs for a moment. vocabulary: tokens, merges, and code.
    """

    weights: int = 0
    repacked: int = 0
    kv_cache: int = 0
    compute: int = 0
    vocabulary: int = 0

    @property
    def total(self) -> int:
        return sum(getattr(self, each.name) for each in fields(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryEstimate:
    """What a model takes at a context length: in RAM, and on the GPUs together.

    kv_bytes_per_token: of one sequence. reclaimable: bytes of ``ram`` that are pages of the file
    and not read again after loading, so that the system takes them back when it needs them.
    """

    n_ctx: int
    n_sequences: int
    kv_type: str
    kv_bytes_per_token: int
    ram: Share
    gpu: Share = field(default_factory=Share)
    reclaimable: int = 0

    @property
    def needed(self) -> int:
        """Bytes of RAM without which it cannot run at full speed."""
        return self.ram.total - self.reclaimable

    @property
    def kv_share_in_ram(self) -> float:
        """Of the KV cache, by bytes, what is not on a GPU; 0 if there is none."""
        return self.ram.kv_cache / max(1, self.ram.kv_cache + self.gpu.kv_cache)


def flash_attention_mode(n_head: int, config: ModelConfig, *, uses_gpu: bool) -> str:
    """What "auto" means; llama.cpp would take it for "on" wherever it can.

    On a CPU its kernel is slow where few tokens meet many cached ones: a chat's turn, and every
    decode step. It is worth it where the scores of a whole batch would take much memory.
    """
    if config.deterministic:
        return "off"
    if config.flash_attention != "auto" or uses_gpu or config.kv_type not in UNQUANTIZED:
        return config.flash_attention
    score_bytes = 4 * n_head * config.n_batch * config.n_ctx
    return "off" if score_bytes <= _MOST_SCORE_BYTES else "auto"


def repacked_types(system_info: str) -> frozenset[str]:
    """The types of weights that this build keeps twice on a CPU, by its own list of features."""
    features = set(re.findall(r"(\w+) = 1", system_info))
    if "REPACK" not in features:
        features &= {"AMX_INT8"}
    found = [types for feature, types in _REPACKED_BY.items() if feature in features]
    return frozenset(name for types in found for name in types)


def estimate(
    file: ModelFile,
    config: ModelConfig,
    *,
    n_sequences: int = 1,
    n_gpu_layers: int = 0,
    repacked: Collection[str] = (),
) -> MemoryEstimate:
    """What ``file`` takes with ``n_sequences`` sequences of ``config.n_ctx`` tokens each.

    n_gpu_layers: as llama.cpp counts them, the output being one; -1 means all. repacked: see
    ``repacked_types``.
    """
    sizes = Hyperparameters(file.metadata)
    n_gpu_layers = sizes.n_layer + 1 if n_gpu_layers < 0 else n_gpu_layers
    first = max(0, sizes.n_layer + 1 - n_gpu_layers)  # the first layer on the GPU
    on_gpu = [layer >= first for layer in range(sizes.n_layer + 1)]
    tensors = [tensor for shard in file.shards for tensor in shard.tensors]
    is_tied = not any(tensor.name == "output.weight" for tensor in tensors)
    ram, gpu, n_repacked = 0, 0, 0
    for tensor in tensors:
        is_embedding = tensor.name == "token_embd.weight"
        if on_gpu[_layer(tensor, sizes.n_layer)] and not is_embedding:
            gpu += tensor.n_bytes
            continue
        ram += tensor.n_bytes
        if is_embedding and is_tied and on_gpu[-1]:
            gpu += tensor.n_bytes  # it is the output as well
        elif _is_repacked(tensor, repacked) and (is_tied or not is_embedding):
            n_repacked += tensor.n_bytes
    of_layers = sizes.kv_bytes_of_layers(config.kv_type)
    kv = [
        n_sequences * (int(of_token * _rounded(config.n_ctx)) or sizes.state_bytes)
        for of_token in of_layers
    ]
    uses_gpu = any(on_gpu)
    compute = _compute_bytes(sizes, config, uses_gpu=uses_gpu)
    n_tokens = min(config.n_batch, config.n_ctx)
    logits = 4 * n_tokens * _length(file.metadata, TOKENS)  # a GPU's buffer is had as a whole
    vocabulary = _BYTES_OF_CODE + _BYTES_PER_TOKEN * _length(file.metadata, TOKENS)
    return MemoryEstimate(
        n_ctx=config.n_ctx,
        n_sequences=n_sequences,
        kv_type=config.kv_type,
        kv_bytes_per_token=int(sum(of_layers)),
        ram=Share(
            weights=ram,
            repacked=n_repacked,
            kv_cache=sum(n for n, there in zip(kv, on_gpu, strict=False) if not there),
            compute=0 if all(on_gpu) else compute,
            vocabulary=vocabulary + _BYTES_PER_MERGE * _length(file.metadata, _MERGES),
        ),
        gpu=Share(
            weights=gpu,
            kv_cache=sum(n for n, there in zip(kv, on_gpu, strict=False) if there),
            compute=compute + logits if uses_gpu else 0,
        ),
        reclaimable=n_repacked,
    )


def _layer(tensor: Tensor, n_layer: int) -> int:
    """The layer that a tensor belongs to; what is of none comes with the output, the last."""
    match = _LAYER.match(tensor.name)
    return min(int(match[1]), n_layer) if match else n_layer


def _is_repacked(tensor: Tensor, types: Collection[str]) -> bool:
    is_matrix = len(tensor.shape) > 1 and tensor.shape[1] % _REPACKED_ROWS == 0
    return is_matrix and tensor.type.name in types


def _rounded(n_ctx: int) -> int:
    """The tokens that a slot of ``n_ctx`` has room for."""
    return -(-n_ctx // CELLS) * CELLS


def _length(metadata: dict[str, Value], key: str) -> int:
    found = metadata.get(key)
    return found.length if isinstance(found, Array) else 0


def _compute_bytes(sizes: Hyperparameters, config: ModelConfig, *, uses_gpu: bool) -> int:
    """Activations, masks, and without flash attention the scores of a batch over the context."""
    n_tokens = min(config.n_batch, config.n_ctx)
    n_ff_expert = sizes.number("expert_feed_forward_length") * sizes.number("expert_used_count")
    n_ff = max(sizes.number("feed_forward_length"), n_ff_expert)
    activations = 4 * n_tokens * (2 * n_ff + 3 * sizes.n_embd)
    if not any(sizes.kv_heads):
        return activations
    cells = n_tokens * config.n_ctx
    if flash_attention_mode(sizes.n_head, config, uses_gpu=uses_gpu) != "off":
        return activations + (4 + 2) * cells  # the mask in F32, and in F16
    # The product with the values is computed in their type, for which the scores are converted.
    bytes_per_score = 4 if config.kv_type == "f32" else 4 + 2
    return activations + (4 + bytes_per_score * sizes.n_head) * cells
