"""Refuses a model whose layers lack tensors that llama.cpp takes for optional and reads anyway.

llama.cpp names a missing tensor in an error, unless its loader allows the tensor to be absent. For
the architectures below the graph then reads a null pointer. They were found by leaving out each
such tensor in turn (llama.cpp 0c1e570).
"""

from __future__ import annotations

from collections.abc import Iterable

from localgen.gguf.reader import ARCHITECTURE, GGUF
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
