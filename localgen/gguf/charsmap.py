"""Refuses a T5 vocabulary's character map that would lead llama.cpp out of bounds.

The map says what SentencePiece replaces before it tokenizes. It holds the size of an array in
bytes, the array, and texts that end with NUL. The array is a tree (an XOR-compressed double array,
Kanda 2018): a node is a number, and byte c leads from it to the entry at number XOR c, if that
entry has the label c. An entry leads to the next node, again by XOR. Where a replacement ends, the
node's own entry is the place of its text.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from localgen.gguf.reader import GGUF, Array
from localgen.gguf.refusal import refuse

CHARSMAP = "tokenizer.ggml.precompiled_charsmap"
_SIZE_BYTES = 4
_BYTES = np.arange(1, 256, dtype=np.uint32)
_LABEL = np.uint32(1 << 31 | 0xFF)
_HAS_TEXT = np.uint32(1 << 8)
_VALUE = np.uint32((1 << 31) - 1)
# The longest text that may be replaced; SentencePiece's own maps have about ten bytes.
_MAX_BYTES = 256
# Nodes that are checked together: 255 entries each.
_NODES = 2**12

Entries = npt.NDArray[np.uint32]


def check_charsmap(file: GGUF) -> None:
    """Raise InvalidGGUFError if some text could not be looked up in the map; it is optional."""
    found = file.metadata.get(CHARSMAP)
    if found is None:
        return
    if not isinstance(found, Array) or found.type not in ("i8", "u8") or found.values is None:
        refuse(file, f"{CHARSMAP} must be a list of bytes, of at most 2 MiB")
    data = found.values.tobytes()
    n_bytes = int.from_bytes(data[:_SIZE_BYTES], "little")
    texts = data[_SIZE_BYTES + n_bytes :]
    if len(data) < _SIZE_BYTES or not texts:
        refuse(file, f"{CHARSMAP} has {len(data)} bytes, too few for its array of {n_bytes}")
    array = np.frombuffer(data, "<u4", n_bytes // _SIZE_BYTES, _SIZE_BYTES)
    if array.size and not _is_safe(array, texts.rfind(b"\0")):
        refuse(
            file,
            f"{CHARSMAP} leads out of its array or its texts; llama.cpp would abort at some texts. "
            f"Convert the model again",
        )


def _is_safe(array: Entries, last: int) -> bool:
    """Return whether each reachable node is in the array, and each text starts by ``last``."""
    seen = np.zeros(array.size, np.bool_)
    nodes = _offsets(array[:1])
    for _ in range(_MAX_BYTES):
        if not nodes.size:
            return True
        if nodes.max() >= array.size:
            return False
        nodes = nodes[~seen[nodes]]
        seen[nodes] = True
        found = [_next_nodes(array, part, last) for part in _parts(nodes)]
        known = [each for each in found if each is not None]
        if len(known) < len(found):
            return False
        nodes = np.unique(np.concatenate([nodes[:0], *known]))
    return False


def _next_nodes(array: Entries, nodes: Entries, last: int) -> Entries | None:
    """Return where all bytes lead from ``nodes``; None if out of the array or the texts."""
    at = nodes[:, None] ^ _BYTES
    if at.max() >= array.size:
        return None
    entries = array[at]
    is_next = entries & _LABEL == _BYTES
    at, entries = at[is_next], entries[is_next]
    found: Entries = at ^ _offsets(entries)
    with_text = found[entries & _HAS_TEXT != 0]
    if (with_text >= array.size).any() or (array[with_text] & _VALUE > last).any():
        return None
    return found


def _offsets(entries: Entries) -> Entries:
    moved: Any = (entries >> np.uint32(10)) << ((entries & np.uint32(1 << 9)) >> np.uint32(6))
    return np.asarray(moved, np.uint32)


def _parts(nodes: Entries) -> list[Entries]:
    return [nodes[start : start + _NODES] for start in range(0, nodes.size, _NODES)]
