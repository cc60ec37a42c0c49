"""Heat maps from the losses that a search for a mixture measured and kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from localgen import CompareError
from localgen.compare.sensitivity import FORMAT, HeatCell, is_loss_file, load_heat_map
from localgen.mixtures.loss_file import LossFile

GROUPS = ["attn_v.early", "attn_v.late", "ffn_down.early", "token_embd", "ffn_down.late (Q2_K)"]


def loss_file(folder: Path, losses: list[Any], groups: list[str] = GROUPS) -> Path:
    path = folder / "losses.json"
    data = {"format": FORMAT, "groups": [[name, ["Q4_K"]] for name in groups], "losses": losses}
    path.write_text(json.dumps(data))
    return path


def alone(number: int, loss: float, kind: str = "Q4_K") -> list[Any]:
    return [[kind if each == number else None for each in range(len(GROUPS))], loss]


def test_a_row_for_each_kind_and_a_column_for_each_third(tmp_path: Path) -> None:
    """Losses of 1/4, 1/2 and 1 are at 0, a half and 1; all together are none of one group."""
    together = [["Q4_K"] * len(GROUPS), 2.5]
    losses = [alone(0, 0.25), alone(1, 1.0), alone(2, 0.5), alone(3, 0.0, "Q5_0"), together]
    found = load_heat_map(loss_file(tmp_path, losses))
    assert found.columns == ("early", "late", "no layer")
    assert found.rows == {
        "attn_v": (HeatCell("Q4_K", 0.25, 0.0), HeatCell("Q4_K", 1.0, 1.0), None),
        "ffn_down": (HeatCell("Q4_K", 0.5, 0.5), None, None),
        "token_embd": (None, None, HeatCell("Q5_0", 0.0, 0.0)),
    }
    assert (found.name, found.types, found.most) == (
        "losses.json", ("Q4_K", "Q5_0"), "attn_v.late",
    )  # fmt: skip


def test_the_file_of_a_search_is_read(tmp_path: Path) -> None:
    """As ``quantize --losses`` writes it, which this module does not import."""
    origin = {"model": "ab", "groups": [["attn_v.early", ["Q8_0"]], ["output", ["Q8_0", "Q4_K"]]]}
    kept = LossFile(tmp_path / "losses.json", origin)
    kept.add((None, "Q4_K"), 0.5)
    kept.add(("Q8_0", "Q8_0"), 0.7)
    assert is_loss_file(tmp_path / "losses.json")
    found = load_heat_map(tmp_path / "losses.json")
    assert found.rows == {"output": (HeatCell("Q4_K", 0.5, 1.0),)}


def test_tensors_with_other_types_have_a_row_of_their_own(tmp_path: Path) -> None:
    found = load_heat_map(loss_file(tmp_path, [alone(2, 0.01), alone(4, 0.02)]))
    assert list(found.rows) == ["ffn_down", "ffn_down (Q2_K)"]
    assert found.columns == ("early", "late")


def test_a_single_loss_is_the_darkest(tmp_path: Path) -> None:
    found = load_heat_map(loss_file(tmp_path, [alone(3, 0.2)]))
    assert found.rows == {"token_embd": (HeatCell("Q4_K", 0.2, 1.0),)}


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ([], "no loss of a single group yet"),
        ([[["Q4_K"] * len(GROUPS), 0.5]], "no loss of a single group yet"),
        ([[["Q4_K"], 0.5]], "is corrupt"),
        ([alone(0, float("nan"))], "is corrupt"),
        ([[None, 0.5]], "is corrupt"),
        (["text"], "is corrupt"),
    ],
)
def test_a_file_that_tells_too_little(tmp_path: Path, losses: list[Any], message: str) -> None:
    path = loss_file(tmp_path, losses)
    assert is_loss_file(path)
    with pytest.raises(CompareError, match=message):
        load_heat_map(path)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": "localgen losses 2"}', "\0", "[" * 100_000]
)
def test_other_files_are_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    assert not is_loss_file(path)
    with pytest.raises(CompareError, match="is not a file of losses"):
        load_heat_map(path)
    assert not is_loss_file(tmp_path)
