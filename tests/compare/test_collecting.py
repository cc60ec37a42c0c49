"""Results in files and folders: which are read, and which are left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from localgen import CompareError
from localgen.compare.collecting import collect
from localgen.compare.machines import merge
from localgen.compare.sensitivity import FORMAT
from tests.compare.test_sensitivity import alone, loss_file
from tests.comparisons import comparison

LAPTOP = comparison()
SERVER = comparison(settings={**LAPTOP.settings, "cpu": "Another CPU"})


def test_a_folder_of_results(tmp_path: Path) -> None:
    """Other files are left out, JSON with its reason; so is what the report writes there."""
    LAPTOP.save(tmp_path / "a.json")
    SERVER.save(tmp_path / "b.json")
    merge([LAPTOP, SERVER]).save(tmp_path / "c.json")
    (tmp_path / "notes.json").write_text("{}")
    (tmp_path / "report.html").write_text("<p>")
    found = collect([tmp_path])
    assert found.result == merge([LAPTOP, SERVER])
    (skipped,) = found.skipped
    assert "notes.json" in skipped


def test_losses_of_groups_are_read_beside_results(tmp_path: Path) -> None:
    """A broken file of losses is left out, as other files are."""
    LAPTOP.save(tmp_path / "a.json")
    loss_file(tmp_path, [alone(0, 0.1)])
    (tmp_path / "z.json").write_text(json.dumps({"format": FORMAT}))
    found = collect([tmp_path])
    assert (found.result, [each.name for each in found.heat_maps]) == (LAPTOP, ["losses.json"])
    (skipped,) = found.skipped
    assert "z.json is not a file of losses" in skipped
    with pytest.raises(CompareError, match="no result of a comparison"):
        collect([tmp_path / "losses.json"])


def test_a_file_that_is_named_must_be_a_result(tmp_path: Path) -> None:
    (tmp_path / "notes.json").write_text("{}")
    with pytest.raises(CompareError, match=r"notes\.json"):
        collect([tmp_path / "notes.json"])


@pytest.mark.parametrize("has_other", [False, True])
def test_a_folder_without_results(tmp_path: Path, has_other: bool) -> None:
    if has_other:
        (tmp_path / "notes.json").write_text("[1]")
    with pytest.raises(CompareError, match=r"no result of a comparison.*localgen compare MODEL"):
        collect([tmp_path])


EMPTY = {"schema": 2, "source": "m", "settings": {}, "levels": [], "noise": None, "notes": []}
DAMAGED: list[dict[str, Any]] = [
    {"settings": 5},
    {"notes": [{}]},
    {"levels": [5]},
    {"levels": [{"name": "Q4_0", "file_bytes": "many"}]},
    {"levels": [{"name": "Q4_0", "kld_mean": 10**400}]},
    {"levels": [{"name": []}]},
]


@pytest.mark.parametrize(
    "text", ["5", "null", '"a"', "[" * 100_000, *(json.dumps(EMPTY | more) for more in DAMAGED)]
)
def test_json_that_is_no_comparison(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(CompareError, match=r"other\.json is not a comparison, or is corrupt"):
        collect([path])
