"""The nodes of the Ray that this process has joined."""

from __future__ import annotations

import math
from collections.abc import Mapping

import ray

from localgen.jobs.ray.sizing import Node

_ROUNDING = 1e-6


def nodes_of_cluster() -> list[Node]:
    """Return what each node offers to actors: without the memory of Ray's object store."""
    found = [each["Resources"] for each in ray.nodes() if each["Alive"]]
    return [
        Node(cpus=float(each.get("CPU", 0)), memory=int(each.get("memory", 0))) for each in found
    ]


def address_joined() -> str:
    """Return HOST:PORT of the head of the Ray."""
    return str(ray.get_runtime_context().gcs_address)


def n_held(resources: Mapping[str, float]) -> float:
    """Return how many actors the nodes hold, which other jobs may use; infinity if they need
    nothing. resources: of an actor, under Ray's names."""
    needed = {name: n for name, n in resources.items() if n}
    found = [each["Resources"] for each in ray.nodes() if each["Alive"]]
    return sum(
        min((int(node.get(name, 0) / n + _ROUNDING) for name, n in needed.items()),
            default=math.inf)
        for node in found
    )  # fmt: skip


def free_now() -> Node:
    """Return what all nodes together have left, beside what other jobs hold."""
    left = ray.available_resources()
    return Node(cpus=float(left.get("CPU", 0)), memory=int(left.get("memory", 0)))
