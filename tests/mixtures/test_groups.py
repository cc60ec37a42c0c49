"""Which tensors get one type together, and which types those are."""

from __future__ import annotations

import pytest

from localgen.gguf.reader import Tensor
from localgen.gguf.tensor_types import TENSOR_TYPES
from localgen.mixtures.groups import groups_of, ladder_of

TYPES = {kind.name: kind for kind in TENSOR_TYPES.values()}


def tensor(name: str, n_columns: int = 256, kind: str = "F16", n_rows: int = 2) -> Tensor:
    n_blocks = n_columns * n_rows // TYPES[kind].block
    return Tensor(name, (n_columns, n_rows), TYPES[kind], 0, n_blocks * TYPES[kind].n_bytes)


def test_a_group_has_one_kind_in_one_third_of_the_layers() -> None:
    kinds = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"]
    layers = [tensor(f"blk.{i}.{kind}.weight") for i in range(6) for kind in kinds]
    found = {g.name: list(g.sizes) for g in groups_of([*layers, tensor("token_embd.weight")], ())}
    assert found["attn_qk.early"] == [
        f"blk.{i}.attn_{letter}.weight" for i in (0, 1) for letter in "qk"
    ]
    assert found["ffn_up_gate.late"] == [
        f"blk.{i}.ffn_{kind}.weight" for i in (4, 5) for kind in ("gate", "up")
    ]
    assert found["token_embd"] == ["token_embd.weight"]
    assert len(found) == 5 * 3 + 1
    assert sum(map(len, found.values())) == len(layers) + 1


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("blk.0.attn_qkv.weight", "attn_qkv.early"),
        ("blk.0.attn_q_a.weight", "attn_qk.early"),
        ("blk.0.ffn_down_exps.weight", "ffn_down.early"),
        ("blk.0.ssm_in.weight", "ssm_in.early"),
        ("output.weight", "output"),
    ],
)
def test_names_of_groups(name: str, group: str) -> None:
    assert [found.name for found in groups_of([tensor(name)], ())] == [group]


def test_a_group_has_one_ladder() -> None:
    """Rows of different lengths, or only some with data, cannot have the same types."""
    names = [f"blk.0.ffn_{kind}.weight" for kind in ("gate", "up", "up_exps")]
    tensors = [tensor(names[0]), tensor(names[1], 96), tensor(names[2])]
    found = groups_of(tensors, {names[2]})
    assert [list(group.sizes) for group in found] == [[name] for name in names]
    assert len({group.name for group in found}) == 3


def test_ladders_have_what_fits_and_is_smaller() -> None:
    assert ladder_of(tensor("a", 256), has_data=False)[-1] == "Q2_K"
    assert ladder_of(tensor("a", 256), has_data=True)[-1] == "IQ2_XXS"
    assert ladder_of(tensor("a", 96), has_data=True) == ("Q8_0", "Q5_1", "Q5_0", "IQ4_NL")
    assert ladder_of(tensor("a", 90), has_data=True) == ()
    assert ladder_of(tensor("a", 256, "Q4_K"), has_data=False) == ("IQ4_XS", "Q3_K", "Q2_K")


def test_sizes_and_types_of_a_group() -> None:
    group = groups_of([tensor("blk.0.attn_q.weight"), tensor("blk.0.attn_k.weight")], ())[0]
    assert group.n_bytes("Q8_0") == 2 * 2 * 256 * 34 // 32
    assert group.n_bytes(None) == 2 * 2 * 256 * 2
    assert set(group.types(None).values()) == {"F16"}
    assert set(group.types("Q4_K").values()) == {"Q4_K"}
