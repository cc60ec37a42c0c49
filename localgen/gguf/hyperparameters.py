"""Refuses hyperparameters that kill llama.cpp; it knows an architecture's keys, and no tensors.

llama.cpp asserts these while it reads the metadata or builds its graph, where a failure ends the
process, or divides by them. It returns an error itself for a missing key and for one of another
type.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

from localgen.gguf.reader import Array, Value
from localgen.gguf.refusal import HasPath, refuse

# The values of a head that ggml's RWKV kernels take at once, with AVX-512; RWKV's heads have 64.
_WKV_STEP = 64
_WINDOW_PATTERN = "attention.sliding_window_pattern"
_ROPE_SCALINGS = ("none", "linear", "yarn", "longrope")
_MAX_EXPERTS = 1024
# Architectures with experts in their layers, beside those with "moe" in the name.
_WITH_EXPERTS = ("smallthinker", "mellum", "maple", "hy-v3", "hy_v3")
# llama.cpp ignores a count of one expert in these.
_DENSE_WITH_AN_EXPERT = ("hunyuan-dense", "hunyuan_vl", "hunyuan-vl")


# The size of a head's keys is that of its values: llama.cpp's graphs assert it.
_ONE_HEAD_SIZE = frozenset({
    "baichuan", "bloom", "codeshell", "command-r", "falcon", "gpt2", "gptneox", "internlm2", "jais",
    "llama", "mpt", "olmo", "olmo2", "orion", "phi2", "phi3", "qwen", "qwen2", "qwen2moe", "qwen3",
    "qwen3moe", "refact", "stablelm", "starcoder", "starcoder2",
})  # fmt: skip


class _File(HasPath, Protocol):
    @property
    def metadata(self) -> dict[str, Value]: ...


class _Model:
    """The hyperparameters of one file."""

    def __init__(self, file: _File, architecture: str, n_layers: int) -> None:
        self.file = file
        self.architecture = architecture
        self.n_layers = n_layers

    def value(self, name: str) -> Value | None:
        return self.file.metadata.get(f"{self.architecture}.{name}")

    def integer(self, name: str) -> int | None:
        """Return an integer; None if it is missing, or of a type that llama.cpp refuses itself."""
        value = self.value(name)
        return value if type(value) is int else None

    def require(self, is_met: bool, name: str, expected: str) -> None:
        """Raise InvalidGGUFError unless ``is_met``."""
        if not is_met:
            found = self.value(name)
            shown = "a list" if isinstance(found, Array) else f"{found!r:.80}"
            got = "which is missing" if found is None else f"got {shown}"
            refuse(self.file, f"{self.architecture}.{name} must be {expected}, {got}")


def check_hyperparameters(file: _File, architecture: str, n_layers: int) -> None:
    """Raise InvalidGGUFError for a value that llama.cpp would not survive.

    n_layers: the file's ``block_count``.
    """
    model = _Model(file, architecture, n_layers)
    _check_norms(model)
    _check_heads(model)
    _check_rope(model)
    _check_experts(model)
    _check_layers(model)
    _check_recurrence(model)


def _check_norms(model: _Model) -> None:
    for name in ("attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon"):
        epsilon = model.value(name)
        if isinstance(epsilon, float):
            model.require(0 <= epsilon < math.inf, name, "finite and at least 0")


def _default_head_size(model: _Model) -> int | None:
    n_embd, n_head = model.integer("embedding_length"), model.integer("attention.head_count")
    return None if n_embd is None or n_head is None else n_embd // max(1, n_head)


def _check_heads(model: _Model) -> None:
    default = _default_head_size(model)
    if model.architecture not in _ONE_HEAD_SIZE or default is None:
        return
    n_values = model.integer("attention.value_length")
    n_values = default if n_values is None else n_values
    n_keys = model.integer("attention.key_length")
    if n_keys != n_values and (n_keys is not None or n_values != default):
        model.require(False, "attention.key_length", f"attention.value_length ({n_values})")


def _check_rope(model: _Model) -> None:
    scaling = model.value("rope.scaling.type")
    if isinstance(scaling, str):
        known = ", ".join(map(repr, _ROPE_SCALINGS))
        model.require(scaling in _ROPE_SCALINGS, "rope.scaling.type", f"one of {known}")
    head_size = model.integer("attention.key_length")
    if head_size is None:
        head_size = _default_head_size(model)
    n_rotated = model.integer("rope.dimension_count")
    _check_rotated(model, "rope.dimension_count", n_rotated, head_size)
    windowed_size = model.integer("attention.key_length_swa") or head_size
    n_rotated = model.integer("rope.dimension_count_swa")
    _check_rotated(model, "rope.dimension_count_swa", n_rotated, windowed_size)


def _check_rotated(model: _Model, name: str, n_rotated: int | None, head_size: int | None) -> None:
    if n_rotated is not None and head_size is not None:
        model.require(
            n_rotated % 2 == 0 and 0 < n_rotated <= head_size,
            name,
            f"even, and at most the size of an attention head ({head_size})",
        )


def _check_experts(model: _Model) -> None:
    n_experts = model.integer("expert_count") or 0
    if model.architecture in _DENSE_WITH_AN_EXPERT and n_experts <= 1:
        return
    has_experts = "moe" in model.architecture or model.architecture in _WITH_EXPERTS
    if has_experts and model.value("expert_count") is not None:
        model.require(n_experts > 0, "expert_count", "at least 1 for this architecture")
    model.require(n_experts <= _MAX_EXPERTS, "expert_count", f"at most {_MAX_EXPERTS}")
    fewest = min(1, n_experts)
    between = f"from {fewest} to expert_count ({n_experts})"
    for n_used in _integers(model, "expert_used_count"):
        model.require(fewest <= n_used <= n_experts, "expert_used_count", between)
    _check_expert_groups(model, n_experts)


def _integers(model: _Model, name: str) -> list[int]:
    """Return the values of a key that has one for all layers, or one each; a missing one is 0."""
    value = model.value(name)
    if isinstance(value, Array):
        numbers = value.values if value.values is not None else np.empty(0)
        return [int(each) for each in numbers if isinstance(each, np.integer)]
    return [value] if type(value) is int else [0]


def _check_expert_groups(model: _Model, n_experts: int) -> None:
    n_groups = model.integer("expert_group_count") or 0
    n_used = model.integer("expert_group_used_count") or 0
    if n_groups:
        most = f"below expert_count ({n_experts}), or 0"
        model.require(n_groups < n_experts, "expert_group_count", most)
    if n_groups > 1:
        divisor = f"a divisor of expert_count ({n_experts})"
        model.require(n_experts % n_groups == 0, "expert_group_count", divisor)
        between = f"at least 1 and below expert_group_count ({n_groups})"
        model.require(0 < n_used < n_groups, "expert_group_used_count", between)


def _check_layers(model: _Model) -> None:
    n_extra = model.integer("nextn_predict_layers") or 0
    most = f"below block_count ({model.n_layers})"
    model.require(n_extra < model.n_layers, "nextn_predict_layers", most)
    steps = ["full_attention_interval"]
    if model.architecture == "ernie4_5-moe":
        steps.append("interleave_moe_layer_step")
    for name in steps:
        model.require(model.integer(name) != 0, name, "at least 1")
    window, pattern = model.value("attention.sliding_window"), model.value(_WINDOW_PATTERN)
    if window and isinstance(pattern, Array) and not np.any(pattern.values):
        refuse(model.file, "it has a sliding window but no layer that uses it")


def _check_recurrence(model: _Model) -> None:
    head_size = model.integer("wkv.head_size")
    if head_size is not None and (head_size % _WKV_STEP or not head_size):
        refuse(
            model.file,
            f"{model.architecture}.wkv.head_size must be a multiple of {_WKV_STEP}, got "
            f"{head_size}: ggml's kernels would read and write beyond a head",
        )
    if model.architecture == "plamo2" and model.value("ssm.group_count"):
        refuse(model.file, "plamo2.ssm.group_count must be 0: llama.cpp supports no other")
