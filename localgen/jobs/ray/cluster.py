"""The nodes of the Ray that this process has joined."""

from __future__ import annotations

import ray

from localgen.jobs.ray.sizing import Node


def nodes_of_cluster() -> list[Node]:
    """Return what each node offers to actors: without the memory of Ray's object store."""
    found = [each["Resources"] for each in ray.nodes() if each["Alive"]]
    return [
        Node(cpus=float(each.get("CPU", 0)), memory=int(each.get("memory", 0))) for each in found
    ]


def address_joined() -> str:
    """Return HOST:PORT of the head of the Ray."""
    return str(ray.get_runtime_context().gcs_address)


def free_now() -> Node:
    """Return what all nodes together have left, beside what other jobs hold."""
    left = ray.available_resources()
    return Node(cpus=float(left.get("CPU", 0)), memory=int(left.get("memory", 0)))
