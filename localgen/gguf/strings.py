"""Arrays of strings in a file's bytes: where each ends, and whether any repeat, by NumPy.

A string is stored as its length, in eight bytes, and its bytes. A vocabulary and its merges have
some hundred thousand strings: too many to walk one by one at each load. The length of a string of 1
to 255 bytes is one byte and seven zeros, which appear together nowhere else unless a string is
empty or contains NULs. So all places where seven zeros follow a byte are found at once. Where each
leads exactly to the next one, they are the strings; where one does not, strings are walked one by
one.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

LENGTH_BYTES = 8
_LENGTH = struct.Struct("<Q")
_WINDOW_BYTES = 2**18
# Strings to walk after a place that does not lead to the next one; doubled while none does.
_FEWEST_WALKED, _MOST_WALKED = 2**6, 2**14

# Longer strings, which are few in vocabularies, are compared by Python.
_HASHED_WORDS = 8
# Masks for the last word of a string, of which 0 to 8 bytes remain.
_WORD_MASKS = np.array([2 ** (8 * n_bytes) - 1 for n_bytes in range(9)], np.uint64)
_MIX = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)


class Strings:
    """An array of strings, stored as in the file.

    parts: the bytes of consecutive strings, and where each ends in them.
    """

    def __init__(self, parts: list[tuple[bytes, Ints]]) -> None:
        self._data = b"".join(data for data, _ in parts)
        offsets = np.cumsum([0, *(len(data) for data, _ in parts)])
        ends = [part + offset for (_, part), offset in zip(parts, offsets, strict=False)]
        self._ends = np.concatenate([np.zeros(1, np.int64), *ends])
        self._lengths = np.diff(self._ends) - LENGTH_BYTES

    def __len__(self) -> int:
        return len(self._lengths)

    def __getitem__(self, index: int) -> bytes:
        end = int(self._ends[1:][index])
        return self._data[end - int(self._lengths[index]) : end]

    def __iter__(self) -> Iterator[bytes]:
        ends = self._ends.tolist()
        data = self._data
        return (data[start + LENGTH_BYTES : end] for start, end in itertools.pairwise(ends))

    def __eq__(self, other: object) -> bool:
        return self._data == other._data if isinstance(other, Strings) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    @property
    def has_nul(self) -> bool:
        """Whether any string has a NUL: the bytes have more zeros than the lengths do."""
        n_zeros = len(self._data) - np.count_nonzero(np.frombuffer(self._data, np.uint8))
        in_lengths = self._lengths.astype("<u8").view(np.uint8)
        return bool(n_zeros != in_lengths.size - np.count_nonzero(in_lengths))

    @property
    def longest(self) -> int:
        """The length of the longest string, in bytes."""
        return int(self._lengths.max(initial=0))

    def of_lengths(self, *lengths: int) -> set[bytes]:
        """Return the strings that have one of these lengths, in bytes."""
        return {self[index] for index in np.flatnonzero(np.isin(self._lengths, lengths)).tolist()}

    def may_repeat(self) -> bool:
        """Return False if all non-empty strings differ, True if two are equal or seem to be.

        Strings of up to 64 bytes are compared by hashes, which may collide.
        """
        is_long = self._lengths > 8 * _HASHED_WORDS
        long = np.flatnonzero(is_long).tolist()
        if len({self[index] for index in long}) < len(long):
            return True
        hashes = np.sort(self._hashes(np.flatnonzero((self._lengths > 0) & ~is_long)))
        return bool((hashes[1:] == hashes[:-1]).any())

    def _hashes(self, indices: Ints) -> npt.NDArray[np.uint64]:
        """Return the hashes of strings of 1 to 64 bytes: (len(indices),) uint64."""
        padded = self._data + bytes(8)
        # For each byte, the word of eight that starts there.
        words = np.ndarray(len(self._data) + 1, "<u8", padded, strides=(1,))
        at, n_left = self._ends[indices] + LENGTH_BYTES, self._lengths[indices]
        hashes = n_left.astype(np.uint64)
        going = np.arange(len(indices))
        while going.size:
            word = words[at] & _WORD_MASKS[np.minimum(n_left, 8)]
            mixed = (hashes[going] ^ word) * _MIX
            hashes[going] = mixed ^ (mixed >> _HALF)
            more = np.flatnonzero(n_left > 8)
            going, at, n_left = going[more], at[more] + 8, n_left[more] - 8
        return hashes


def string_ends(buffer: bytes, at: int, n_strings: int) -> Ints:
    """Return where consecutive strings in ``buffer`` end, the first one starting at ``at``.

    Returns at most ``n_strings`` ends, of complete strings only. These need not be all of them,
    but at least one is returned if there is one.
    """
    window = np.frombuffer(buffer, np.uint8, min(len(buffer) - at, _WINDOW_BYTES), at)
    places = _Places(window)
    found: list[Ints] = []
    start, n_left, n_to_walk = 0, n_strings, _FEWEST_WALKED
    while n_left and start < window.size:
        chain = places.chain(start)[:n_left]
        if chain.size:
            n_to_walk = _FEWEST_WALKED
        elif not (chain := _walk(buffer, at, start, min(n_left, n_to_walk))).size:
            break
        else:
            n_to_walk = min(2 * n_to_walk, _MOST_WALKED)
        found.append(chain)
        start, n_left = int(chain[-1]), n_left - chain.size
    return np.concatenate([np.empty(0, np.int64), *found]) + at


class _Places:
    """The places in a window that look like the length of a string of up to 255 bytes."""

    def __init__(self, window: npt.NDArray[np.uint8]) -> None:
        one = window == 0
        two = one[:-1] & one[1:]
        four = two[:-2] & two[2:]
        seven = four[:-3] & four[3:]
        self._places = np.flatnonzero(seven[1:])
        before = self._places[:-1]
        leads_on = self._places[1:] == before + LENGTH_BYTES + window[before]
        self._last = np.append(np.flatnonzero(~leads_on), before.size)

    def chain(self, start: int) -> Ints:
        """Return the places that follow from ``start``, each leading to the next; maybe none."""
        first = int(np.searchsorted(self._places, start))
        if first == self._places.size or self._places[first] != start:
            return self._places[:0]
        last = int(self._last[np.searchsorted(self._last, first)])
        return self._places[first + 1 : last + 1]


def _walk(buffer: bytes, at: int, start: int, n_strings: int) -> Ints:
    """Return where strings end, relative to ``at``; the first one starts at ``at + start``."""
    ends: list[int] = []
    end, last = at + start, len(buffer) - LENGTH_BYTES
    while len(ends) < n_strings and end <= last:
        end += LENGTH_BYTES + _LENGTH.unpack_from(buffer, end)[0]
        if end > len(buffer):
            break
        ends.append(end - at)
    return np.array(ends, np.int64)
