"""Hyperparameters that would kill llama.cpp: each is refused by its key, with what is expected."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localgen import InvalidGGUFError
from localgen.gguf.hyperparameters import check_hyperparameters
from localgen.gguf.reader import Array

N_LAYERS = 2


@dataclass(frozen=True)
class File:
    metadata: dict[str, Any]
    path: Path = Path("model.gguf")


def check(values: dict[str, Any], architecture: str = "llama") -> None:
    metadata = {f"{architecture}.{name}": value for name, value in values.items()}
    check_hyperparameters(File(metadata), architecture, N_LAYERS)


def array(*values: Any) -> Array:
    return Array("u32", len(values), np.array(values, np.uint32))


EXPERTS = {"expert_count": 8, "expert_used_count": 2}
HEADS = {"embedding_length": 64, "attention.head_count": 2}


@pytest.mark.parametrize(
    ("values", "key", "expected"),
    [
        ({"rope.scaling.type": "llama3"}, "rope.scaling.type", "'yarn', 'longrope', got 'llama3'"),
        ({"rope.scaling.type": ""}, "rope.scaling.type", "got ''"),
        ({"expert_count": 1}, "expert_used_count", "from 1 to expert_count (1), which is missing"),
        ({"expert_used_count": 2}, "expert_used_count", "from 0 to expert_count (0), got 2"),
        ({**EXPERTS, "expert_used_count": 9}, "expert_used_count", "from 1 to expert_count (8)"),
        ({**EXPERTS, "expert_used_count": array(2, 0)}, "expert_used_count", "got a list"),
        ({"expert_count": 1025, "expert_used_count": 1}, "expert_count", "at most 1024, got 1025"),
        ({"expert_group_count": 2}, "expert_group_count", "below expert_count (0), or 0, got 2"),
        ({**EXPERTS, "expert_group_count": 3}, "expert_group_count", "a divisor of expert_count"),
        ({**EXPERTS, "expert_group_count": 4}, "expert_group_used_count", "which is missing"),
        (
            {**EXPERTS, "expert_group_count": 4, "expert_group_used_count": 4},
            "expert_group_used_count",
            "below expert_group_count (4), got 4",
        ),
        ({"nextn_predict_layers": 2}, "nextn_predict_layers", "below block_count (2), got 2"),
        ({"full_attention_interval": 0}, "full_attention_interval", "at least 1, got 0"),
        ({**HEADS, "rope.dimension_count": 3}, "rope.dimension_count", "even"),
        ({**HEADS, "rope.dimension_count_swa": 0}, "rope.dimension_count_swa", "got 0"),
        ({**HEADS, "rope.dimension_count_swa": 34}, "rope.dimension_count_swa", "(32), got 34"),
        ({**HEADS, "attention.key_length": 16}, "attention.key_length", "value_length (32)"),
        ({**HEADS, "attention.value_length": 16}, "attention.key_length", "value_length (16)"),
        (
            {"attention.layer_norm_rms_epsilon": float("nan")},
            "attention.layer_norm_rms_epsilon",
            "finite and at least 0, got nan",
        ),
    ],
)
def test_refused(values: dict[str, Any], key: str, expected: str) -> None:
    """Regression: each ended the process while llama.cpp loaded the file."""
    with pytest.raises(InvalidGGUFError, match=re.escape(f"llama.{key} must be ")) as raised:
        check(values)
    assert expected in str(raised.value)


@pytest.mark.parametrize(
    ("values", "architecture"),
    [
        ({"expert_count": 0}, "qwen3moe"),
        ({"expert_count": 0}, "smallthinker"),
        ({"interleave_moe_layer_step": 0, **EXPERTS}, "ernie4_5-moe"),
    ],
)
def test_refused_for_an_architecture(values: dict[str, Any], architecture: str) -> None:
    """llama.cpp asserts it while it loads the tensors."""
    with pytest.raises(InvalidGGUFError, match="at least 1"):
        check(values, architecture)


@pytest.mark.parametrize(
    ("values", "architecture"),
    [
        ({}, "llama"),
        ({"rope.scaling.type": "yarn", "expert_count": 0, "expert_used_count": 0}, "llama"),
        ({**EXPERTS, "expert_group_count": 1}, "deepseek2"),
        ({**EXPERTS, "expert_group_count": 4, "expert_group_used_count": 2}, "deepseek2"),
        ({**EXPERTS, "expert_used_count": array(2, 4)}, "qwen3moe"),
        ({"expert_count": 1}, "hunyuan-dense"),
        ({"interleave_moe_layer_step": 0}, "llama4"),
        ({"nextn_predict_layers": 1}, "qwen35"),
        ({**HEADS, "attention.key_length": 48, "attention.value_length": 32}, "deepseek2"),
        ({**HEADS, "attention.key_length": 64, "attention.value_length": 64}, "llama"),
        ({**HEADS, "rope.dimension_count": 32, "rope.dimension_count_swa": 16}, "gemma3"),
        ({"rope.scaling.type": 3, "expert_count": "8"}, "llama"),  # llama.cpp's own error
    ],
)
def test_accepted(values: dict[str, Any], architecture: str) -> None:
    """Published models have these values, or llama.cpp refuses them itself."""
    check(values, architecture)
