"""The likeliest of given options comes first."""

from __future__ import annotations

import pytest

from localgen import LocalModel
from tests.examples.conftest import RunExample, load_example

NAME = "choose_option.py"


@pytest.mark.slow
@pytest.mark.real
def test_the_likeliest_option_comes_first(run_example: RunExample) -> None:
    done = run_example(NAME, "The capital of Peru is", "Paris", "Lima", "Tokyo")
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[0][1] == "Lima"
    assert sorted(option for _, option in rows) == ["Lima", "Paris", "Tokyo"]
    assert sum(float(share.rstrip("%")) for share, _ in rows) == pytest.approx(100, abs=0.2)


@pytest.mark.slow
@pytest.mark.real
def test_one_option_is_no_choice(run_example: RunExample) -> None:
    done = run_example(NAME, "The capital of Peru is", "Lima", "Lima")
    assert done.returncode == 2
    assert "two different options" in done.stderr


def test_probabilities_are_those_of_whole_options(tiny: LocalModel) -> None:
    """An option that another one begins with, and the same options in another order."""
    choose = load_example(NAME).choose
    found = dict(choose(tiny, "I live in", ["New", "New York", "Rome"]))
    assert sum(found.values()) == pytest.approx(1)
    again = dict(choose(tiny, "I live in", ["Rome", "New York", "New"]))
    assert again == pytest.approx(found)
