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


def write_keys(path: Path, heads: list[int], rows: list[int]) -> Path:
    """A model with a number of heads for each layer, of 4 values each."""
    made = GGUFWriter(path, "gemma3")
    made.add_head_count_kv(heads)
    made.add_key_length(4)
    for layer, n_rows in enumerate(rows):
        made.add_tensor(f"blk.{layer}.attn_k.weight", np.zeros((n_rows, 32), np.float32))
    made.write_header_to_file()
    made.write_kv_data_to_file()
    made.write_tensors_to_file()
    made.close()
    return path


def test_heads_that_do_not_fit_the_keys(tmp_path: Path) -> None:
    """Regression: llama.cpp compares the first layer's, and asserts the others' in its graph."""
    path = write_keys(tmp_path / "bad.gguf", [1, 7], [4, 4])
    with pytest.raises(InvalidGGUFError, match=r"head_count_kv must fit the 4 rows of blk\.1.*7"):
        check_layer_tensors([read_gguf(path)])


def test_heads_that_do_not_fit_queries_keys_and_values_in_one(tmp_path: Path) -> None:
    """The size of a head is not in the file either: it follows from their number."""
    path = tmp_path / "bad.gguf"
    made = GGUFWriter(path, "gpt2")
    made.add_embedding_length(8)
    made.add_head_count(2)
    made.add_head_count_kv([2, 1])
    for layer in range(2):
        made.add_tensor(f"blk.{layer}.attn_qkv.weight", np.zeros((24, 8), np.float32))
    made.write_header_to_file()
    made.write_kv_data_to_file()
    made.write_tensors_to_file()
    made.close()
    with pytest.raises(InvalidGGUFError, match=r"fit the 24 rows of blk\.1\.attn_qkv"):
        check_layer_tensors([read_gguf(path)])


def test_heads_that_fit_the_keys(tmp_path: Path) -> None:
    """A layer without attention has no heads, and no tensor or any."""
    check_layer_tensors([read_gguf(write_keys(tmp_path / "a.gguf", [1, 2, 0], [4, 8]))])
