"""Text on the standard streams, whose encoding on Windows is often not UTF-8."""

from __future__ import annotations

import codecs
import io
import json
import sys
from collections.abc import Iterator
from typing import TextIO


def piped_lines(stream: TextIO) -> Iterator[str]:
    """Yield the lines of a stream that is not a terminal, each with its "\\n".

    Lines that are not valid UTF-8 are decoded with the stream's encoding: on Windows that is the
    code page, while most programs write UTF-8. CRLF becomes LF, and a byte-order mark is dropped.
    """
    if not isinstance(stream, io.TextIOWrapper):
        yield from stream
        return
    for number, data in enumerate(stream.buffer):
        line = data.removeprefix(codecs.BOM_UTF8) if number == 0 else data
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            text = line.decode(stream.encoding, stream.errors or "strict")
        yield text[:-2] + "\n" if text.endswith("\r\n") else text


def read_stdin() -> str:
    """Return all of stdin, whether typed or piped."""
    return sys.stdin.read() if sys.stdin.isatty() else "".join(piped_lines(sys.stdin))


def dump_json(value: object, stream: TextIO) -> str:
    """Return ``value`` as JSON for ``stream``: characters that it cannot encode are escaped."""
    encodes_all = (stream.encoding or "").lower().startswith("utf")
    return json.dumps(value, ensure_ascii=not encodes_all)
