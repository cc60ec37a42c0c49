"""What patterns find in answers, and that one which never ends is ended."""

from __future__ import annotations

import pytest

from localgen.compare.answer_patterns import LIMIT_SECONDS, found_answers
from localgen.compare.pattern_process import first_match
from localgen.compare.task_answers import answers_in

# Each further "a" doubles the time.
ENDLESS = r"(a+)+$"


def test_an_answer_is_what_the_pattern_finds() -> None:
    assert (first_match(r"is (\d)", "it is 2."), first_match(r"is (\d)", "none")) == ("2", "")
    assert first_match(r"\d", "it is 2.") == "2"
    assert not first_match(r"x(\d)?", "x")  # the group took no part


@pytest.mark.slow
def test_answers_of_a_task(capfd: pytest.CaptureFixture[str]) -> None:
    found = answers_in([" 2 \n", "it is é.", "none"], [None, r"is (\w)", r"is (\w)"])
    assert found == ["2", "é", ""]
    assert capfd.readouterr().err == "", "the process warned of how it was started"


@pytest.mark.slow
def test_a_pattern_that_does_not_end_is_given_up_once() -> None:
    """re.search() cannot be interrupted: the comparison hung for ever."""
    texts = [(r"\d", "1"), (ENDLESS, "a" * 60 + "b"), (r"\d", "2"), (ENDLESS, "aa"), (r"\d", "3")]
    with pytest.warns(UserWarning, match="longer than 0.5 seconds on an answer") as caught:
        assert found_answers(texts, limit=0.5) == ["1", "", "2", "", "3"]
    assert len(caught) == 1
    assert LIMIT_SECONDS > 1


def test_without_patterns_no_process_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subprocess.Popen", None)
    assert answers_in([" a "], [None]) == ["a"]
