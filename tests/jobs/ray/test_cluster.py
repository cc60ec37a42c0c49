"""What a real Ray says of its nodes, and a job that does not fit them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ray: Any = pytest.importorskip("ray", reason="needs the extra localgen[ray]")

from localgen.jobs.ray.cluster import nodes_of_cluster  # noqa: E402
from localgen.jobs.ray.sizing import Node  # noqa: E402


def test_nodes_that_are_gone_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    resources = {"CPU": 16.0, "memory": 64e9, "object_store_memory": 8e9}
    nodes = [
        {"Alive": True, "Resources": resources},
        {"Alive": False, "Resources": resources},
        {"Alive": True, "Resources": {"memory": 8e9}},  # a head that runs nothing
    ]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    assert nodes_of_cluster() == [
        Node(cpus=16.0, memory=64 * 10**9),
        Node(cpus=0.0, memory=8 * 10**9),
    ]


@pytest.mark.slow
@pytest.mark.real
def test_a_job_whose_actors_do_not_fit_this_machine_is_refused_before_ray_starts(
    tmp_path: Path,
) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"prompt": "One"}\n')
    command = [sys.executable, "-m", "localgen", "batch", str(source), str(tmp_path / "out")]
    command += ["--ray", "local", "--actors", "2", "--actor-cpus", "4000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 1
    assert "the job needs 2 actors, and there is room for 0: each takes 4000 CPUs" in done.stderr
    assert "a smaller --actor-cpus" in done.stderr
    assert "starting Ray" not in done.stderr
    assert not (tmp_path / "out").exists()
