"""The cost model, computed by hand."""

from __future__ import annotations

import pytest

from localgen.jobs.ray.speed import Speed, Wave, fit, n_passes


def speed(**costs: float) -> Speed:
    zero = {"load": 0.0, "prompt_token": 0.0, "forward_pass": 0.0, "new_token": 0.0}
    return Speed(n_actors=1, n_threads=2, **{**zero, **costs})


def wave(seconds: float, rows: list[tuple[int, int]], n_slots: int = 8) -> Wave:
    return Wave(seconds=seconds, rows=tuple(rows), n_slots=n_slots)


def test_a_row_begins_where_one_has_ended() -> None:
    assert n_passes([5, 5, 5], 8) == 5
    assert n_passes([5, 5, 5], 1) == 15
    assert n_passes([9, 2, 3, 4], 2) == 9  # 2 + 3 + 4 beside the 9
    assert n_passes([], 4) == 0


def test_each_part_of_a_job_has_its_cost() -> None:
    rows = [(10, 3), (30, 5)]
    assert speed(prompt_token=0.5).seconds(rows, 4, 2) == 40.0  # 80 tokens
    assert speed(new_token=0.25).seconds(rows, 4, 2) == 3.0  # 12 after the first of each
    assert speed(forward_pass=1.0).seconds(rows, 4, 1) == 12.0
    assert speed(forward_pass=1.0).seconds(rows, 4, 2) == 8.0  # 2 + 4 + 2 beside 4
    assert speed(load=9.0).seconds(rows, 4, 2) == 0.0


def test_a_million_rows_take_a_hundred_times_those_of_ten_thousand() -> None:
    costs = speed(prompt_token=1e-3, forward_pass=1e-2, new_token=1e-3)
    rows = [(10, 3), (30, 5), (20, 9)]
    few, many = (costs.seconds(rows, n, 32) for n in (10_000, 1_000_000))
    assert many == pytest.approx(100 * few, rel=1e-3)


def test_the_costs_are_found_again_from_what_they_predict() -> None:
    true = {"prompt_token": 0.002, "forward_pass": 0.01, "new_token": 0.003}
    large, small = [(10, 11)] * 8, [(10, 11)] * 2
    waves = (
        wave(8 * 10 * 0.002, [(10, 1)] * 8),
        wave(0.16 + 10 * 0.01 + 80 * 0.003, large),
        wave(0.04 + 10 * 0.01 + 20 * 0.003, small),
    )
    found = fit(*waves)
    assert found == pytest.approx(true)
    again = speed(**found).seconds(large, 8, 8)
    assert again == pytest.approx(waves[1].seconds)


@pytest.mark.parametrize(
    ("small", "forward_pass", "new_token"),
    [
        (0.05, 0.0, 0.005),  # faster together: the small wave took less than its share
        (0.9, 0.04, 0.0),  # slower than the large one
    ],
)
def test_no_cost_is_negative_and_the_large_wave_is_explained(
    small: float, forward_pass: float, new_token: float
) -> None:
    found = fit(wave(0, [(1, 1)]), wave(0.4, [(1, 11)] * 8), wave(small, [(1, 11)] * 2))
    assert (found["forward_pass"], found["new_token"]) == (forward_pass, new_token)


def test_rows_of_one_token_cost_their_prompts_alone() -> None:
    one = [(10, 1)] * 4
    found = fit(wave(0.4, one), wave(0.4, one), wave(0.1, one[:1]))
    assert found == {"prompt_token": 0.01, "forward_pass": 0.0, "new_token": 0.0}
