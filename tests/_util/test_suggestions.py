"""Suggestions for misspelt names: by likeness, whatever their case; one helper for all messages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import localgen
from localgen._util.checks import check_choice
from localgen._util.suggestions import check_file_or_name, did_you_mean, similar_names

LEVELS = ("Q4_0", "Q4_K_M", "Q8_0", "F16")


@pytest.mark.parametrize(
    ("name", "meant"),
    [("Q4_KM", "; did you mean Q4_K_M or Q4_0?"), ("f16", "; did you mean F16?"), ("wild", "")],
)
def test_a_suggestion_is_like_the_name(name: str, meant: str) -> None:
    assert did_you_mean(name, LEVELS) == meant


def test_names_are_shown_as_they_are_written() -> None:
    assert did_you_mean("q4_k_m", LEVELS, n=1, shown=repr) == "; did you mean 'Q4_K_M'?"


def test_a_cutoff_leaves_out_what_is_less_like() -> None:
    assert similar_names("arc_esy", ["arc_easy", "arc_challenge"], cutoff=0.75) == ["arc_easy"]
    assert similar_names("arc", ["arc_easy"], cutoff=0.75) == []


def test_each_option_with_a_list_of_values_suggests_one() -> None:
    with pytest.raises(ValueError, match=r"one of f16, q8_0, got 'q80'; did you mean 'q8_0'\?"):
        check_choice("kv_type", "q80", ("f16", "q8_0"))
    with pytest.raises(ValueError, match=r"got 8$"):
        check_choice("kv_type", 8, ("f16", "q8_0"))


def test_a_missing_file_may_be_a_misspelt_name(tmp_path: Path) -> None:
    check_file_or_name("auto", ["auto"])
    check_file_or_name(tmp_path, ["auto"])
    with pytest.raises(FileNotFoundError, match=r"no such file; did you mean 'auto'\?"):
        check_file_or_name("aut", ["auto"])
    with pytest.raises(FileNotFoundError, match="no such file"):
        check_file_or_name(tmp_path / "none.gguf", ["auto"])


def test_suggestions_have_one_source() -> None:
    """A message of its own making would measure likeness otherwise, or forget the case."""
    folder = Path(localgen.__file__).parent
    imports = re.compile(r"^\s*(from|import) difflib\b", re.MULTILINE)
    found = [path.name for path in folder.rglob("*.py") if imports.search(path.read_text("utf-8"))]
    assert found == ["suggestions.py"]
