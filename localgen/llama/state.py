"""The bytes of one sequence's KV, as llama.cpp writes them, made independent of its context.

llama.cpp writes, for one sequence, a magic number and the sequence's id, and then for each KV cache
of the model the number of its streams and, stream by stream, a count of cells and their data
(``llama_kv_cache::state_write``). A context with another number of streams refuses that. Since all
streams but the sequence's own are empty, the bytes for any number of streams can be made from those
for one. Recurrent states have no streams, and are left as they are.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

State = npt.NDArray[np.uint8]

_HEAD = 8
_COUNT = 4


def to_one_stream(state: State, stream: int) -> State:
    """What a context with one stream would have written, from what one wrote for its ``stream``."""
    n_streams = int(state[_HEAD : _HEAD + _COUNT].view(np.uint32)[0])
    first = _HEAD + _COUNT + _COUNT * stream
    last = len(state) - _COUNT * (n_streams - stream - 1)
    return np.concatenate([state[:_HEAD], _count(1), state[first:last]])


def to_streams(state: State, n_streams: int) -> State:
    """What a context of ``n_streams`` would have written, from what ``to_one_stream`` gave."""
    rest = state[_HEAD + _COUNT :]
    empty = np.zeros(_COUNT * (n_streams - 1), np.uint8)
    return np.concatenate([state[:_HEAD], _count(n_streams), rest, empty])


def _count(number: int) -> State:
    return np.array([number], np.uint32).view(np.uint8)
