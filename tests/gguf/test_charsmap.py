"""The check of a T5 vocabulary's character map, on maps of a few entries; llama.cpp reads such maps
in hostile/test_vocabularies.py."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localgen import InvalidGGUFError
from localgen.gguf.charsmap import CHARSMAP, check_charsmap
from localgen.gguf.reader import GGUF, Array
from localgen.gguf.strings import Strings

H = 0x68  # the byte "h", to which the root leads at the same index
TEXT = 1 << 8  # a replacement ends there


def file_with(charsmap: Any) -> GGUF:
    return GGUF(Path("a.gguf"), 1, 3, 32, {CHARSMAP: charsmap}, {}, (), 0, Strings([]))


def blob(entries: dict[int, int], texts: bytes = b"a\0b\0", n_entries: int = 256) -> Array:
    array = struct.pack(f"<{n_entries}I", *[entries.get(i, 0) for i in range(n_entries)])
    data = struct.pack("<I", len(array)) + array + texts
    return Array("u8", len(data), np.frombuffer(data, np.uint8))


@pytest.mark.parametrize(
    "entries",
    [
        {},
        {H: H | TEXT | (H ^ 1) << 10, 1: 1 << 31},  # "h" becomes the text at 0
        {H: H | TEXT | (H ^ 1) << 10, 1: 1 << 31 | 2},  # the text at 2
        {H: H | H << 10},  # "h" leads back to the root, for ever
    ],
)
def test_safe_map(entries: dict[int, int]) -> None:
    """Each text can be looked up."""
    check_charsmap(file_with(blob(entries)))


@pytest.mark.parametrize(
    ("entries", "n_entries"),
    [
        ({H: H | TEXT | (H ^ 1) << 10, 1: 1 << 31 | 4}, 256),  # its text starts after the last
        ({H: H | TEXT | 999 << 10}, 256),  # the place of its text is outside
        ({H: H | 999 << 10}, 256),  # it leads outside
        ({0: 999 << 10}, 256),  # the root does
        ({}, 200),  # some byte does
    ],
)
def test_map_that_leads_out(entries: dict[int, int], n_entries: int) -> None:
    """llama.cpp would read outside the map."""
    with pytest.raises(InvalidGGUFError, match="leads out of its array or its texts"):
        check_charsmap(file_with(blob(entries, n_entries=n_entries)))


@pytest.mark.parametrize(
    ("charsmap", "reason"),
    [
        ("text", "must be a list of bytes"),
        (Array("u32", 1, np.ones(1, np.uint32)), "must be a list of bytes"),
        (Array("u8", 2**22), "of at most 2 MiB"),
        (Array("u8", 2, np.zeros(2, np.uint8)), "has 2 bytes, too few for its array of 0"),
        (blob({}, texts=b""), "has 1028 bytes, too few for its array of 1024"),
    ],
)
def test_no_map(charsmap: Any, reason: str) -> None:
    """What is too short, or no list of bytes, is refused."""
    with pytest.raises(InvalidGGUFError, match=reason):
        check_charsmap(file_with(charsmap))
