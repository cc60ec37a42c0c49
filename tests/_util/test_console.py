"""Text from pipes and JSON for them, in the encodings that Windows has for both."""

from __future__ import annotations

import io
import json

import pytest

from localgen._util.console import dump_json, input_lines, is_terminal


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
    assert list(input_lines(stream(data, "cp1252"))) == lines


@pytest.mark.parametrize(
    ("data", "encoding", "message"),
    [
        (b"a\n\xff", "utf-8", "line 2 of stdin is not text in utf-8"),
        (b"\xff\n", "ascii", "line 1 of stdin is not text in utf-8 or ascii"),
        ("né".encode("utf-16"), "cp1252", "stdin is UTF-16 text. Save or pipe it as UTF-8."),
    ],
)
def test_what_is_neither_is_an_error(data: bytes, encoding: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list(input_lines(stream(data, encoding)))


def test_no_stream_and_a_closed_one_are_no_terminals() -> None:
    closed = io.StringIO()
    closed.close()
    assert not is_terminal(None)
    assert not is_terminal(closed)


def test_a_stream_of_text_alone() -> None:
    assert list(input_lines(io.StringIO("a\nb"))) == ["a\n", "b"]


def test_json_loses_no_character() -> None:
    """A character that the stream cannot encode would become a question mark."""
    assert dump_json("né ✓", stream(b"", "utf-8")) == '"né ✓"'
    escaped = dump_json("né ✓", stream(b"", "cp1252"))
    assert escaped.isascii()
    assert json.loads(escaped) == "né ✓"
