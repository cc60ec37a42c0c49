"""Layers without tensors that llama.cpp reads: each would be a segmentation fault."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter

from localgen import InvalidGGUFError
from localgen.gguf.layer_tensors import check_layer_tensors
from localgen.gguf.reader import read_gguf

CONV = ("ssm_conv1d.weight", "ssm_conv1d.bias")
LINEAR = ("ssm_conv1d.weight", "attn_qkv.weight", "attn_gate.weight")
LERP = tuple(f"time_mix_lerp_{part}.weight" for part in "xwkvrg")
# Architecture, and the tensors of a good layer.
LAYERS = [
    ("falcon-h1", CONV),
    ("granitehybrid", CONV),
    ("nemotron_h", CONV),
    ("qwen3next", LINEAR),
    ("qwen3next", ("ssm_conv1d.weight", "ssm_in.weight")),
    ("qwen35", LINEAR),
    ("qwen35moe", LINEAR),
    ("rwkv6", LERP),
    ("rwkv6", ("time_mix_lerp_x.weight", "time_mix_lerp_fused.weight")),
]


def check(path: Path, architecture: str, tensors: list[str]) -> None:
    made = GGUFWriter(path, architecture)
    for name in tensors:
        made.add_tensor(name, np.zeros(32, np.float32))
    made.write_header_to_file()
    made.write_kv_data_to_file()
    made.write_tensors_to_file()
    made.close()
    check_layer_tensors([read_gguf(path)])


@pytest.mark.parametrize(("architecture", "layer"), LAYERS)
def test_each_tensor_that_a_layer_needs(
    architecture: str, layer: tuple[str, ...], tmp_path: Path
) -> None:
    """Layer 0 is of another kind, as in hybrid models; layer 2 lacks one tensor after the other."""
    other = ["blk.0.attn_norm.weight"]
    good = [f"blk.{number}.{each}" for number in (1, 2) for each in layer]
    check(tmp_path / "good.gguf", architecture, other + good)
    check(tmp_path / "other.gguf", "llama", other + good[:-1])
    for each in layer[1:]:
        missing = f"blk.2.{each}"
        with pytest.raises(InvalidGGUFError, match=r"it lacks blk\.2\.") as caught:
            check(tmp_path / "bad.gguf", architecture, [*other, *(set(good) - {missing})])
        if layer not in (LAYERS[4][1], LERP):  # of two choices, the first is named
            assert missing in str(caught.value)
