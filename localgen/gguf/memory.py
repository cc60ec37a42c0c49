"""Estimates how much memory a model takes, from its file, before C loads it; allocates nothing.

The terms come from measuring llama.cpp on CPUs, which ``benchmarks/estimate.py`` repeats. Where
architectures differ, a term is an upper bound.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field, fields

from localgen.config import UNQUANTIZED, ModelConfig
from localgen.gguf.gate import ModelFile
from localgen.gguf.metadata import Hyperparameters
from localgen.gguf.reader import TOKENS, Array, Tensor, Value

# The KV cache of a sequence grows in steps of this many tokens.
CELLS = 256
# Bytes of attention scores, of tokens computed at once over a full context, above which flash
# attention, which does not store them, is worth its time on a CPU.
_MOST_SCORE_BYTES = 2**29
# Strings, hash tables, and what remains allocated after reading them.
_BYTES_PER_TOKEN, _BYTES_PER_MERGE = 250, 100
# Pages of the library's code, and buffers of fixed size.
_BYTES_OF_CODE = 5_000_000
_LAYER = re.compile(r"blk\.(\d+)\.")
# Only a layer with a recurrent state has such tensors.
_RECURRENT = re.compile(r"blk\.\d+\.(ssm|shortconv|time_mix)")
_MERGES = "tokenizer.ggml.merges"
# The types whose weights a CPU backend copies into an order that its kernels read faster, by the
# feature of the build: see repack.cpp and amx/mmq.cpp in ggml/src/ggml-cpu.
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

    weights: as in the file. repacked: copies of weights for CPU kernels. kv_cache: of all
    sequences, including recurrent states. compute: temporary buffers of a full batch over a full
    context. vocabulary: tokens, merges and code.
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
    """How much memory a model takes at a context length: in RAM, and on all GPUs together.

    kv_bytes_per_token: of one sequence. reclaimable: bytes of ``ram`` that are pages of the file
    and not read again after loading, so the system can reclaim them.
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
        """Bytes of RAM that the model needs to run at full speed."""
        return self.ram.total - self.reclaimable

    @property
    def kv_share_in_ram(self) -> float:
        """The share of the KV cache that is in RAM, from 0 to 1; 0 if there is no KV cache."""
        return self.ram.kv_cache / max(1, self.ram.kv_cache + self.gpu.kv_cache)


def tokens_at_once(config: ModelConfig) -> int:
    """Return the most tokens of a pass that llama.cpp computes at once, its ``n_ubatch``."""
    return config.n_ubatch or config.n_batch


def flash_attention_mode(n_head: int, config: ModelConfig, *, uses_gpu: bool) -> str:
    """Return the flash attention setting for llama.cpp: "on", "off" or "auto".

    llama.cpp would turn "auto" on wherever it can. On a CPU it does so only where the scores of the
    tokens that are computed at once would take much memory. Elsewhere "off" takes more memory than
    "on", which may replace it while a model runs: see ``llama.attention``.
    """
    if config.deterministic:
        return "off"
    if config.flash_attention != "auto" or uses_gpu or config.kv_type not in UNQUANTIZED:
        return config.flash_attention
    n_tokens = tokens_at_once(config)
    score_bytes = 4 * n_head * n_tokens * config.n_ctx
    return "off" if score_bytes <= _MOST_SCORE_BYTES else "auto"


def repacked_types(system_info: str) -> frozenset[str]:
    """Return the types of weights that this build repacks on a CPU.

    system_info: llama.cpp's line about its features.
    """
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
    """Estimate the memory for ``n_sequences`` sequences of ``config.n_ctx`` tokens each.

    n_gpu_layers: as llama.cpp counts them, where the output is one; -1 means all. repacked: see
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
            gpu += tensor.n_bytes  # it is also the output
        elif _is_repacked(tensor, repacked) and (is_tied or not is_embedding):
            n_repacked += tensor.n_bytes
    of_layers = sizes.kv_bytes_of_layers(config.kv_type)
    kv = [
        n_sequences * (int(of_token * _rounded(config.n_ctx)) + of_state)
        for of_token, of_state in zip(of_layers, state_bytes_of_layers(file), strict=True)
    ]
    uses_gpu = any(on_gpu)
    compute = _compute_bytes(sizes, config, uses_gpu=uses_gpu)
    n_tokens = min(tokens_at_once(config), config.n_ctx)
    logits = 4 * n_tokens * _length(file.metadata, TOKENS)  # a GPU's buffer is fully allocated
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


def state_bytes_of_layers(file: ModelFile) -> list[int]:
    """Return the bytes of one sequence's recurrent state in each layer, beside its KV cache if it
    has both."""
    sizes = Hyperparameters(file.metadata)
    tensors = (tensor for shard in file.shards for tensor in shard.tensors)
    recurrent = {_layer(each, sizes.n_layer) for each in tensors if _RECURRENT.match(each.name)}
    return [
        sizes.state_bytes if not n_heads or layer in recurrent else 0
        for layer, n_heads in enumerate(sizes.kv_heads)
    ]


def _layer(tensor: Tensor, n_layer: int) -> int:
    """Return a tensor's layer; tensors of no layer count as the output, which is the last."""
    match = _LAYER.match(tensor.name)
    return min(int(match[1]), n_layer) if match else n_layer


def _is_repacked(tensor: Tensor, types: Collection[str]) -> bool:
    is_matrix = len(tensor.shape) > 1 and tensor.shape[1] % _REPACKED_ROWS == 0
    return is_matrix and tensor.type.name in types


def _rounded(n_ctx: int) -> int:
    """Return how many tokens the KV cache of a sequence of ``n_ctx`` tokens holds."""
    return -(-n_ctx // CELLS) * CELLS


def _length(metadata: dict[str, Value], key: str) -> int:
    found = metadata.get(key)
    return found.length if isinstance(found, Array) else 0


def _compute_bytes(sizes: Hyperparameters, config: ModelConfig, *, uses_gpu: bool) -> int:
    """Return the bytes of activations, masks and, without flash attention, attention scores."""
    n_tokens = min(tokens_at_once(config), config.n_ctx)
    n_ff_expert = sizes.number("expert_feed_forward_length") * sizes.number("expert_used_count")
    n_ff = max(sizes.number("feed_forward_length"), n_ff_expert)
    activations = 4 * n_tokens * (2 * n_ff + 3 * sizes.n_embd)
    if not any(sizes.kv_heads):
        return activations
    cells = n_tokens * config.n_ctx
    if flash_attention_mode(sizes.n_head, config, uses_gpu=uses_gpu) != "off":
        return activations + (4 + 2) * cells  # the mask in F32, and in F16
    # Scores are converted to the type of the values before they are multiplied.
    bytes_per_score = 4 if config.kv_type == "f32" else 4 + 2
    return activations + (4 + bytes_per_score * sizes.n_head) * cells
