"""Converts the saved KV of one sequence between contexts with different numbers of streams.

For one sequence, llama.cpp writes a magic number and the sequence's id, then for each KV cache of
the model the number of streams and, for each stream, a count of cells and their data
(``llama_kv_cache::state_write``). A context with another number of streams rejects that. Since all
streams but the sequence's own are empty, the bytes for any number of streams follow from those for
one. Recurrent states have no streams and stay unchanged.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

State = npt.NDArray[np.uint8]

_HEAD = 8
_COUNT = 4


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


def _count(number: int) -> State:
    return np.array([number], np.uint32).view(np.uint8)
