"""The progress of a job on Ray, with a clock that the test sets."""

from __future__ import annotations

from localgen.cli.ray_progress import RayProgress


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_line_tells_rows_speed_time_left_and_each_workers_speed() -> None:
    clock = Clock()
    progress = RayProgress(clock)
    progress.n_rows = 10
    progress.add("a:1", 40, is_failed=False)
    assert not progress.is_due
    clock.now += 20
    progress.add("b:2", 60, is_failed=False)
    progress.add("b:2", 0, is_failed=True)
    assert progress.is_due
    assert progress.line() == (
        "2 of 10 done, 1 failed, 0.1 rows/s, 5 tokens/s, about 47 s left; "
        "tokens/s by worker: a:1 2, b:2 3"
    )
    assert not progress.is_due


def test_a_workers_speed_is_of_the_time_since_the_last_line() -> None:
    clock = Clock()
    progress = RayProgress(clock)
    progress.add("a:1", 40, is_failed=False)
    clock.now += 20
    progress.line()
    progress.add("b:2", 50, is_failed=False)
    clock.now += 10
    assert progress.line().endswith("tokens/s by worker: a:1 0, b:2 5")


def test_many_workers_are_summed_up() -> None:
    clock = Clock()
    progress = RayProgress(clock)
    for i in range(12):
        progress.add(f"host:{i}", 100 + 10 * i, is_failed=False)
    clock.now += 10
    assert progress.line().endswith("; 12 workers, 10 to 21 tokens/s each")


def test_before_any_row_has_ended_there_is_no_speed() -> None:
    progress = RayProgress(Clock())
    assert not progress.is_due
    assert progress.summary() == "0 done"
