"""``localgen batch --plan`` as users run it, on a tiny model; it runs without Ray."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.test_generate import Result, assert_refused, localgen_command

pytestmark = pytest.mark.slow
CLUSTER = ["--nodes", "4", "--node-cpus", "16", "--node-memory", "64GB"]


class Plan:
    def __init__(self, folder: Path, model: Path) -> None:
        self.source, self.target = folder / "in.jsonl", folder / "out"
        self.speeds = folder / "speeds.json"
        self.model = model
        self.source.write_text('{"prompt": "the cat"}\n' * 40)

    def __call__(self, *args: object) -> Result:
        given = (self.source, self.target, "-m", self.model, "--max-new-tokens", 4)
        return localgen_command("batch", *given, "--max-sequences", 2, "--plan", *args)

    def change(self, **fields: object) -> None:
        self.speeds.write_text(json.dumps(json.loads(self.speeds.read_text()) | fields))


@pytest.fixture
def plan(tmp_path: Path, tiny_bpe_path: Path) -> Plan:
    return Plan(tmp_path, tiny_bpe_path)


def test_a_described_cluster_is_planned_and_the_speeds_are_kept(plan: Plan) -> None:
    first = plan(*CLUSTER, "--bandwidth", "1Gbit", "--speeds", plan.speeds)
    assert first.returncode == 0, first.stderr
    assert "localgen: measuring 1 actor of " in first.stderr
    assert "cluster   4 nodes of 16 CPUs, with 44.80 GB for actors" in first.stdout
    assert "actors    4 actors of 16 threads on 4 nodes, 2 rows at a time in each" in first.stdout
    assert "- each node fetches the model at 1000 Mbit/s, all at once" in first.stdout
    assert not plan.target.exists()

    again = plan(*CLUSTER, "--bandwidth", "1Gbit", "--speeds", plan.speeds)
    assert again.stdout == first.stdout
    assert "measuring" not in again.stderr

    plan.change(machine="another processor, 64 CPUs")
    told = plan(*CLUSTER, "--speeds", plan.speeds)
    assert "- speed as measured on another processor, 64 CPUs: " in told.stdout
    assert_refused(plan("--speeds", plan.speeds), 1, "were measured on another machine (another")
    other = plan(*CLUSTER, "--actors", 64, "--actor-cpus", 1, "--speeds", plan.speeds)
    assert_refused(other, 1, "has no speed of ", "Make the plan there")

    plan.change(model="0" * 64)
    assert_refused(plan(*CLUSTER, "--speeds", plan.speeds), 1, "are those of another model")


def test_what_does_not_fit_is_refused_before_anything_is_measured(plan: Plan) -> None:
    small = plan("--nodes", 2, "--node-cpus", 4, "--node-memory", "100MB")
    assert_refused(
        small, 1, "needs 1 actor, and there is room for 0", "2 nodes of 4 CPUs, with 70 MB",
        "a smaller --n-ctx",
    )  # fmt: skip
    many = plan(*CLUSTER, "--actors", 65, "--actor-cpus", 1)
    assert_refused(many, 1, "needs 65 actors, and there is room for 64", "a smaller --actor-cpus")


def test_options_that_do_not_go_together_are_wrong_usage(plan: Plan) -> None:
    assert_refused(plan("--node-cpus", 4), 2, "--node-cpus needs --nodes")
    assert_refused(plan("--overwrite"), 2, "--overwrite does not work with --ray")
    assert_refused(plan("--profile"), 2, "--profile does not work with --ray")
