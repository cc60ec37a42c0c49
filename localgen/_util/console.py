"""Text on the standard streams, whose encoding on Windows is often not UTF-8."""

from __future__ import annotations

import codecs
import contextlib
import io
import json
import sys
from collections.abc import Iterator
from typing import TextIO

from localgen._util.format import either

_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether a standard stream is a terminal; one that is closed or missing is none."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False


def input_lines(stream: TextIO) -> Iterator[str]:
    """Yield the lines that are piped or typed, each with its "\\n". Raises ValueError.

    Lines that are not valid UTF-8 are decoded with the stream's encoding: on Windows that is the
    code page, while most programs write UTF-8. CRLF becomes LF, and a byte-order mark is dropped.
    """
    if not isinstance(stream, io.TextIOWrapper):
        yield from stream
        return
    for number, data in enumerate(stream.buffer, 1):
        if number == 1 and data.startswith(_UTF16_MARKS):
            raise ValueError("stdin is UTF-16 text. Save or pipe it as UTF-8.")
        text = _decoded(data.removeprefix(codecs.BOM_UTF8) if number == 1 else data, stream, number)
        yield text[:-2] + "\n" if text.endswith("\r\n") else text


def _decoded(line: bytes, stream: TextIO, number: int) -> str:
    encodings = list(dict.fromkeys(("utf-8", codecs.lookup(stream.encoding).name)))
    for encoding in encodings:
        with contextlib.suppress(UnicodeDecodeError):
            return line.decode(encoding)
    raise ValueError(f"line {number} of stdin is not text in {either(encodings)}")


def read_stdin() -> str:
    """Return all of stdin, whether typed or piped. Raises ValueError."""
    return "".join(input_lines(sys.stdin))


def dump_json(value: object, stream: TextIO) -> str:
    """Return ``value`` as JSON for ``stream``: characters that it cannot encode are escaped."""
    encodes_all = (stream.encoding or "").lower().startswith("utf")
    return json.dumps(value, ensure_ascii=not encodes_all)
