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


PENDING_TASK = """
import asyncio, atexit, sys, threading
from localgen import LocalModel

model = LocalModel.from_pretrained(sys.argv[1], n_ctx=512, n_threads=1)
begun, ending = threading.Event(), threading.Event()
decode = model._backend.decode
def decode_at_the_end(*args):
    begun.set()
    ending.wait()
    return decode(*args)
model._backend.decode = decode_at_the_end
atexit.register(ending.set)  # what was registered last runs first
loop = asyncio.new_event_loop()
async def leave_pending():
    asyncio.ensure_future(model.acomplete("the cat", max_new_tokens=400, min_new_tokens=400))
    await asyncio.to_thread(begun.wait)
loop.run_until_complete(leave_pending())
print("main ends")
"""


def test_task_that_is_pending(tiny_bpe_path: Path, run_child: RunChild) -> None:
    """Python once waited until everything was generated that nobody would read."""
    child = run_child(PENDING_TASK, tiny_bpe_path, warnings="ignore")
    assert (child.returncode, child.stdout) == (0, "main ends\n"), child.stderr
