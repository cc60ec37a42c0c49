"""Several machines' comparisons as one: joined, taken apart, and what cannot be compared."""

from __future__ import annotations

import dataclasses

import pytest

from localgen.compare import Comparison
from localgen.compare.level_result import LevelResult
from localgen.compare.machines import by_machine, merge
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
