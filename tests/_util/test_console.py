"""Text from pipes and JSON for them, in the encodings that Windows has for both."""

from __future__ import annotations

import io
import json

import pytest

from localgen._util.console import dump_json, piped_lines


def stream(data: bytes, encoding: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(data), encoding=encoding)


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        ("né\r\n✓\r\n".encode(), ["né\n", "✓\n"]),
        ("né\n\nend".encode("utf-8-sig"), ["né\n", "\n", "end"]),
        ("né\r\n".encode("cp1252"), ["né\n"]),
        ("né\n".encode("cp1252") + "✓".encode(), ["né\n", "✓"]),
        (b"a\rb\n", ["a\rb\n"]),
        (b"", []),
    ],
)
def test_lines_are_utf8_or_in_the_consoles_encoding(data: bytes, lines: list[str]) -> None:
    assert list(piped_lines(stream(data, "cp1252"))) == lines


def test_what_is_neither_is_an_error() -> None:
    with pytest.raises(UnicodeDecodeError):
        list(piped_lines(stream(b"\xff\xfe", "utf-8")))


def test_a_stream_of_text_alone() -> None:
    assert list(piped_lines(io.StringIO("a\nb"))) == ["a\n", "b"]


def test_json_loses_no_character() -> None:
    """A character that the stream cannot encode would become a question mark."""
    assert dump_json("né ✓", stream(b"", "utf-8")) == '"né ✓"'
    escaped = dump_json("né ✓", stream(b"", "cp1252"))
    assert escaped.isascii()
    assert json.loads(escaped) == "né ✓"
