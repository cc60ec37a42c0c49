"""The search: what it chooses from speeds that are made up, and what it leaves after an end."""

from __future__ import annotations

from itertools import chain, repeat
from typing import Any

import numpy as np
import pytest

from localgen.errors import BackendError
from localgen.tuning.results import NOT_REACHED, Speed
from localgen.tuning.search import CROWDED, N_CONFIRMING, N_ROUNDS, Search, Settings


def never() -> bool:
    return False


def speeds(**decode: float) -> Any:
    """A measurement in which each setting "name_value" multiplies the speed of decoding."""

    def measure(settings: Settings) -> Speed:
        product = 100.0
        for name, value in settings.items():
            product *= decode[f"{name}_{value}"]
        return Speed(1000.0, product)

    return measure


def test_the_speed_is_the_geometric_mean_of_both_phases() -> None:
    assert Speed(200, 80).over(Speed(100, 10)) == 4
    assert Speed(None, 80).over(Speed(100, 10)) == 8


def test_the_fastest_value_is_chosen_and_the_next_setting_is_measured_beside_it() -> None:
    search = Search(never)
    measure = speeds(a_1=1.2, a_2=1.5, b_1=0.5, b_2=1.1)
    search.choose("a", None, [1, 2], measure)
    search.choose("b", None, [1, 2], measure)
    assert search.best == {"a": 2, "b": 2}
    assert [trial.value for trial in search.trials if trial.is_chosen] == [2, 2]
    assert search.trials[-1].settings == {"a": 2, "b": 2}


def test_a_gain_within_noise_is_not_chosen() -> None:
    search = Search(never)
    search.choose("a", None, [1], speeds(a_1=1.03))  # 1.015 as the mean of both phases
    assert search.best == {}
    assert search.trials[0].is_chosen


def test_a_value_that_lost_one_round_is_not_chosen() -> None:
    # In turns, and backwards in the second round: default 1, value 2, value 2, default 1, …
    found = iter([1.0, 2.0, 2.0, 1.0, 1.0, 0.9])
    search = Search(never)
    search.choose("a", None, [1], lambda _: Speed(None, next(found)))
    assert search.trials[1].ratios == (2.0, 2.0, 0.9)
    assert search.best == {}


def test_the_fastest_value_alone_must_win_further_rounds() -> None:
    search = Search(never)
    search.choose("a", None, [1, 2], speeds(a_1=1.2, a_2=1.5))
    n_all = N_ROUNDS + N_CONFIRMING
    assert [len(trial.speeds) for trial in search.trials] == [n_all, N_ROUNDS, n_all]


def test_a_value_that_lost_a_further_round_is_not_chosen() -> None:
    """In turns: default 1, value 2, value 2, default 1, default 1, value 2; then backwards."""
    found = chain([1.0, 2.0, 2.0, 1.0, 1.0, 2.0], [0.9, 1.0], repeat(9.9))
    search = Search(never)
    search.choose("a", None, [1], lambda _: Speed(None, next(found)))
    assert search.trials[1].ratios == (2.0, 2.0, 2.0, 0.9)
    assert search.best == {}
    assert search.trials[0].is_chosen


def test_a_value_whose_further_rounds_the_time_did_not_reach_is_not_chosen() -> None:
    asked = chain([False] * (N_ROUNDS + 1), repeat(True))
    search = Search(lambda: next(asked))
    search.choose("a", None, [1], speeds(a_1=9.0))
    assert search.best == {}
    assert [trial.not_measured for trial in search.trials] == [None, NOT_REACHED]
    assert len(search.trials[1].speeds) == N_ROUNDS + 1


def test_a_setting_may_need_a_larger_gain() -> None:
    for least_gain, best in ((1.1, {}), (1.05, {"a": 1})):
        search = Search(never)
        measure = speeds(a_1=1.08**2)  # 1.08 as the mean of both phases
        search.choose("a", None, [1], measure, least_gain=least_gain)
        assert search.best == best


@pytest.mark.parametrize(("share", "best"), [(0.95, {"a": 1}), (0.7, {})])
def test_what_wins_only_beside_other_programs_is_not_chosen(share: float, best: object) -> None:
    """The default's share of its CPU decides: the other value may need fewer CPUs."""
    search = Search(never)
    search.choose(
        "a",
        None,
        [1],
        lambda s: Speed(None, 2.0, 1.0) if s else Speed(None, 1.0, share),
        least_cpu_share=0.9,
    )
    assert search.best == best
    assert search.trials[1].not_measured == (None if best else CROWDED)


def chosen(seed: int, gain: float, *, spread: float, stalls: float = 0.0) -> Any:
    """Return what is chosen among five values, of which value 3 is ``gain`` times as fast.

    Measurements are up to ``1 + spread`` times as fast or slow by noise, and a share ``stalls`` of
    them five times as slow, as beside other programs.
    """
    random = np.random.default_rng(seed)

    def measure(settings: Settings) -> Speed:
        noise = (1 + spread) ** random.uniform(-1, 1) * (0.2 if random.random() < stalls else 1)
        return Speed(None, noise * (gain if settings.get("a") == 3 else 1.0))

    search = Search(never)
    search.choose("a", None, range(5), measure)
    return search.best.get("a")


@pytest.mark.parametrize(("spread", "stalls"), [(0.02, 0), (0.3, 0), (0.3, 0.25)])
def test_noise_alone_chooses_hardly_ever(spread: float, stalls: float) -> None:
    found = [chosen(seed, 1.0, spread=spread, stalls=stalls) for seed in range(100)]
    assert len(found) - found.count(None) <= 3


def test_a_gain_above_the_noise_is_found() -> None:
    quiet = [chosen(seed, 1.08, spread=0.02) for seed in range(50)]
    busy = [chosen(seed, 30.0, spread=0.3, stalls=0.25) for seed in range(50)]
    assert {*quiet, *busy} == {3}


def test_a_value_that_cannot_be_loaded_is_left_out_with_the_reason() -> None:
    def measure(settings: Settings) -> Speed:
        if settings:
            raise BackendError("no room")
        return Speed(1.0, 1.0)

    search = Search(never)
    search.choose("a", None, [1], measure)
    assert search.trials[1].not_measured == "no room"
    assert search.best == {}


def test_an_error_of_the_settings_so_far_is_raised() -> None:
    def measure(_: Settings) -> Speed:
        raise BackendError("no model")

    with pytest.raises(BackendError):
        Search(never).choose("a", None, [1], measure)


def test_what_the_time_did_not_reach_is_not_chosen() -> None:
    asked = iter([False, True])
    search = Search(lambda: next(asked))
    search.choose("a", None, [1], speeds(a_1=9.0))
    assert search.best == {}
    assert [trial.not_measured for trial in search.trials] == [NOT_REACHED] * 2


def test_an_interrupt_keeps_whole_rounds_alone() -> None:
    found = iter([1.0, 2.0, 2.0, 1.0, 1.0])

    def measure(_: Settings) -> Speed:
        try:
            return Speed(None, next(found))
        except StopIteration:
            raise KeyboardInterrupt from None

    search = Search(never)
    with pytest.raises(KeyboardInterrupt):
        search.choose("a", None, [1], measure)
    search.leave()
    assert [len(trial.speeds) for trial in search.trials] == [2, 2]
    assert search.best == {}


def test_settings_together_are_measured_against_the_defaults() -> None:
    search = Search(never)
    assert search.confirm(speeds(a_1=4.0, b_1=4.0), {"a": 1, "b": 1}) == 4
