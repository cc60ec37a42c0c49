"""What to keep, machine by machine, and their figures side by side."""

from __future__ import annotations

import dataclasses

from localgen.compare.advice import advice_by_machine
from localgen.compare.machines import by_machine, merge
from localgen.compare.side_by_side import side_by_side
from tests.comparisons import comparison, level

SLOW = comparison()
# Another machine, where Q8_0 is slow and Q5_0 was not compared.
FAST = comparison(
    settings={**SLOW.settings, "cpu": "Another CPU", "n_threads": 16},
    levels=(
        level("F16", 16 * 10**9, 0.0, 100, is_reference=True),
        level("Q8_0", 8 * 10**9, 0.001, 180),
        level("Q2_K", 3 * 10**9, 0.9, 220, kv_type="q8_0"),
    ),
)


def test_one_machine_has_no_name() -> None:
    (only,) = advice_by_machine(SLOW, None, None).values()
    assert only.full_sentence == only.sentence == SLOW.recommend().sentence
    assert [each.machine for each in only.by_size][:2] == ["4 GB", "8 GB"]


def test_each_machine_has_its_own_recommendation() -> None:
    """Regression: the speeds of one machine decided which level of another is on the front."""
    first, second = advice_by_machine(merge([SLOW, FAST]), None, None).values()
    assert first.full_sentence == f"#1, A CPU, 2 threads: {SLOW.recommend().sentence}"
    assert second.full_sentence == f"#2, Another CPU, 16 threads: {FAST.recommend().sentence}"


def test_limits_hold_for_each_machine() -> None:
    first, second = advice_by_machine(merge([SLOW, FAST]), "2GB", None).values()
    assert first.kept is second.kept is None
    assert first.sentence == "No level fits in 2.00 GB: the smallest, Q2_K, needs 3.00 GB."


def test_figures_side_by_side() -> None:
    found = side_by_side(by_machine(merge([SLOW, FAST])))
    assert found is not None
    titles, rows = found
    assert titles == (
        "level", "KLD #1", "KLD #2", "prefill #1", "prefill #2", "decode #1", "decode #2",
    )  # fmt: skip
    by_level = {label: cells for label, *cells in rows}
    assert by_level["Q8_0"][-2:] == ["18 ± 2 /s", "180 ± 18 /s"]
    assert by_level["Q5_0"][-2:] == ["20 ± 2 /s", "-"]
    assert by_level["Q2_K kv q8_0"][-2:] == ["-", "220 ± 22 /s"]
    assert "IQ1_S" not in by_level  # it failed


def test_what_no_machine_measured_has_no_column() -> None:
    without = [
        dataclasses.replace(part, levels=(dataclasses.replace(part["F16"], decode_tps=None),))
        for part in (SLOW, FAST)
    ]
    found = side_by_side(by_machine(merge(without)))
    assert found is not None
    assert not any(title.startswith("decode") for title in found[0])
    assert side_by_side(by_machine(SLOW)) is None
