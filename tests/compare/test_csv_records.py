"""CSV with broken lines: each is told by its number, and the records around them are read."""

from __future__ import annotations

import pytest

from localgen.compare.csv_records import BrokenLineError, read_records

GOOD = "q,a,b,A"


def split(text: str) -> tuple[dict[int, list[str]], dict[int, str]]:
    found = [*read_records(text, 4)]
    good = {number: each for number, each in found if isinstance(each, list)}
    return good, {n: str(each) for n, each in found if isinstance(each, BrokenLineError)}


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ('q,"a,b,A', "a quotation mark is not closed"),
        ('q,"a"x,b,A', "or text follows it"),
        (f"q,{'x' * 200_000},b,A", "field larger than"),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_records_around_a_broken_line_are_read(broken: str, message: str, end: str) -> None:
    good, problems = split(end.join([GOOD, broken, "", "q2,a,b,B", '"q\n3",a,b,A', ""]))
    assert good == {
        1: ["q", "a", "b", "A"],
        4: ["q2", "a", "b", "B"],
        5: ["q\n3", "a", "b", "A"],
    }
    assert [*problems] == [2]
    assert message in problems[2]


def test_a_broken_first_line_does_not_hide_the_rest() -> None:
    good, problems = split(f'q,"a"x,b,A\nshort,line\n{GOOD}')
    assert [*good] == [3]
    assert "is not a record of at least 4 fields" in problems[2]


def test_what_follows_a_broken_line_counts_only_if_it_is_surely_a_record() -> None:
    """The lines of a field with several lines are no records, even where they look like some."""
    inside = ['q,"a"x,b', 'more, and more, of it",A', 'z",b,c,A', "with, other, number, of, A"]
    good, problems = split("\n".join([GOOD, *inside, GOOD]))
    assert [*good] == [1, 6]
    assert [*problems] == [2, 3, 4, 5]
    assert "is not a record of 4 fields on its own" in problems[3]


def test_records_may_differ_in_length_where_nothing_is_broken() -> None:
    good, problems = split('q,a,b,A\nq,a,b,c,"C"\na,b\nq,a,b,A\n')
    assert [len(each) for each in good.values()] == [4, 5, 2, 4]
    assert not problems
