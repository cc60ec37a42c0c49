"""The number of threads, on simulated machines whose CPUs other programs take and give back."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localgen.llama.thread_controller import ThreadController, thread_counts


@dataclass
class Machine:
    """Threads share a pass of ``seconds`` evenly, but for a tenth. With more threads than ``free``
    CPUs it takes ``penalty`` times as long, of which the calling thread has its CPU for a half."""

    free: int
    penalty: float = 4.0
    noise: float = 0.1
    seconds: float = 0.02
    random: random.Random = field(default_factory=lambda: random.Random(1))

    def time(self, n_threads: int, n_tokens: int = 1) -> float:
        crowd = self.penalty if n_threads > self.free else 1.0
        return crowd * self.seconds * n_tokens**0.5 * (0.1 + 0.9 / n_threads)

    def run(
        self, controller: ThreadController, seconds: float, sizes: tuple[int, ...] = (1,)
    ) -> float:
        """Run passes for so long; return the time that they took over that of the best threads."""
        spent = best = 0.0
        while spent < seconds:
            n_tokens = self.random.choice(sizes)
            n_threads = controller.threads_for(n_tokens)
            noise = 1 + self.random.uniform(0, self.noise)
            took = self.time(n_threads, n_tokens) * noise
            controller.note(n_tokens, took, took * (0.5 if n_threads > self.free else 0.99))
            spent += took
            best += min(self.time(n, n_tokens) for n in controller.levels) * noise
        return spent / best


@pytest.mark.parametrize(
    ("most", "counts"),
    [(1, [1]), (2, [1, 2]), (4, [1, 2, 3, 4]), (8, [1, 2, 3, 4, 5, 6, 8])],
)
def test_the_numbers_that_are_tried(most: int, counts: list[int]) -> None:
    assert thread_counts(most) == counts


def used(controller: ThreadController, machine: Machine, n_passes: int) -> set[int]:
    """The numbers of threads of the next passes."""
    found = set()
    for _ in range(n_passes):
        found.add(controller.threads_for(1))
        machine.run(controller, 1e-9)
    return found


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_a_quiet_machine_keeps_all_threads_and_tries_nothing(noise: float) -> None:
    assert used(ThreadController(2), Machine(free=2, noise=noise), 3000) == {2}


@pytest.mark.parametrize("sizes", [(1,), (1, 4), (1, 2, 3, 5, 9)])
@pytest.mark.parametrize(("most", "free"), [(2, 1), (8, 6), (8, 2), (16, 3)])
def test_fewer_threads_where_others_take_cpus_and_all_of_them_afterwards(
    most: int, free: int, sizes: tuple[int, ...]
) -> None:
    """Within a few seconds, and with little lost to trials from then on."""
    controller, machine = ThreadController(most), Machine(free=most)
    machine.run(controller, 2.0, sizes)
    assert controller.n_threads == most
    machine.free = free
    machine.run(controller, 40.0, sizes)
    assert controller.n_threads == free
    assert machine.run(controller, 60.0, sizes) < 1.1
    machine.free = most
    machine.run(controller, 40.0, sizes)
    assert controller.n_threads == most


@pytest.mark.parametrize("n_passes", [1, 3])
def test_where_all_threads_stay_faster_on_a_crowded_machine_they_are_kept(n_passes: int) -> None:
    """As in long passes, which lose less at the barriers than they gain from a second CPU."""
    controller, machine = ThreadController(2, n_passes), Machine(free=1, penalty=1.2)
    assert machine.run(controller, 60.0) < 1.25
    assert controller.n_threads == 2


def test_a_change_in_a_trial_of_many_sizes_ends_it() -> None:
    """A size that never comes again must not keep a trial open."""
    controller, machine = ThreadController(2), Machine(free=1)
    while controller.threads_for(1) != 1:
        machine.run(controller, 1e-9)
    for _ in range(200):
        controller.note(7, 0.01, 0.005)
    assert controller.threads_for(1) == 2


@given(
    st.integers(1, 20),
    st.lists(st.tuples(st.integers(1, 3), st.floats(0, 1e3), st.floats(0, 1e3)), max_size=100),
)
def test_the_number_stays_within_its_bounds_whatever_passes_take(
    most: int, passes: list[tuple[int, float, float]]
) -> None:
    controller = ThreadController(most)
    for n_tokens, seconds, cpu_seconds in passes:
        assert 1 <= controller.threads_for(n_tokens) <= most
        controller.note(n_tokens, seconds, cpu_seconds)
