"""JSON from outside: what Python's own reader accepts and arithmetic does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from localgen._util.json_text import has_json, read_json


def test_numbers_of_64_bits_are_kept() -> None:
    assert read_json(f'[{2**63 - 1}, {-(2**63)}, 1.5, "x", null]') == [
        2**63 - 1, -(2**63), 1.5, "x", None,
    ]  # fmt: skip
    assert read_json(b'{"a": 1}') == {"a": 1}


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (str(2**63), "9223372036854775808"),
        (str(-(2**63) - 1), "-9223372036854775809"),
        ("9" * 400, "99999999999999999999…"),
        ("9" * 5000, "99999999999999999999…"),  # int() raises an error about Python's settings
    ],
)
def test_larger_ones_are_refused_wherever_they_stand(number: str, shown: str) -> None:
    """10**400 * 1.0 raises OverflowError, which is no ValueError."""
    with pytest.raises(ValueError, match=f"^the number {shown} is too large$"):
        read_json(f'{{"a": [{{"b": {number}}}]}}')


def test_what_is_no_json_or_too_deep_is_a_value_error() -> None:
    for text in ("", "{", "[" * 10**6):
        with pytest.raises(ValueError, match=r"Expecting|nested"):
            read_json(text)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"a": 1, "b": []}', True),
        (b'\xef\xbb\xbf {"a": 1, "b": 2, "c": 3}', True),
        (b'{"a": 1}', False),
        (b'[{"a": 1, "b": 2}]', False),
        (b'{"a": 1, "b": ', False),
        (b"GGUF" + bytes(200), False),
        (b"", False),
    ],
)
def test_a_file_has_an_object_with_some_keys(
    content: bytes, expected: bool, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(content)
    assert has_json(tmp_path / "file", {"a", "b"}) is expected
    assert not has_json(tmp_path, {"a"})
    assert not has_json(tmp_path / "none", {"a"})
