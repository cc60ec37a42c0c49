"""``localgen bench`` on SmolLM2: the smallest runs from end to end, and no bounds on times."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import localgen
from tests.cli.test_generate import localgen_command

pytestmark = pytest.mark.real

TINY: dict[str, Any] = {
    "prompt_lengths": [32],
    "new_tokens": 4,
    "batch_sizes": [1, 2],
    "depths": [0, 32],
    "n_rounds": 1,
}


def test_real_weights(smollm2_path: Path) -> None:
    """Every test is measured; the file is the one that is described, and its memory is seen."""
    found = localgen.bench(smollm2_path, device="cpu", **TINY)
    assert [test.not_measured for test in found.tests] == [None] * len(found.tests)
    assert found["tg4 @ d32"].ratio is not None
    assert found.cached is found["pp16 @ d32"]
    assert (found.setup.level, found.setup.n_weights) == ("Q4_1", 134_515_008)
    assert found.setup.bits_per_weight == pytest.approx(5.74, abs=0.01)
    peak = found.memory.peak_rss_bytes
    assert peak is None or peak >= found.memory.before_bytes


def test_command(smollm2_path: Path) -> None:
    """In a process of its own the weights are in the peak, mapped as they are: 97 MB."""
    lengths = ["--prompt-lengths", "32", "--new-tokens", "4", "--depths", "0"]
    args = [*lengths, "--batch-sizes", "2", "--rounds", "1", "--device", "cpu", "--json"]
    done = localgen_command("bench", "smollm2", *args)
    assert (done.returncode, done.stderr) == (0, "")
    data = json.loads(done.stdout)
    assert data["setup"]["file"] == smollm2_path.name
    assert [test["name"] for test in data["tests"]] == ["pp32", "pp16 @ d32", "tg4"]
    assert all(test["ratio"]["median"] > 0 for test in data["tests"])
    memory = data["memory"]
    assert memory["peak_rss_bytes"] - memory["before_bytes"] > 97e6
