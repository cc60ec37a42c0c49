"""Types of single tensors: what is written, and what has no effect and is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import pytest

from localgen import QuantizeError, quantize


def types(path: Path) -> dict[str, str]:
    return {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(path).tensors}


def test_the_first_pattern_that_is_found_decides(tiny_bpe_path: Path, tmp_path: Path) -> None:
    """The other tensors keep what the level gives them."""
    plain = types(quantize(tiny_bpe_path, "Q4_0", output=tmp_path).path)
    found = types(
        quantize(
            tiny_bpe_path,
            "Q4_0",
            output=tmp_path,
            tensor_types={r"blk\.0\.ffn_down": "q8_0", "ffn_down|attn_v": "F16"},
            token_embedding_type="Q5_1",
            output_tensor_type="BF16",
        ).path
    )
    wanted = {
        "blk.0.ffn_down.weight": "Q8_0", "blk.1.ffn_down.weight": "F16",
        "blk.0.attn_v.weight": "F16", "blk.1.attn_v.weight": "F16",
        "token_embd.weight": "Q5_1", "output.weight": "BF16",
    }  # fmt: skip
    assert found == plain | wanted


@pytest.mark.parametrize(
    ("level", "options", "message"),
    [
        ("Q4_0", {"tensor_types": {"ffn": "Q8"}}, "ffn=Q8: unknown tensor type; did you mean Q8_0"),
        ("Q4_0", {"tensor_types": {"(": "Q8_0"}}, "the pattern is no regular expression"),
        (
            "Q4_0",
            {"tensor_types": {"nothing": "Q8_0"}},
            r"tensor_types nothing=Q8_0 has no effect: .* \(such as blk\.0\.",
        ),
        (
            "Q4_0",
            {"tensor_types": {"ffn": "Q8_0", "ffn_down": "F16"}},
            "ffn_down=F16 has no effect: .* that no earlier pattern decides on",
        ),
        ("F16", {"tensor_types": {"ffn": "Q8_0"}}, "has no effect at F16, which quantizes nothing"),
        ("Q4_0", {"token_embedding_type": "I8"}, "token_embedding_type=I8: unknown tensor type"),
        (
            "Q4_0",
            {"output_tensor_type": "Q6_K"},
            "output_tensor_type=Q6_K is not possible: rows of 64 values do not divide",
        ),
    ],
)
def test_what_has_no_effect_is_refused(
    level: str, options: dict[str, Any], message: str, tiny_bpe_path: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        quantize(tiny_bpe_path, level, output=tmp_path, **options)
    assert not list(tmp_path.iterdir())


def test_a_type_that_no_tensor_can_have(tiny_bpe_path: Path, tmp_path: Path) -> None:
    """Rows of 64 do not fit; the norms are never quantized."""
    for pattern, kind, instead in (("ffn_up", "Q4_K", "Q5_0"), ("attn_norm", "Q8_0", "F32")):
        message = rf"2 tensors cannot be stored as {kind} at Q4_0; llama\.cpp would use {instead}"
        with pytest.raises(QuantizeError, match=message):
            quantize(tiny_bpe_path, "Q4_0", output=tmp_path, tensor_types={pattern: kind})
    assert not list(tmp_path.iterdir())
