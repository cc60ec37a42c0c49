"""Memory stays flat over many models; it runs in a child, whose memory is its own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.conftest import RunChild

EIGHTY = """
import gc, pathlib, sys, localgen
def rss():
    gc.collect()
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
def use():
    with localgen.LocalModel.from_pretrained(sys.argv[1], n_ctx=512, n_threads=1) as model:
        with model.prefill([40, 41, 42]):
            model.complete([[40, 41, 42, 43], [50, 60]], max_new_tokens=2)
        next(model.stream([70, 80], max_new_tokens=4), None)
for _ in range(20):
    use()
before = rss()
for _ in range(60):
    use()
print((rss() - before) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_eighty_models_leave_memory_flat(path: Path, fork_child: RunChild) -> None:
    """Protects against a model, context or cache that is not freed: each has some megabytes."""
    child = fork_child(EIGHTY, path)
    assert (child.returncode, child.stderr) == (0, "")
    assert int(child.stdout) < 12  # MiB; one context that stays would be 60 times its size
