"""When a worker has stalled."""

from __future__ import annotations

from localgen.worker.stalls import StallWatch

PID, SECONDS = 17, 240.0


def looks(watch: StallWatch, n: int, *, computes: bool, gives_signs: bool) -> list[str | None]:
    """What ``n`` looks find, a minute apart, at a worker without news."""
    signs = range(n) if gives_signs else [0] * n
    return [watch.look(PID, each, 5, computes=computes) for each in signs]


def test_a_pass_that_takes_too_long_is_a_stall_though_the_process_says_that_it_runs() -> None:
    found = looks(StallWatch(SECONDS), 5, computes=True, gives_signs=True)
    assert found == [None] * 4 + ["was killed: a forward pass took over 240 seconds"]


def test_without_a_pass_a_process_that_says_that_it_runs_may_take_as_long_as_it_likes() -> None:
    assert not any(looks(StallWatch(SECONDS), 100, computes=False, gives_signs=True))


def test_a_process_that_says_nothing_at_all_is_a_stall_whatever_it_does() -> None:
    found = looks(StallWatch(SECONDS), 5, computes=False, gives_signs=False)
    assert found == [None] * 4 + ["was killed: it did nothing for over 240 seconds"]


def test_a_process_may_be_silent_for_a_minute_though_a_pass_may_not_take_so_long() -> None:
    found = looks(StallWatch(20.0), 13, computes=False, gives_signs=False)
    assert found == [None] * 12 + ["was killed: it did nothing for over 60 seconds"]


def test_news_and_another_process_begin_the_count_again() -> None:
    watch = StallWatch(SECONDS)
    given = {"computes": True}
    assert not any(looks(watch, 4, computes=True, gives_signs=True))
    assert watch.look(PID, 9, 6, **given) is None
    assert not any(watch.look(PID, 9, 6, **given) for _ in range(3))
    assert not any(watch.look(PID + 1, 9, 6, **given) for _ in range(4))
    assert watch.look(PID + 1, 9, 6, **given) is not None
