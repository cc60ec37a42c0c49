"""A job on a cluster of several nodes, each with its own processes of Ray."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ray: Any = pytest.importorskip("ray", reason="needs the extra localgen[ray]")
utils: Any = pytest.importorskip("ray.cluster_utils", reason="needs the extra localgen[ray]")

from localgen.jobs.ray import read_results  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.real,
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]
N_ROWS = 120


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Two nodes of two CPUs."""
    found = utils.Cluster(
        initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False}
    )
    found.add_node(num_cpus=2)
    found.wait_for_nodes()
    yield found
    found.shutdown()


def n_records(target: Path) -> list[int]:
    """How many records each part has."""
    return [part.read_bytes().count(b"\n") for part in target.glob("part-*.jsonl")]


def test_both_nodes_work_and_the_end_of_one_in_the_middle_costs_and_repeats_no_row(
    cluster: Any, tmp_path: Path
) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out"
    rows = [{"prompt": f"Number {i} is", "min_new_tokens": 24} for i in range(N_ROWS)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [sys.executable, "-m", "localgen", "batch", str(source), str(target)]
    command += ["--model", "smollm2", "--max-new-tokens", "24", "--ray", cluster.address]
    (_, other) = cluster.list_all_nodes()
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as job:
        while len(n_records(target)) < 2 or not min(n_records(target)):
            assert job.poll() is None, job.communicate()
            time.sleep(0.05)
        assert sum(n_records(target)) < N_ROWS
        cluster.remove_node(other, allow_graceful=False)
        _, told = job.communicate()
    assert job.returncode == 0, told
    assert "2 actors of 2 threads on 2 nodes" in told
    found = list(read_results(target))
    assert sorted(record["line"] for record in found) == list(range(1, N_ROWS + 1))
    assert not any("error" in record for record in found)
