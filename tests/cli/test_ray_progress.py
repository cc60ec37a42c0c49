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
    clock.now += 20
    progress.add("b:2", 60, is_failed=False)
    progress.add("b:2", 0, is_failed=True)
    assert progress.line() == (
        "2 of 10 done, 1 failed, 0.1 rows/s, 5 tokens/s, about 47 s left; "
        "tokens/s by worker: a:1 2, b:2 3"
    )


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
    clock = Clock()
    progress = RayProgress(clock)
    assert progress.summary() == "0 done"
    progress.n_rows = 40
    progress.start()
    clock.now += 20
    assert progress.line() == "0 of 40 done, running for 20 s"


def test_before_rows_run_a_line_tells_the_step_and_its_time() -> None:
    clock = Clock()
    progress = RayProgress(clock)
    progress.begin_step("starting Ray")
    clock.now += 30
    assert progress.line() == "starting Ray, for 30 s now"
    progress.begin_step("reading the input")
    clock.now += 10
    assert progress.line() == "reading the input, for 10 s now"


def test_speed_counts_from_when_rows_run() -> None:
    clock = Clock()
    progress = RayProgress(clock)
    progress.n_rows = 2
    progress.start()
    clock.now += 10
    progress.add("a:1", 40, is_failed=False)
    assert progress.summary() == "1 of 2 done, 0.1 rows/s, 4 tokens/s, about 10 s left"
