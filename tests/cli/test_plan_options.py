"""The flags that describe a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer

from localgen._util import system
from localgen.cli.plan_options import PlanOptions
from localgen.jobs.ray.sizing import Node


def test_a_described_cluster_has_nodes_of_one_kind() -> None:
    options = PlanOptions(nodes=3, node_cpus=16, node_memory="64GB", plan=True, bandwidth="1Gbit")
    options.check()
    assert options.described_nodes() == [Node(cpus=16, memory=448 * 10**8)] * 3
    assert options.bits_per_second() == 1e9


def test_nodes_are_like_this_machine_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "usable_cpus", lambda: 6)
    monkeypatch.setattr(system, "available_memory", lambda: 1000)
    assert PlanOptions(nodes=2).described_nodes() == [Node(cpus=6, memory=700)] * 2
    assert PlanOptions().described_nodes() is None
    assert PlanOptions().this_machine() == [Node(cpus=6, memory=700)]
    monkeypatch.setattr(system, "available_memory", lambda: None)
    with pytest.raises(typer.BadParameter, match="give --node-memory"):
        PlanOptions(nodes=2).check()


def test_the_nodes_are_known_without_ray_unless_it_runs_elsewhere() -> None:
    here = PlanOptions(plan=True)
    assert here.known_nodes(None) == here.known_nodes("local") is not None
    assert here.known_nodes("auto") is None
    two = PlanOptions(nodes=2, node_cpus=4, node_memory="10GB")
    assert two.known_nodes("auto") == [Node(cpus=4, memory=7 * 10**9)] * 2
    with pytest.raises(typer.BadParameter, match="--nodes 2 does not work with --ray local"):
        two.known_nodes("local")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"bandwidth": "1Gbit"}, "--bandwidth needs --plan"),
        ({"speeds": Path("a")}, "--speeds needs --plan"),
        ({"node_cpus": 2.0, "plan": True}, "--node-cpus needs --nodes"),
        ({"node_memory": "1GB", "plan": True}, "--node-memory needs --nodes"),
        ({"nodes": 1, "node_memory": "much", "plan": True}, "is not a size"),
        ({"nodes": 1, "node_memory": "64"}, r"64 is 64 B, .*did you mean 64GB\?"),
        ({"nodes": 1, "node_memory": "64KB"}, "64KB is 64 kB, too little for any node"),
        ({"bandwidth": "fast", "plan": True}, "is not a rate"),
    ],
)
def test_flags_without_effect_or_sense_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises((typer.BadParameter, ValueError), match=message):
        PlanOptions(**given).check()
