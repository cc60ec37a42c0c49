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
    prefix = f"{shards[0].metadata.get(ARCHITECTURE)}.attention"
    counts = shards[0].metadata.get(f"{prefix}.head_count_kv")
    if not isinstance(counts, Array) or counts.values is None:
        return
    n_heads = shards[0].metadata.get(f"{prefix}.head_count")
    sizes = _head_sizes(shards[0])
    n_rows = {tensor.name: tensor.shape[-1] for shard in shards for tensor in shard.tensors}
    for layer, count in enumerate(counts.values.tolist()):
        name, n_all = f"blk.{layer}.attn_k.weight", count
        if type(n_heads) is int and name not in n_rows:  # queries, keys and values in one
            name, n_all = f"blk.{layer}.attn_qkv.weight", n_heads + 2 * count
        found = n_rows.get(name)
        if found and count and sizes and found not in [n_all * size for size in sizes]:
            refuse(
                shards[0],
                f"{prefix}.head_count_kv must fit the {found} rows of {name} in heads of "
                f"{sizes[0]}, got {count}",
            )


def _head_sizes(file: GGUF) -> list[int]:
    """Return the sizes that the keys of a head have: of all layers, and of those with a window."""
    architecture = file.metadata.get(ARCHITECTURE)
    names = ("attention.key_length", "attention.key_length_swa")
    found = [file.metadata.get(f"{architecture}.{name}") for name in names]
    n_embd = file.metadata.get(f"{architecture}.embedding_length")
    n_heads = file.metadata.get(f"{architecture}.attention.head_count")
    if found[0] is None and type(n_embd) is int and type(n_heads) is int:
        found[0] = n_embd // max(1, n_heads)
    return [size for size in found if type(size) is int]
