"""The pool of actors: Ray always has a CPU left."""

from __future__ import annotations

import pytest

pytest.importorskip("ray", reason="needs the extra localgen[ray]")

from localgen.jobs.ray.pool import cpus_to_ask
from localgen.jobs.ray.sizing import Node


@pytest.mark.parametrize(
    ("num_cpus", "n_actors", "nodes", "asked"),
    [
        (0, 1, [2], 0),
        (2, 1, [2], 1),  # the actor would hold all
        (1, 2, [2], 0.5),
        (8, 8, [16, 16, 16, 16], 7.5),
        (1, 1, [1], 0),
        (2, 1, [4], 2),  # another actor would fit
        (3, 1, [4], 3),  # a CPU is left
        (8, 4, [16, 17], 8),
        (0.5, 3, [2], 0.3333),  # each may be on the only node
        (0.5, 2, [2], 0.5),
        (1, 3, [1, 2], 0.5),  # two may be on the second node
        (1, 2, [1, 2], 1),
        (0.5, 1, [0.5, 1], 0),  # only the second node can move rows
    ],
)
def test_actors_that_would_hold_all_cpus_ask_for_less(
    num_cpus: float, n_actors: int, nodes: list[float], asked: float
) -> None:
    given = [Node(cpus=cpus, memory=10**9) for cpus in nodes]
    assert cpus_to_ask(num_cpus, n_actors, given) == asked
