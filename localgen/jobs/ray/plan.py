"""Predicts how long a job takes on a cluster, from a measured speed; it runs nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from localgen._util.format import as_size
from localgen.jobs.ray.pool import rows_per_block
from localgen.jobs.ray.sizing import ActorMemory, Layout, Node
from localgen.jobs.ray.speed import Speed

_MEGABIT = 1e6
# More models on a CPU would only share it, and take long to load.
_MODELS_PER_CPU = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is to be generated.

    rows: (prompt tokens that are computed, new tokens) of each row of a sample. longest: the tokens
    of the longest of them, prompt and all new ones that it may have. max_sequences: of the model;
    n_slots: rows that may run together in an actor, fewer in a deterministic one. model_bytes: of
    the model's files.
    """

    n_rows: int
    rows: tuple[tuple[int, int], ...]
    longest: int
    max_sequences: int
    n_slots: int
    n_ctx: int
    model_bytes: int

    @property
    def n_prompt(self) -> float:
        """The mean of the prompt tokens that are computed."""
        return sum(n for n, _ in self.rows) / len(self.rows)

    @property
    def n_new(self) -> float:
        """The mean of the new tokens."""
        return sum(n for _, n in self.rows) / len(self.rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrangement:
    """Actors on one machine, which stand for those of a node.

    factor: how many times as fast an actor of the node is taken to be. Of a larger node it is the
    same model that loads, as fast; below 1 more of them load at once.
    """

    n_actors: int
    n_threads: int
    factor: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The time of a job; download, load and generate are in seconds.

    n_together: rows in an actor's batch.
    """

    layout: Layout
    n_together: int
    download: float
    load: float
    generate: float
    tokens_per_second: float

    @property
    def seconds(self) -> float:
        return self.download + self.load + self.generate


def arrangement(layout: Layout, n_cpus: int) -> Arrangement:
    """Return what to run on a machine of ``n_cpus`` to know the speed of a node.

    As many actors as the node has, with their threads; where the machine is smaller, fewer of them,
    and its CPUs stand for as many more. Of actors that share a CPU, as many as two to a CPU.
    """
    on_node = max(layout.n_of_nodes)
    cpus = min(layout.cpus, float(n_cpus))
    if min(on_node, int(n_cpus / cpus + 1e-6)) > (most := _MODELS_PER_CPU * n_cpus):
        cpus = 1 / _MODELS_PER_CPU
        on_node = most
    return Arrangement(
        n_actors=min(on_node, max(1, int(n_cpus / cpus + 1e-6))),
        n_threads=max(1, int(cpus)),
        factor=layout.cpus / cpus,
    )


def predict(
    work: Work,
    layout: Layout,
    needs: ActorMemory,
    speed: Speed,
    *,
    factor: float = 1.0,
    bandwidth: float | None = None,
) -> Plan:
    """Return the plan of a job; its time is that of the actor with most rows.

    factor: see ``Arrangement``. bandwidth: bits per second with which each node fetches the model;
    None if it has it.
    """
    block = rows_per_block(work.n_rows, layout.n_actors, work.max_sequences)
    n_blocks = math.ceil(math.ceil(work.n_rows / block) / layout.n_actors)
    n_rows = min(work.n_rows, n_blocks * block)
    n_together = _n_together(work, layout, needs)
    generate = speed.seconds(work.rows, n_rows, n_together) / factor
    return Plan(
        layout=layout,
        n_together=n_together,
        download=8 * work.model_bytes / bandwidth if bandwidth else 0.0,
        load=speed.load / min(1.0, factor),
        generate=generate,
        tokens_per_second=work.n_rows * work.n_new / generate if generate else math.inf,
    )


def _n_together(work: Work, layout: Layout, needs: ActorMemory) -> int:
    """Return how many rows as long as the longest one the KV cache of an actor holds."""
    if not needs.kv_least:
        return work.n_slots
    of_row = needs.kv_least * min(1.0, work.longest / work.n_ctx)
    return max(1, min(work.n_slots, int(layout.kv_budget / of_row)))


def assumptions(
    plan: Plan,
    n_rows: int,
    nodes: Sequence[Node],
    found: Arrangement,
    *,
    machine: str,
    bandwidth: float | None,
) -> Iterator[str]:
    """Yield what the prediction takes for granted, as sentences.

    n_rows: of the job. machine: the one that was measured.
    """
    if n_rows < plan.layout.n_actors:
        yield f"{n_rows} of the {plan.layout.n_actors} actors are started, one for each row"
    yield f"speed as measured on {machine}: {_measured(found)}"
    if found.factor < 1:
        yield (
            f"an actor of a node is {found.factor:.2g} times as fast, as more of them share a CPU; "
            f"more actors than CPUs do no more together"
        )
    elif found.factor != 1:
        yield (
            f"an actor of a node is {found.factor:g} times as fast, as it has so many times the "
            f"CPUs; memory bandwidth may allow less"
        )
    if max(plan.layout.n_of_nodes) > found.n_actors and found.factor >= 1:
        yield (
            f"{max(plan.layout.n_of_nodes)} actors of a node do not slow each other more than "
            f"{found.n_actors} did"
        )
    if bandwidth:
        yield f"each node fetches the model at {bandwidth / _MEGABIT:g} Mbit/s, all at once"
    else:
        yield "each node has the model"
    unused = [node for node, n in zip(nodes, plan.layout.n_of_nodes, strict=True) if not n]
    if unused:
        yield f"{len(unused)} of the nodes get no actor: {_smallest(unused)}"
    yield "rows like those of the sample, and their results, pass without waiting"
    yield "Ray runs already: to start it takes some seconds more, on a busy machine half a minute"
    yield "Ray's own processes take no CPU from the actors; as a job starts they take some seconds"


def _measured(found: Arrangement) -> str:
    actors = "1 actor" if found.n_actors == 1 else f"{found.n_actors} actors at once"
    threads = "1 thread" if found.n_threads == 1 else f"{found.n_threads} threads"
    return f"{actors} with {threads}" + (" each" if found.n_actors > 1 else "")


def _smallest(nodes: Sequence[Node]) -> str:
    node = min(nodes, key=lambda each: (each.cpus, each.memory))
    return f"{node.cpus:g} CPUs, {as_size(node.memory)}"
