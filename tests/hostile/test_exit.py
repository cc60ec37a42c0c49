"""Python ends while a model is at work: no crash, in child processes."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import RunChild

DAEMON = """
import sys, threading
from localgen import LocalModel

model = LocalModel.from_pretrained(sys.argv[1], n_ctx=512, n_threads=1)
begun = threading.Event()
def work():
    for piece in model.stream("the cat", max_new_tokens=500, min_new_tokens=500):
        begun.set()
    model.complete("x" * 400, max_new_tokens=100)
threading.Thread(target=work, daemon=True).start()
assert begun.wait(20)
print("main ends")
"""


def test_daemon_thread_that_generates(tiny_bpe_path: Path, fork_child: RunChild) -> None:
    """Its model was once freed under it, while it was in C."""
    for _ in range(3):
        child = fork_child(DAEMON, tiny_bpe_path)
        assert (child.returncode, child.stdout) == (0, "main ends\n"), child.stderr
