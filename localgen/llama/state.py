"""Converts the saved KV of one sequence between contexts: another number of streams, other values.

For one sequence, llama.cpp writes a magic number and the sequence's id, then for each KV cache of
the model the number of streams and, for each stream, a count of cells and their data
(``llama_kv_cache::state_write``). A context with another number of streams rejects that. Since all
streams but the sequence's own are empty, the bytes for any number of streams follow from those for
one. Recurrent states have no streams and stay unchanged.

The data of a stream are, for each cell, its position and sequence; whether values are transposed,
and the number of layers; each layer's keys, a row for each cell; each layer's values. Without flash
attention values are transposed, a row for each of their numbers, and a context with the other
layout rejects them. Both take the same number of bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from localgen.errors import StateError

State = npt.NDArray[np.uint8]

_HEAD = 8
_COUNT = 4
_CELLS = _HEAD + 2 * _COUNT  # where the cells of one stream begin
# A cell's position, number of sequences and sequence; some models add two positions and a token.
_CELL_SIZES = (12, 24)
# Before a layer's keys, and its values: their type, and its two numbers or the one of 8 bytes.
_LAYER_HEAD = 12
_NUMBER_SIZES = {0: 4, 1: 2, 30: 2}  # of GGML's F32, F16 and BF16


def to_one_stream(state: State, stream: int) -> State:
    """Return what a context with one stream would have written for ``stream`` of ``state``."""
    n_streams = int(state[_HEAD : _HEAD + _COUNT].view(np.uint32)[0])
    first = _HEAD + _COUNT + _COUNT * stream
    last = len(state) - _COUNT * (n_streams - stream - 1)
    return np.concatenate([state[:_HEAD], _count(1), state[first:last]])


def to_streams(state: State, n_streams: int) -> State:
    """Return what a context of ``n_streams`` would have written; inverts ``to_one_stream``."""
    rest = state[_HEAD + _COUNT :]
    empty = np.zeros(_COUNT * (n_streams - 1), np.uint8)
    return np.concatenate([state[:_HEAD], _count(n_streams), rest, empty])


def to_layout(state: State, *, transposed: bool) -> State:
    """Return a ``state`` of one stream as a context with that layout of values would have written
    it. Raises StateError if it cannot be understood."""
    if not _number(state, _CELLS - _COUNT):
        return state
    found = _parse(state)
    if found.transposed == transposed:
        return state
    changed: State = state.copy()
    changed[found.flag : found.flag + _COUNT] = _count(int(transposed))
    for start, n_numbers, size in found.values:
        head = (size, n_numbers) if transposed else (size * n_numbers, 0)
        data = start + _LAYER_HEAD
        changed[start + _COUNT : data] = np.array(head, np.uint32).view(np.uint8)
        end = data + found.n_cells * n_numbers * size
        rows = n_numbers if found.transposed else found.n_cells
        numbers = state[data:end].view(np.dtype(f"u{size}")).reshape(rows, -1)
        changed[data:end] = np.ascontiguousarray(numbers.T).reshape(-1).view(np.uint8)
    return changed


def stretched(state: State, n_tokens: int) -> State:
    """Return a ``state`` of one stream with ``n_tokens`` cells, those of the state again and again:
    as large as one that was computed, and meaningless. Its values are not transposed."""
    state = to_layout(state, transposed=False)
    found = _parse(state)
    cells = state[_CELLS : found.flag].reshape(found.n_cells, -1)
    cells = np.resize(cells, (n_tokens, cells.shape[1]))
    cells[:, :4] = np.arange(n_tokens, dtype=np.int32).reshape(-1, 1).view(np.uint8)
    parts: list[State] = [state[: _CELLS - _COUNT], _count(n_tokens), cells.reshape(-1)]
    parts.append(state[found.flag : found.flag + 2 * _COUNT])
    for start, row in (*found.keys, *((start, n * size) for start, n, size in found.values)):
        data = start + _LAYER_HEAD
        rows = state[data : data + found.n_cells * row].reshape(found.n_cells, row)
        parts += [state[start:data], np.resize(rows, (n_tokens, row)).reshape(-1)]
    made: State = np.concatenate(parts)
    return made


@dataclass(frozen=True, slots=True)
class _Parsed:
    """Where things are in a state of one stream.

    flag: says whether values are ``transposed``. keys: (start, bytes of a row) of each layer.
    values: (start, numbers of a row, bytes of one) of each layer.
    """

    n_cells: int
    flag: int
    transposed: bool
    keys: list[tuple[int, int]]
    values: list[tuple[int, int, int]]


def _parse(state: State) -> _Parsed:
    """Read a state of one stream, which has cells. Raises StateError."""
    for cell_size in _CELL_SIZES:
        try:
            return _parse_with(state, cell_size)
        except (StateError, ValueError, IndexError, KeyError):
            continue
    raise StateError("llama.cpp's bytes of a sequence are not laid out as expected")


def _parse_with(state: State, cell_size: int) -> _Parsed:
    n_cells = _number(state, _CELLS - _COUNT)
    flag = _CELLS + n_cells * cell_size
    transposed, n_layers = _number(state, flag), _number(state, flag + _COUNT)
    if transposed not in (0, 1) or n_layers > len(state) // _LAYER_HEAD:
        raise StateError
    at = flag + 2 * _COUNT
    keys, values = [], []
    for _ in range(n_layers):
        row = _number(state, at + 4)
        keys.append((at, row))
        at += _LAYER_HEAD + n_cells * row
    while at < len(state):
        size = _NUMBER_SIZES[_number(state, at)]
        n_numbers = _number(state, at + 8) if transposed else _number(state, at + 4) // size
        values.append((at, n_numbers, size))
        at += _LAYER_HEAD + n_cells * n_numbers * size
    # Some models compute values from their keys, and have none.
    if at != len(state) or len(values) not in (0, n_layers):
        raise StateError
    return _Parsed(n_cells, flag, bool(transposed), keys, values)


def _number(state: State, at: int) -> int:
    return int(state[at : at + _COUNT].copy().view(np.uint32)[0])


def _count(number: int) -> State:
    return np.array([number], np.uint32).view(np.uint8)
