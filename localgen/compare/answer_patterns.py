"""Finds answers in generated texts by regular expressions, in a process that can be stopped.

Python's expressions may take exponential time, and nothing else ends them.
"""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence

from localgen._util.child import OWN_GROUP, kill_tree, module_command, module_environment
from localgen._util.warn import warn

# For one text. Ordinary patterns take less than a millisecond.
LIMIT_SECONDS = 5.0
_MODULE = "localgen.compare.pattern_process"

Wanted = tuple[str, str]


def found_answers(wanted: Sequence[Wanted], limit: float = LIMIT_SECONDS) -> list[str]:
    """Return what each (pattern, text) gives: its first group, or all that matches, else "".

    A pattern that takes longer than ``limit`` seconds on a text is not tried again: it gives "",
    with a warning. Raises BackendError without a Python interpreter for the process.
    """
    found: list[str] = []
    slow: set[str] = set()
    while len(found) < len(wanted):
        rest = wanted[len(found) :]
        if rest[0][0] in slow:
            found.append("")
            continue
        found += _until_slow(rest, slow, limit)
        if len(found) < len(wanted) and (pattern := wanted[len(found)][0]) not in slow:
            slow.add(pattern)
            warn(
                f"the pattern {pattern!r:.60} took longer than {limit:g} seconds on an answer, so "
                f"answers with it count as wrong. Simplify it"
            )
    return found


def _until_slow(wanted: Sequence[Wanted], slow: set[str], limit: float) -> list[str]:
    """Return the answers up to the first one that takes too long, or whose pattern is ``slow``."""
    end = next((i for i, (pattern, _) in enumerate(wanted) if pattern in slow), len(wanted))
    return list(_answers(wanted[:end], limit))


def _answers(wanted: Sequence[Wanted], limit: float) -> Iterator[str]:
    with subprocess.Popen(
        module_command(_MODULE),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=module_environment(filter(None, sys.path)),
        **OWN_GROUP,
    ) as process:
        lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        talk = threading.Thread(target=_talk, args=(process, wanted, lines), daemon=True)
        talk.start()
        try:
            lines.get()  # the process has started, which may take a while
            for _ in wanted:
                try:
                    line = lines.get(timeout=limit)
                except queue.Empty:
                    return
                if not line:
                    return
                yield json.loads(line)
        finally:
            kill_tree(process)
            talk.join()


def _talk(
    process: subprocess.Popen[bytes], wanted: Sequence[Wanted], lines: queue.SimpleQueue[bytes]
) -> None:
    """Send what is wanted, and pass on the process's lines; an empty one is its end."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(wanted).encode())
        process.stdin.close()
        for line in process.stdout:
            lines.put(line)
    except (OSError, ValueError):  # it was ended
        pass
    lines.put(b"")
