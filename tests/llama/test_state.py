"""Saved KV as llama.cpp writes it, made by hand: 2 layers, 3 cells, 2 numbers a key or value."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from localgen import StateError
from localgen.llama.state import State, stretched, to_layout, to_one_stream, to_streams

CELLS = 3


def made(*, transposed: bool, extra: int = 0, kind: int = 1, size: int = 2) -> State:
    """Values of layer i are 100 * i + 10 * cell + number; ``extra`` bytes follow each position."""
    data = struct.pack("<II", 7, 5) + struct.pack("<II", 1, CELLS)
    for cell in range(CELLS):
        data += struct.pack("<iI", cell, 1) + bytes(extra) + struct.pack("<i", 5)
    data += struct.pack("<II", transposed, 2)
    number = {2: "<u2", 4: "<u4"}[size]
    for layer in range(2):
        keys = np.arange(CELLS * 2, dtype=number) + 1000 * layer
        data += struct.pack("<iQ", kind, 2 * size) + keys.tobytes()
    for layer in range(2):
        cells = np.arange(CELLS)[:, None] * 10 + np.arange(2) + 100 * layer
        if transposed:
            head, cells = struct.pack("<iII", kind, size, 2), cells.T
        else:
            head = struct.pack("<iQ", kind, 2 * size)
        data += head + cells.astype(number).tobytes()
    return np.frombuffer(data, np.uint8)


@pytest.mark.parametrize("extra", [0, 12])
@pytest.mark.parametrize(("kind", "size"), [(0, 4), (1, 2), (30, 2)])
@pytest.mark.parametrize("transposed", [True, False])
def test_layouts_of_values(transposed: bool, extra: int, kind: int, size: int) -> None:
    """Protects each value: the bytes are those that the other layout would have been written as."""
    state = made(transposed=transposed, extra=extra, kind=kind, size=size)
    other = made(transposed=not transposed, extra=extra, kind=kind, size=size)
    assert to_layout(state, transposed=not transposed).tolist() == other.tolist()
    assert to_layout(state, transposed=transposed) is state


def test_layout_of_streams() -> None:
    """A state of several streams is that of one with empty ones around it."""
    state = made(transposed=True)
    assert to_one_stream(to_streams(state, 4), 0).tolist() == state.tolist()


def test_empty_state() -> None:
    """A sequence without tokens has no layout."""
    state = np.frombuffer(struct.pack("<IIII", 7, 5, 1, 0), np.uint8)
    assert to_layout(state, transposed=True) is state


def test_stretched() -> None:
    """Cells come again in their order, at positions that follow each other."""
    for transposed in (True, False):
        assert stretched(made(transposed=transposed), CELLS).tolist() == (
            made(transposed=False).tolist()
        )
    longer = stretched(made(transposed=False), 5)
    assert longer[16 : 16 + 5 * 12 : 12].tolist() == [0, 1, 2, 3, 4]
    assert longer[-10 * 2 :].view("<u2").tolist()[6:] == [100, 101, 110, 111]
    assert to_layout(to_layout(longer, transposed=True), transposed=False).tolist() == (
        longer.tolist()
    )


def test_damaged_bytes() -> None:
    """Protects from reading past the end, wherever the bytes end or lie."""
    state = made(transposed=True)
    without_values = len(state) - 2 * (12 + CELLS * 2 * 2)
    for length in range(16, len(state)):
        if length == without_values:
            continue
        with pytest.raises(StateError):
            to_layout(state[:length], transposed=False)
    for place in range(12, len(state)):
        damaged = state.copy()
        damaged[place] ^= 255
        try:
            to_layout(damaged, transposed=False)
        except StateError:
            continue
