"""The pool of actors: Ray always has a CPU left."""

from __future__ import annotations

import pytest

pytest.importorskip("ray", reason="needs the extra localgen[ray]")

from localgen.jobs.ray.pool import cpus_to_ask, rows_per_block
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


@pytest.mark.parametrize(
    ("n_rows", "n_actors", "max_sequences", "expected"),
    [
        (10**7, 4, 32, 64),
        (40, 2, 32, 5),  # four batches at a time for each
        (40, 2, 4, 10),  # two
        (200, 4, 32, 13),
        (3, 4, 32, 1),
        (0, 4, 32, 1),
    ],
)
def test_blocks_of_few_rows_are_so_small_that_all_actors_have_work(
    n_rows: int, n_actors: int, max_sequences: int, expected: int
) -> None:
    assert rows_per_block(n_rows, n_actors, max_sequences) == expected
