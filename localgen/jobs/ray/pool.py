"""The pool of actors: how many batches of rows each works on at a time."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from localgen._util.checks import check_int
from localgen.config import ModelConfig, replace_options
from localgen.jobs.ray.sizing import Node

if TYPE_CHECKING:
    from ray.data import ActorPoolStrategy

# Batches are small, so that one long text holds back few rows; each costs Ray some milliseconds.
BATCH_SIZE = 16
# A block is one task of one actor: small ones spread the rows over all of them.
BATCHES_PER_BLOCK = 4
_MOST_ROWS_PER_BLOCK = BATCHES_PER_BLOCK * BATCH_SIZE
_ROUNDING = 1e-6
# Ray counts CPUs in parts of so many.
_PARTS = 10_000
_CALLS = "max_concurrent_calls_per_actor"


def cpus_to_ask(num_cpus: float, n_actors: int, nodes: Sequence[Node]) -> float:
    """Return the CPUs to ask Ray for, for each of ``n_actors`` actors with ``num_cpus``.

    It is less where they could leave no node a whole CPU, wherever Ray places them: it moves rows
    in tasks of one CPU, and would wait for ever.
    """
    shares = {(node.cpus - 1) / n for node in nodes for n in range(1, n_actors + 1)}
    for share in (num_cpus, *sorted(shares, reverse=True)):
        asked = share if share == num_cpus else math.floor(_PARTS * share) / _PARTS
        if not 0 < asked <= num_cpus:
            continue
        if n_actors < sum(_n_to_fill(node, asked) for node in nodes):
            return asked
    return 0.0


def _n_to_fill(node: Node, asked: float) -> int:
    """Return how many actors leave a node less than a CPU; 0 if it never has one."""
    return int((node.cpus - 1) / asked + _ROUNDING) + 1 if node.cpus >= 1 else 0


def rows_per_block(n_rows: int, n_actors: int, max_sequences: int) -> int:
    """Return how many of ``n_rows`` rows go to an actor at once: 64, or so few that there is a
    block for everything that the actors work on at a time."""
    n_blocks = n_actors * _n_at_a_time(max_sequences, BATCH_SIZE)
    return min(_MOST_ROWS_PER_BLOCK, max(1, math.ceil(n_rows / n_blocks)))


def max_sequences_of(load_options: Mapping[str, Any] | None) -> int:
    """Return the rows that may run together in a model that is loaded so."""
    return replace_options(ModelConfig(), load_options or {}).max_sequences


def _n_at_a_time(max_sequences: int, batch_size: int) -> int:
    """Return how many batches an actor gets at a time: rows for twice ``max_sequences``."""
    return max(2, math.ceil(2 * max_sequences / batch_size))


def actor_pool(
    n_actors: int | tuple[int, int],
    load_options: Mapping[str, Any] | None,
    batch_size: int = BATCH_SIZE,
) -> tuple[ActorPoolStrategy, dict[str, Any]]:
    """Return the strategy of a pool, and Ray's other arguments for it.

    Each actor gets so many batches at a time that rows of the next ones are there when those of one
    end.
    """
    from ray.data import ActorPoolStrategy  # noqa: PLC0415  # plans are made without Ray

    n_batches = _n_at_a_time(max_sequences_of(load_options), batch_size)
    fewest, most = n_actors if isinstance(n_actors, tuple) else (n_actors, n_actors)
    sizes: dict[str, Any] = {
        "min_size": check_int("n_actors", fewest, 1),
        "max_size": check_int("n_actors", most, fewest),
        "max_tasks_in_flight_per_actor": 2 * n_batches,
    }
    if _CALLS not in inspect.signature(ActorPoolStrategy).parameters:  # before Ray 2.60
        return ActorPoolStrategy(**sizes), {"max_concurrency": n_batches}
    return ActorPoolStrategy(**sizes, **{_CALLS: n_batches}), {}
