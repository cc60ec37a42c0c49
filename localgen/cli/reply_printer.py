"""Prints a reply while it comes: the text on stdout, the reasoning dimmed or on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from localgen._util.console import is_terminal
from localgen.text.replies.results import ReplyDelta

_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"


def print_reply(deltas: Iterable[ReplyDelta]) -> None:
    """Print a reply; in a pipe, stdout gets its text alone."""
    shows = is_terminal(sys.stdout)
    is_reasoning = False
    try:
        for delta in deltas:
            if delta.kind == "reasoning":
                if not is_reasoning and shows:
                    sys.stdout.write(_DIM)
                is_reasoning = True
                _write(delta.text, to_stdout=shows)
            elif delta.kind == "text":
                if is_reasoning:
                    _write(f"{_PLAIN}\n\n" if shows else "\n", to_stdout=shows)
                is_reasoning = False
                _write(delta.text, to_stdout=True)
            elif delta.tool_call is not None:
                name = delta.tool_call.name
                _write(f"localgen: the model calls the tool {name!r}; a chat here has none\n")
    finally:
        if is_reasoning:
            _write(_PLAIN if shows else "\n", to_stdout=shows)


def _write(text: str, *, to_stdout: bool = False) -> None:
    stream = sys.stdout if to_stdout else sys.stderr
    stream.write(text)
    stream.flush()
