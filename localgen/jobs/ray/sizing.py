"""How many actors the nodes of a cluster hold, and what each gets; it knows neither Ray nor models.

The weights of a node's actors are the same pages of memory. All else each has for itself.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from localgen._util.format import as_size, counted
from localgen.errors import ActorsDoNotFitError

# Of an actor's two processes, its own and its model's: Python, NumPy and Ray, without the model.
PROCESS_BYTES = 200_000_000
# The reading of the input needs a CPU of Ray's now and then, which actors must not hold for ever.
_CPUS_TO_READ = 1.0
# Of a node's memory, unless Ray is started with --object-store-memory.
_OBJECT_STORE_SHARE = 0.3
_OBJECT_STORE_MOST = 200 * 10**9
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What a node has for actors: CPUs, and bytes of memory, without those of Ray's object store.

    It is what Ray says of a node that it has; ``of_machine`` computes the same for others.
    """

    cpus: float
    memory: int

    @classmethod
    def of_machine(cls, cpus: float, memory: int) -> Node:
        """Return the node that a machine with these CPUs and bytes of memory becomes."""
        store = min(int(_OBJECT_STORE_SHARE * memory), _OBJECT_STORE_MOST)
        return cls(cpus=cpus, memory=memory - store)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorMemory:
    """Bytes that actors need.

    shared: once for each node. own: of each actor, besides its KV cache. kv_least, kv_most: its KV
    cache with one sequence, and with all that may run together.
    """

    shared: int
    own: int
    kv_least: int
    kv_most: int

    @property
    def least(self) -> int:
        """What an actor cannot do without, besides ``shared``."""
        return self.own + self.kv_least


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The actors of a job, which are all alike.

    n_of_nodes: how many each node gets. cpus: of each actor. ray_cpus: those that Ray is asked for.
    n_threads, kv_budget (bytes): of each model. memory: bytes of each actor, without ``shared``.
    """

    n_of_nodes: tuple[int, ...]
    cpus: float
    ray_cpus: float
    n_threads: int
    kv_budget: int
    memory: int

    @property
    def n_actors(self) -> int:
        return sum(self.n_of_nodes)

    @property
    def load_options(self) -> dict[str, int]:
        """Return the fields of ``ModelConfig`` that follow from it."""
        return {"n_threads": self.n_threads, "kv_budget": self.kv_budget}

    def n_without(self, free: Node) -> int:
        """Return how many of the actors do not fit what the nodes together have left."""
        by_cpus = int(free.cpus / self.ray_cpus + _ROUNDING) if self.ray_cpus else self.n_actors
        return max(0, self.n_actors - min(by_cpus, free.memory // self.memory))

    def __str__(self) -> str:
        nodes = counted(sum(n > 0 for n in self.n_of_nodes), "node")
        threads = counted(self.n_threads, "thread")
        return f"{counted(self.n_actors, 'actor')} of {threads} on {nodes}"


def lay_out(
    nodes: Sequence[Node],
    needs: ActorMemory,
    *,
    n_actors: int | None = None,
    cpus: float | None = None,
) -> Layout:
    """Return the actors for these nodes.

    cpus: of each actor; by default as many as let ``n_actors`` fit, or else all of a node, since
    one process with all threads reads the weights once for all of its sequences. n_actors: by
    default as many as the nodes hold. Raises ActorsDoNotFitError.
    """
    cpus = cpus or _cpus_of_actors(nodes, n_actors)
    held = [min(_by_cpus(node, cpus), _by_memory(node, needs)) for node in nodes]
    if sum(held) < (n_actors or 1):
        raise _do_not_fit(nodes, needs, held, n_actors or 1, cpus)
    placed = _spread(held, sum(held) if n_actors is None else n_actors)
    used = [(node, n) for node, n in zip(nodes, placed, strict=True) if n]
    left = min((node.memory - needs.shared) // n for node, n in used)
    kv_budget = min(needs.kv_most, left - needs.own)
    to_ask = min(max(0.0, node.cpus - _CPUS_TO_READ) / n for node, n in used)
    return Layout(
        n_of_nodes=tuple(placed),
        cpus=cpus,
        ray_cpus=math.floor(1e4 * min(cpus, to_ask)) / 1e4,
        n_threads=max(1, int(cpus)),
        kv_budget=kv_budget,
        memory=needs.own + kv_budget,
    )


def described(nodes: Sequence[Node]) -> str:
    """Return nodes as prose: "3 nodes of 16 CPUs, with 44.80 GB for actors"."""
    return ", ".join(
        f"{counted(n, 'node')} of {node.cpus:g} CPUs, with {as_size(node.memory)} for actors"
        for node, n in Counter(nodes).items()
    )


def _by_cpus(node: Node, cpus: float) -> int:
    return int(node.cpus / cpus + _ROUNDING)


def _by_memory(node: Node, needs: ActorMemory) -> int:
    return max(0, (node.memory - needs.shared) // needs.least)


def _cpus_of_actors(nodes: Sequence[Node], n_actors: int | None) -> float:
    """Return the CPUs of each actor: whole ones, if that is at least one."""
    sizes = Counter(node.cpus for node in nodes if node.cpus > 0)
    if not sizes:
        return 1.0
    if n_actors is None:  # all of a node, of those nodes that have most of the CPUs
        return max(sizes, key=lambda size: (sizes[size] * size, size))
    shares = sorted({size / n for size in sizes for n in range(1, n_actors + 1)}, reverse=True)
    for share in shares:
        cpus = math.floor(share) if share >= 1 else math.floor(100 * share) / 100
        if cpus and sum(_by_cpus(node, cpus) for node in nodes) >= n_actors:
            return float(cpus)
    return 1.0


def _spread(held: Sequence[int], n_actors: int) -> list[int]:
    """Return how many actors each node gets: one after the other, while there is room."""
    placed = [0] * len(held)
    while sum(placed) < n_actors:
        for number, most in enumerate(held):
            if placed[number] < most and sum(placed) < n_actors:
                placed[number] += 1
    return placed


def _do_not_fit(
    nodes: Sequence[Node], needs: ActorMemory, held: Sequence[int], n_actors: int, cpus: float
) -> ActorsDoNotFitError:
    lacks_cpus = sum(_by_cpus(node, cpus) for node in nodes) < n_actors
    lacks_memory = sum(_by_memory(node, needs) for node in nodes) < n_actors
    advice = ["fewer actors", *["a smaller actor_cpus"] * lacks_cpus]
    advice += ["a smaller n_ctx", "a smaller level of the model"] * lacks_memory
    return ActorsDoNotFitError(
        f"the job needs {counted(n_actors, 'actor')}, and there is room for {sum(held)}: each "
        f"takes {cpus:g} CPUs and at least {as_size(needs.least)} of memory, besides "
        f"{as_size(needs.shared)} of weights once a node, and the cluster has "
        f"{described(nodes) or 'no nodes'}. Use {', '.join(advice)}, or more nodes.",
        n_actors,
        sum(held),
    )
