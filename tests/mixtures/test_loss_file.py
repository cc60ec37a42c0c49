"""Measured losses that a later search reuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from localgen import QuantizeError
from localgen.mixtures.loss_file import LossFile

ORIGIN = {"model": "a", "n_ctx": 512, "groups": [["a", ["Q4_K"]], ["b", ["Q8_0"]]]}


def test_losses_are_kept_exactly(tmp_path: Path) -> None:
    path = tmp_path / "losses.json"
    kept = LossFile(path, ORIGIN)
    kept.add((None, "Q8_0"), 0.1 + 0.2)
    kept.add(("Q4_K", None), 1e-7)
    again = LossFile(path, ORIGIN)
    assert again.losses == {(None, "Q8_0"): 0.1 + 0.2, ("Q4_K", None): 1e-7}
    assert (None, "Q8_0") in again
    assert [each.name for each in tmp_path.iterdir()] == ["losses.json"]


def test_without_a_file_nothing_is_written(tmp_path: Path) -> None:
    kept = LossFile(None, ORIGIN)
    kept.add((None, "Q8_0"), 0.5)
    assert kept.losses == {(None, "Q8_0"): 0.5}
    assert not list(tmp_path.iterdir())


def test_losses_of_another_model_or_way_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "losses.json"
    LossFile(path, ORIGIN).add((None, "Q8_0"), 0.5)
    with pytest.raises(QuantizeError, match=r"measured with a different model, n_ctx\. Use"):
        LossFile(path, {**ORIGIN, "model": "b", "n_ctx": 256})


@pytest.mark.parametrize("types", [[], ["Q8_0", None, None], [None, "Q9"], ["IQ3_S", None]])
def test_losses_of_impossible_mixtures_are_refused(types: list[str | None], tmp_path: Path) -> None:
    """Such a line of a damaged file ended the search with a KeyError."""
    path = tmp_path / "losses.json"
    LossFile(path, ORIGIN).add((None, "Q8_0"), 0.5)
    content = json.loads(path.read_text())
    content["losses"].append([types, 0.1])
    path.write_text(json.dumps(content))
    with pytest.raises(QuantizeError, match="losses of types that no group can have"):
        LossFile(path, ORIGIN)


def test_the_folder_is_made(tmp_path: Path) -> None:
    """As ``compare -o`` makes it: ``--losses runs/model.json`` was refused."""
    path = tmp_path / "runs" / "new" / "losses.json"
    LossFile(path, ORIGIN).add((None, "Q8_0"), 0.5)
    assert LossFile(path, ORIGIN).losses == {(None, "Q8_0"): 0.5}


@pytest.mark.parametrize(
    "text",
    [
        *("", "{}", "[1]", '{"format": "other", "losses": []}', "[" * 100_000),
        '{"format": "localgen losses 1", "losses": [[["Q4_K"], NaN]]}',
        '{"format": "localgen losses 1", "losses": [["Q4", 1.0]]}',
        '{"format": "localgen losses 1", "losses": [[[["Q4"]], 1.0]]}',
    ],
)
def test_another_file_is_not_overwritten(text: str, tmp_path: Path) -> None:
    path = tmp_path / "notes.json"
    path.write_text(text)
    with pytest.raises(QuantizeError, match="is not a file of measured losses"):
        LossFile(path, ORIGIN)
    assert path.read_text() == text


def test_a_place_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="file is not a folder"):
        LossFile(tmp_path / "file" / "losses.json", ORIGIN)
    with pytest.raises(QuantizeError, match="is not a file of measured losses"):
        LossFile(tmp_path, ORIGIN)
