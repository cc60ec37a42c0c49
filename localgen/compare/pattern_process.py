"""The process of ``answer_patterns``; nothing imports it, so that Python runs it without a warning.

    python -m localgen.compare.pattern_process

It reads a JSON list of [pattern, text] from stdin and writes each answer as a line of JSON, after
an empty line that says that it has started.
"""

from __future__ import annotations

import json
import re
import sys


def first_match(pattern: str, text: str) -> str:
    """Return the answer in a text; "" where the pattern finds none."""
    found = re.search(pattern, text)
    if found is None:
        return ""
    return (found[1] or "" if found.re.groups else found[0]).strip()


def main() -> None:
    """Answer what is given on stdin."""
    wanted = json.load(sys.stdin.buffer)
    print(flush=True)
    for pattern, text in wanted:
        print(json.dumps(first_match(pattern, text)), flush=True)


if __name__ == "__main__":
    main()
