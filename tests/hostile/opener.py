"""Opens files one after another in a child process, and tells which one killed or hung it.

``python -m tests.hostile.opener FILE…`` is the child: it prints a line before each file and one
after it.
"""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from localgen._util.system import peak_memory

SECONDS = 5.0
MEMORY_BYTES = 512 * 2**20
_ROOT = Path(__file__).resolve().parents[2]


def open_files(paths: Sequence[Path]) -> dict[Path, str]:
    """What came of each file: "refused", "generated", or how it ended the child.

    After a crash or a hang another child goes on with the file after it.
    """
    found: dict[Path, str] = {}
    left = list(paths)
    while left:
        n_done = _run_child(left, found)
        left = left[n_done:]
    return found


def _run_child(paths: list[Path], found: dict[Path, str]) -> int:
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.hostile.opener"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=_ROOT,
        env={**os.environ, "GGML_NO_BACKTRACE": "1"},
    )
    assert child.stdin is not None
    assert child.stdout is not None
    lines: queue.Queue[str | None] = queue.Queue()
    reader = threading.Thread(target=_pass_on, args=(child.stdout, lines))
    reader.start()
    n_done = 0
    try:
        lines.get()  # it has imported everything
        for path in paths:
            n_done += 1
            try:
                child.stdin.write(f"{path}\n")
                child.stdin.flush()
                line = lines.get(timeout=SECONDS)
            except queue.Empty:
                found[path] = f"hung for {SECONDS} seconds"
                child.kill()
                break
            except BrokenPipeError:
                line = None
            if line is None:
                found[path] = f"killed the process: {child.wait()}"
                break
            found[path] = line
        else:
            child.stdin.close()
    finally:
        child.kill()
        child.wait()
        reader.join()
        child.stdout.close()
        if not child.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                child.stdin.close()
    return n_done


def _pass_on(stdout: IO[str], lines: queue.Queue[str | None]) -> None:
    for line in stdout:
        lines.put(line.rstrip("\n"))
    lines.put(None)


def _open(path: str) -> str:
    from localgen import LocalgenError, LocalModel

    try:
        with LocalModel.from_pretrained(path, n_ctx=64, n_threads=1, n_batch=64) as model:
            n_vocab = model.tokenizer.vocab_size
            prompt = [[i % n_vocab for i in (3, 40, 60)]]
            model.generate(prompt, max_new_tokens=2)
            model.tokenizer.decode(model.tokenizer.encode("é the\x01 漢 hello"))
            model.tokenizer.batch_decode([[i] for i in range(0, n_vocab, 7)])
    except (LocalgenError, ValueError) as error:
        # ValueError: for the call, as the vocabulary has no token for a text.
        return "refused" if str(error) else "refused without a reason"
    return "generated"


def main() -> None:
    """The child."""
    _open(os.devnull)
    print("ready", flush=True)
    for line in sys.stdin:
        result = _open(line.rstrip("\n"))
        peak = peak_memory()
        if peak > MEMORY_BYTES:
            result = f"took {peak / 2**20:.0f} MiB"
        print(result, flush=True)


if __name__ == "__main__":
    main()
