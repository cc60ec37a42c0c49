"""Which levels are drawn of those that are too many."""

from __future__ import annotations

from localgen.compare.drawn import drawn, left_out
from localgen.compare.recommend import recommend
from tests.comparisons import level

# Of twenty levels, each is worse than the next larger one but for B, which all others beat.
LEVELS = [level(f"L{i}", (20 - i) * 10**9, 0.01 * (i + 1) ** 2, 20 + i) for i in range(20)]
REFERENCE = level("F16", 40 * 10**9, 0.0, 5, is_reference=True)
BEATEN = level("B", 21 * 10**9, 99.0, 1)
ALL = [BEATEN, *LEVELS, REFERENCE]


def test_few_levels_are_all_drawn() -> None:
    assert drawn(ALL, recommend(ALL), len(ALL)) == ALL
    assert drawn([], None, 5) == []


def test_the_front_comes_before_the_others() -> None:
    found = drawn(ALL, recommend(ALL), len(ALL) - 1)
    assert found == [*LEVELS, REFERENCE]


def test_of_a_long_front_some_of_each_size_are_drawn() -> None:
    """With the recommended level and the reference, in the order of the table."""
    kept = recommend(ALL)
    assert kept.level is not None
    names = [each.name for each in drawn(ALL, kept, 6)]
    assert {kept.level.name, "F16", "L0", "L19"} <= {*names}
    assert len(names) == 6
    assert names == [each.name for each in ALL if each.name in names]
    assert [each.name for each in drawn(ALL, kept, 1)] == [kept.level.name]


def test_without_a_recommendation_sizes_decide() -> None:
    assert [each.name for each in drawn(LEVELS, None, 3)] == ["L0", "L10", "L19"]


def test_what_is_left_out_is_told() -> None:
    assert left_out(0, "level") == ""
    assert left_out(1, "level") == " 1 more level only in the tables."
