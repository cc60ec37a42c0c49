"""Several machines' comparisons as one: joined, taken apart, and what cannot be compared."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from localgen import CompareError
from localgen.compare import Comparison
from localgen.compare.level_result import LevelResult
from localgen.compare.machines import by_machine, collect, merge
from localgen.compare.sensitivity import FORMAT
from tests.compare.test_sensitivity import alone, loss_file
from tests.comparisons import comparison

LAPTOP = comparison()
SERVER = comparison(
    source="model-BF16.gguf",
    settings={**LAPTOP.settings, "cpu": "Another CPU"},
    noise=LevelResult(name="BF16 against itself", kld_mean=2e-6),
)


def _with_settings(**settings: object) -> Comparison:
    return dataclasses.replace(LAPTOP, settings={**LAPTOP.settings, **settings})


def test_what_was_merged_comes_apart_again() -> None:
    """All but the noise, of which a merged comparison has the largest."""
    merged = merge([LAPTOP, SERVER])
    assert by_machine(merged) == {
        "#1": dataclasses.replace(LAPTOP, noise=None),
        "#2": dataclasses.replace(SERVER, noise=None),
    }
    assert merged.noise == LevelResult(name="BF16 against itself #2", kld_mean=2e-6)


def test_one_machine_is_its_own_part() -> None:
    assert by_machine(LAPTOP) == {"": LAPTOP}
    assert merge([LAPTOP]) == LAPTOP


def test_merging_what_was_merged() -> None:
    """A folder may hold two results and what they were merged into: each machine counts once."""
    tablet = _with_settings(cpu="A third CPU")
    merged = merge([merge([LAPTOP, SERVER]), LAPTOP, tablet])
    assert list(merged.settings) == ["#1", "#2", "#3"]
    assert [part.settings["cpu"] for part in by_machine(merged).values()] == [
        "A CPU", "Another CPU", "A third CPU",
    ]  # fmt: skip


def test_twelve_machines_stay_apart() -> None:
    parts = [_with_settings(cpu=f"CPU {number}") for number in range(12)]
    found = by_machine(merge(parts))
    assert [part.levels for part in found.values()] == [LAPTOP.levels] * 12


def test_settings_named_like_a_machine_are_not_a_merge() -> None:
    strange = _with_settings(**{"#1": {}})
    assert by_machine(strange) == {"": strange}


@pytest.mark.parametrize(
    ("changed", "note"),
    [
        ({"cpu": "Another CPU"}, None),
        ({"text_sha256": "cd" * 32}, "a different text: compare perplexity and KLD only within"),
        ({"n_ctx": 4096, "n_chunks": 2}, None),  # LAPTOP has none recorded
        ({"source_sha256": "cd" * 32}, None),
    ],
)
def test_what_keeps_figures_apart_is_noted(changed: dict[str, object], note: str | None) -> None:
    merged = merge([LAPTOP, _with_settings(**changed)])
    added = merged.notes[len(LAPTOP.notes) :]
    assert (len(added), note is None or note in added[0]) == (int(note is not None), True)


def test_all_that_differs_is_in_one_note() -> None:
    sizes = {"n_ctx": 512, "n_chunks": 16, "source_sha256": "ab" * 32}
    other = {"n_ctx": 4096, "n_chunks": 2, "source_sha256": "cd" * 32}
    *_, models, quality = merge([_with_settings(**sizes), _with_settings(**other)]).notes
    assert models == "the results are of different models"
    assert "have a different n_ctx, n_chunks:" in quality


def test_nothing_to_merge() -> None:
    with pytest.raises(ValueError, match="no comparison"):
        merge([])


# --- files ---


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
