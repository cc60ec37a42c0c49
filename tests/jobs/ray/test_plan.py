"""The prediction for a cluster, computed by hand."""

from __future__ import annotations

import subprocess
import sys

import pytest

from localgen.jobs.ray.plan import Arrangement, Work, arrangement, assumptions, predict
from localgen.jobs.ray.sizing import ActorMemory, Layout, Node
from localgen.jobs.ray.speed import Speed

NEEDS = ActorMemory(shared=10**9, own=0, kv_least=4096, kv_most=32 * 4096)
# 0.2 s for each prompt, 0.1 for each of ten passes.
SPEED = Speed(n_actors=1, n_threads=2, load=3.0, prompt_token=0.01, forward_pass=0.1, new_token=0.0)
MACHINE = "a processor, 2 CPUs"


def layout(*n_of_nodes: int, cpus: float = 2.0, kv_budget: int = 32 * 4096) -> Layout:
    return Layout(
        n_of_nodes=n_of_nodes,
        cpus=cpus,
        ray_cpus=cpus,
        n_threads=max(1, int(cpus)),
        kv_budget=kv_budget,
        memory=0,
    )


def work(n_rows: int = 1280, n_slots: int = 1) -> Work:
    return Work(
        n_rows=n_rows, rows=((20, 11),), longest=1024, max_sequences=32, n_slots=n_slots,
        n_ctx=4096, model_bytes=125_000_000,
    )  # fmt: skip


def test_the_time_is_that_of_the_actor_with_most_blocks_of_rows() -> None:
    assert predict(work(), layout(1), NEEDS, SPEED).generate == pytest.approx(1280 * 1.2)
    # 20 blocks of 64 rows: seven of them for one of three actors
    assert predict(work(), layout(1, 1, 1), NEEDS, SPEED).generate == pytest.approx(448 * 1.2)
    # Of few rows all actors get some: eight blocks of five.
    assert predict(work(40), layout(1, 1), NEEDS, SPEED).generate == pytest.approx(20 * 1.2)
    assert predict(work(1), layout(1, 1), NEEDS, SPEED).generate == pytest.approx(1.2)


def test_actors_without_a_row_are_named() -> None:
    nodes = [Node(cpus=2, memory=10**9)] * 3
    found = Arrangement(n_actors=1, n_threads=2, factor=1.0)
    for n_rows, is_said in ((3, False), (2, True)):
        plan = predict(work(n_rows), layout(1, 1, 1), NEEDS, SPEED)
        said = list(assumptions(plan, n_rows, nodes, found, machine=MACHINE, bandwidth=None))
        assert ("2 of the 3 actors are started, one for each row" in said) is is_said


def test_loading_and_fetching_the_model_come_first() -> None:
    plan = predict(work(), layout(1), NEEDS, SPEED, bandwidth=1e8)
    assert (plan.download, plan.load) == (10.0, 3.0)
    assert plan.seconds == pytest.approx(13 + 1280 * 1.2)
    assert plan.tokens_per_second == pytest.approx(1280 * 11 / (1280 * 1.2))
    assert predict(work(), layout(1), NEEDS, SPEED).download == 0.0


def test_rows_run_together_as_far_as_the_kv_cache_holds_them() -> None:
    tight = layout(1, kv_budget=4 * 4096)  # sixteen rows of a quarter of the context
    assert predict(work(n_slots=32), tight, NEEDS, SPEED).n_together == 16
    plan = predict(work(n_slots=32), layout(1), NEEDS, SPEED)
    assert plan.n_together == 32
    assert plan.generate == pytest.approx(1280 * 0.2 + 40 * 10 * 0.1)


@pytest.mark.parametrize(
    ("on_node", "cpus", "expected"),
    [
        (1, 2.0, (1, 2, 1.0)),
        (4, 0.5, (4, 1, 1.0)),
        (1, 16.0, (1, 2, 8.0)),  # two CPUs stand for sixteen
        (4, 1.0, (2, 1, 1.0)),  # two of the four
        (1, 1.0, (1, 1, 1.0)),
        (40, 0.05, (4, 1, 0.1)),  # two to a CPU, each with ten times the share
        (320, 0.05, (4, 1, 0.1)),
        (3, 0.05, (3, 1, 1.0)),
    ],
)
def test_what_runs_here_stands_for_the_actors_of_a_node(
    on_node: int, cpus: float, expected: tuple[int, int, float]
) -> None:
    found = arrangement(layout(on_node, cpus=cpus), 2)
    assert (found.n_actors, found.n_threads, found.factor) == expected


def test_more_cpus_divide_the_time() -> None:
    plain, fast = (predict(work(), layout(1), NEEDS, SPEED, factor=f) for f in (1.0, 8.0))
    assert fast.generate == plain.generate / 8
    assert fast.load == plain.load


def test_what_is_assumed_is_said() -> None:
    plan = predict(work(), layout(4, 0, cpus=8.0), NEEDS, SPEED)
    found = Arrangement(n_actors=1, n_threads=2, factor=4.0)
    nodes = [Node(cpus=32, memory=64 * 10**9), Node(cpus=1, memory=8 * 10**9)]
    said = list(assumptions(plan, 1280, nodes, found, machine=MACHINE, bandwidth=1e9))
    assert said[:5] == [
        "speed as measured on a processor, 2 CPUs: 1 actor with 2 threads",
        "an actor of a node is 4 times as fast, as it has so many times the CPUs; memory bandwidth "
        "may allow less",
        "4 actors of a node do not slow each other more than 1 did",
        "each node fetches the model at 1000 Mbit/s, all at once",
        "1 of the nodes get no actor: 1 CPUs, 8.00 GB",
    ]


def test_actors_that_share_a_cpu_among_more_are_slower() -> None:
    plan = predict(work(), layout(40, cpus=0.05), NEEDS, SPEED, factor=0.1)
    alone = predict(work(), layout(40, cpus=0.05), NEEDS, SPEED)
    assert plan.generate == pytest.approx(10 * alone.generate)
    assert plan.load == pytest.approx(10 * SPEED.load)
    found = Arrangement(n_actors=4, n_threads=1, factor=0.1)
    nodes = [Node(cpus=2, memory=64 * 10**9)]
    said = list(assumptions(plan, 1280, nodes, found, machine=MACHINE, bandwidth=None))
    assert said[1].startswith("an actor of a node is 0.1 times as fast, as more of them share")


@pytest.mark.slow
def test_a_plan_needs_neither_ray_nor_pyarrow() -> None:
    program = (
        "import sys; sys.modules['ray'] = sys.modules['pyarrow'] = None\n"
        "import localgen.cli.ray_plan, localgen.jobs.ray.measuring, localgen.jobs.ray.sample"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
