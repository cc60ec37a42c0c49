"""Actors on nodes, computed by hand."""

from __future__ import annotations

import pickle

import pytest

from localgen.errors import ActorsDoNotFitError, JobError
from localgen.jobs.ray.sizing import ActorMemory, Node, lay_out

GB = 10**9
# 4 GB of weights a node, and 1.5 to 9 GB for each actor.
NEEDS = ActorMemory(shared=4 * GB, own=1 * GB, kv_least=GB // 2, kv_most=8 * GB)


def node(cpus: float, gigabytes: float) -> Node:
    return Node(cpus=cpus, memory=int(gigabytes * GB))


def test_by_default_one_actor_has_all_of_each_node() -> None:
    layout = lay_out([node(16, 64)] * 3, NEEDS)
    assert layout.n_of_nodes == (1, 1, 1)
    assert (layout.n_actors, layout.cpus, layout.n_threads) == (3, 16, 16)
    assert str(layout) == "3 actors of 16 threads on 3 nodes"


def test_one_cpu_of_each_node_is_left_to_read_the_input() -> None:
    """Ray Data would wait for ever for a CPU that the actors hold."""
    assert lay_out([node(16, 64)], NEEDS).ray_cpus == 15
    assert lay_out([node(2, 64)], NEEDS, n_actors=4).ray_cpus == 0.25
    assert lay_out([node(1, 64)], NEEDS).ray_cpus == 0
    assert lay_out([node(16, 64)], NEEDS, n_actors=1, cpus=4).ray_cpus == 4


def test_actors_have_the_size_of_the_nodes_that_most_cpus_are_in() -> None:
    layout = lay_out([node(4, 64), node(16, 64), node(16, 64), node(4, 64)], NEEDS)
    assert layout.n_of_nodes == (0, 1, 1, 0)
    assert lay_out([node(4, 64)] * 5 + [node(16, 64)], NEEDS).n_of_nodes == (1, 1, 1, 1, 1, 4)


@pytest.mark.parametrize(
    ("n_actors", "cpus", "n_threads"),
    [(1, 16, 16), (2, 16, 16), (3, 8, 8), (4, 8, 8), (5, 5, 5), (64, 0.5, 1), (100, 0.32, 1)],
)
def test_the_cpus_of_actors_follow_from_their_number(
    n_actors: int, cpus: float, n_threads: int
) -> None:
    layout = lay_out([node(16, 500)] * 2, NEEDS, n_actors=n_actors)
    assert (layout.n_actors, layout.cpus, layout.n_threads) == (n_actors, cpus, n_threads)


def test_actors_are_spread_over_the_nodes() -> None:
    assert lay_out([node(16, 64)] * 3, NEEDS, n_actors=5, cpus=4).n_of_nodes == (2, 2, 1)


def test_weights_count_once_for_a_node() -> None:
    # (10 - 4) / 1.5
    assert lay_out([node(16, 10)], NEEDS, cpus=1).n_actors == 4


def test_rays_object_store_has_its_share_of_a_machines_memory() -> None:
    assert Node.of_machine(16, 64 * GB) == node(16, 44.8)
    assert Node.of_machine(16, 1000 * GB) == node(16, 800)  # the store has 200 GB at most


def test_what_is_left_of_the_memory_is_for_kv_caches() -> None:
    one, two = (lay_out([node(16, 20)], NEEDS, n_actors=n) for n in (1, 2))
    assert (one.kv_budget, one.memory) == (8 * GB, 9 * GB)  # more could never be used
    assert (two.kv_budget, two.memory) == (7 * GB, 8 * GB)  # (20 - 4) / 2 - 1
    assert two.load_options == {"n_threads": 8, "kv_budget": 7 * GB}


def test_a_node_without_the_memory_for_one_actor_is_refused_with_numbers() -> None:
    with pytest.raises(ActorsDoNotFitError) as found:
        lay_out([node(16, 5)], NEEDS)
    assert str(found.value) == (
        "the job needs 1 actor, and there is room for 0: each takes 16 CPUs and at least 1.50 GB "
        "of memory, besides 4.00 GB of weights once a node, and the cluster has 1 node of 16 "
        "CPUs, with 5.00 GB for actors. Use fewer actors, a smaller n_ctx, a smaller level of the "
        "model, or more nodes."
    )
    assert (found.value.n_actors, found.value.n_fit) == (1, 0)


def test_too_many_actors_are_refused_whether_cpus_or_memory_is_short() -> None:
    nodes = [node(16, 10)]
    with pytest.raises(ActorsDoNotFitError, match="needs 5 actors, and there is room for 4: each "):
        lay_out(nodes, NEEDS, n_actors=5, cpus=1)
    with pytest.raises(ActorsDoNotFitError, match="fewer actors, a smaller actor_cpus, or") as few:
        lay_out(nodes, NEEDS, n_actors=3, cpus=8)
    assert few.value.n_fit == 2
    with pytest.raises(JobError, match="has no nodes"):
        lay_out([], NEEDS)
    with pytest.raises(JobError, match="1 node of 0 CPUs"):
        lay_out([node(0, 64)], NEEDS)


def test_the_refusal_is_the_same_after_a_process_boundary() -> None:
    with pytest.raises(ActorsDoNotFitError) as found:
        lay_out([node(1, 1)], NEEDS)
    copy = pickle.loads(pickle.dumps(found.value))
    assert (str(copy), copy.n_actors, copy.n_fit) == (str(found.value), 1, 0)


@pytest.mark.parametrize(("cpus", "memory", "n_without"), [
    (16, 10**12, 0), (6, 10**12, 1), (0, 10**12, 4), (16, 0, 4),
])  # fmt: skip
def test_actors_without_room_now_are_counted(cpus: float, memory: int, n_without: int) -> None:
    needs = ActorMemory(shared=0, own=10**8, kv_least=10**8, kv_most=10**8)
    layout = lay_out([Node(cpus=9, memory=10**12)], needs, n_actors=4, cpus=2)
    assert layout.n_without(Node(cpus=cpus, memory=memory)) == n_without
