"""What to keep on machines of a size; three quarters of the memory may be used."""

from __future__ import annotations

import pytest

from localgen.compare.level_result import LevelResult
from localgen.compare.memory_sizes import GB, SHARE, advice_by_size
from tests.comparisons import comparison, level

# 3 to 16 GB of file; the knee is Q4_0 with 5 GB.
LEVELS = comparison().levels


def _lines(**limits: float) -> list[tuple[str, str, str]]:
    found = advice_by_size(LEVELS, **limits)
    return [(each.machine, _name(each.keep), _name(each.best)) for each in found]


def _name(found: LevelResult | None) -> str:
    return "" if found is None else found.label


def test_the_recommended_level_where_it_fits_else_the_closest_that_does() -> None:
    assert _lines() == [
        ("4 GB", "Q2_K", "Q2_K"),
        ("8 GB", "Q4_0", "Q5_0"),
        ("16 GB", "Q4_0", "Q8_0"),
        ("32 GB and more", "Q4_0", "F16"),
    ]


def test_a_line_says_what_else_fits() -> None:
    small, middle, _, large = advice_by_size(LEVELS)
    assert small.sentence == "Q2_K (3.00 GB, mean KLD 0.9000, 22 tokens/s)"
    assert middle.sentence == (
        "Q4_0 (5.00 GB, mean KLD 0.0400, 25 tokens/s); "
        "Q5_0 fits as well (6.00 GB, mean KLD 0.0200, 20 tokens/s)"
    )
    assert large.sentence.endswith("F16 fits as well (16.00 GB, the reference, 10 tokens/s)")


def test_a_limit_of_the_kld_is_kept_where_it_can_be() -> None:
    """Q5_0 is the smallest within 0.02; on 4 GB no level within it fits, which is said."""
    assert _lines(max_kld=0.02)[:2] == [("4 GB", "Q2_K", "Q2_K"), ("8 GB", "Q5_0", "Q5_0")]
    (first, *_) = advice_by_size(LEVELS, max_kld=0.02)
    assert first.sentence.endswith(", more than the KLD of 0.02 that you allow")


def test_a_machine_that_nothing_fits() -> None:
    levels = [level("F16", 40 * GB, 0.0, 1, is_reference=True), level("Q2_K", 9 * GB, 0.5, 2)]
    first, *_, last = advice_by_size(levels)
    assert (first.machine, first.keep) == ("4 and 8 GB", None)
    assert first.sentence == "none fits: the smallest, Q2_K, needs 9.00 GB"
    assert last.machine == "64 GB and more"


def test_the_measured_peak_counts_not_the_file() -> None:
    levels = [
        level("F16", 1 * GB, 0.0, 1, is_reference=True, peak_rss_bytes=4 * GB),
        level("Q4_0", GB // 2, 0.1, 2, peak_rss_bytes=int(SHARE * 4 * GB)),
    ]
    assert [each.machine for each in advice_by_size(levels)] == ["4 GB", "8 GB and more"]


def test_the_reference_is_mentioned_and_not_kept() -> None:
    """Regression: a machine with enough memory was to keep the reference; a pack has no file."""
    small = level("Q4_0", GB // 2, 0.1, 2)
    for name, mention in (("F16", True), ("F16 (pack)", False)):
        (only,) = advice_by_size([level(name, GB, 0.0, 1, is_reference=True), small])
        assert only.keep == small
        assert (name in only.sentence) == mention
    assert advice_by_size([level("F16", GB, 0.0, 1, is_reference=True)]) == ()


def test_one_answer_for_all_sizes_is_one_line() -> None:
    levels = [level("F16", GB, 0.0, 1, is_reference=True), level("Q4_0", GB // 2, 0.1, 2)]
    (only,) = advice_by_size(levels)
    assert (only.machine, only.sizes) == ("4 GB and more", (4 * GB, 8 * GB, 16 * GB))


@pytest.mark.parametrize("missing", [[], [level("F16", GB, 0.0, 1, kld_mean=None)]])
def test_without_quality_there_is_no_advice(missing: list[LevelResult]) -> None:
    assert advice_by_size(missing) == ()
