"""Refuses a model whose layers lack tensors that llama.cpp reads, or whose keys have other heads.

llama.cpp names a missing tensor in an error, unless its loader allows the tensor to be absent. For
the architectures below the graph then reads a null pointer. They were found by leaving out each
such tensor in turn (llama.cpp 0c1e570).

llama.cpp compares the keys' tensor with the number of heads of the first layer only, and asserts
the others' number in its graph.
"""

from __future__ import annotations

from collections.abc import Iterable

from localgen.gguf.reader import ARCHITECTURE, GGUF, Array
from localgen.gguf.refusal import refuse

_CONV_BIAS = ("ssm_conv1d.weight", (("ssm_conv1d.bias",),))
_LINEAR = ("attn_qkv.weight", "attn_gate.weight")
_LERP = tuple(f"time_mix_lerp_{part}.weight" for part in "wkvrg")
# Architecture → a tensor of a layer, and the sets of tensors of which that layer needs one.
_NEEDS = {
    "falcon-h1": _CONV_BIAS,
    "granitehybrid": _CONV_BIAS,
    "nemotron_h": _CONV_BIAS,
    "qwen3next": ("ssm_conv1d.weight", (_LINEAR, ("ssm_in.weight",))),
    "qwen35": ("ssm_conv1d.weight", (_LINEAR,)),
    "qwen35moe": ("ssm_conv1d.weight", (_LINEAR,)),
    "rwkv6": ("time_mix_lerp_x.weight", (("time_mix_lerp_fused.weight",), _LERP)),
}


def check_layer_tensors(shards: Iterable[GGUF]) -> None:
    """Check the layers of a model, given as all of its files. Raises InvalidGGUFError."""
    shards = tuple(shards)
    _check_key_heads(shards)
    needs = _NEEDS.get(str(shards[0].metadata.get(ARCHITECTURE)))
    if needs is None:
        return
    part, choices = needs
    names = {tensor.name for shard in shards for tensor in shard.tensors}
    for name in sorted(names):
        if not name.endswith(f".{part}"):
            continue
        layer = name.removesuffix(part)
        missing = [
            [layer + each for each in those if layer + each not in names] for those in choices
        ]
        if all(missing):
            refuse(
                shards[0],
                f"it lacks {' and '.join(missing[0])}, without which llama.cpp crashes on a model "
                f"of this architecture",
            )


def _check_key_heads(shards: tuple[GGUF, ...]) -> None:
    """Check each layer's keys where the file has a number of heads for each."""
    metadata = shards[0].metadata
    prefix = f"{metadata.get(ARCHITECTURE)}.attention"
    counts = metadata.get(f"{prefix}.head_count_kv")
    sizes = [metadata.get(f"{prefix}.{name}") for name in ("key_length", "key_length_swa")]
    if not isinstance(counts, Array) or counts.values is None or type(sizes[0]) is not int:
        return
    n_rows = {tensor.name: tensor.shape[-1] for shard in shards for tensor in shard.tensors}
    for layer, count in enumerate(counts.values.tolist()):
        found = n_rows.get(f"blk.{layer}.attn_k.weight")
        fitting = [count * size for size in sizes if type(size) is int]
        if found is not None and count and found not in fitting:
            refuse(
                shards[0],
                f"{prefix}.head_count_kv must fit the {found} rows of blk.{layer}.attn_k.weight in "
                f"heads of {sizes[0]}, got {count}",
            )
