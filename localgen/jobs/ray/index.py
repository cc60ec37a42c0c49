"""Which rows of a job have records, in 8 bytes a row: ten million fit into 80 MB."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

# (file of the input, line)
Place = tuple[int, int]

_PAGE_ROWS = 4096
_UNKNOWN, _FAILED = 0, 1


def short_hash(line_hash: str) -> int:
    """Return 64 bits of a line's hash, of which two values mean something else."""
    return max(int(line_hash[:16], 16), _FAILED + 1)


@dataclass(slots=True)
class Index:
    """The state of each row, by file and line: unknown, failed, or done, with its line's hash.

    Lines of a file are numbered nearly without gaps, so their states are pages of an array. Ray
    shares these between the processes of a node.
    """

    n_done: int = 0
    n_failed: int = 0
    _pages: dict[Place, npt.NDArray[np.uint64]] = field(default_factory=dict)

    def set_done(self, place: Place, line_hash: str) -> bool:
        """Note a result; return whether it is the row's first."""
        state = self._state(place)
        if state > _FAILED:
            return False
        self._set(place, short_hash(line_hash))
        self.n_done += 1
        self.n_failed -= state == _FAILED
        return True

    def set_failed(self, place: Place) -> bool:
        """Note an error; return whether nothing was known of the row."""
        if self._state(place) != _UNKNOWN:
            return False
        self._set(place, _FAILED)
        self.n_failed += 1
        return True

    def hash_of(self, place: Place) -> int | None:
        """Return the hash of a row's line, if it is done."""
        state = self._state(place)
        return state if state > _FAILED else None

    def n_done_of(self, file: int) -> int:
        """Return how many rows of a file are done."""
        pages = (states for (number, _), states in self._pages.items() if number == file)
        return sum(int((states > _FAILED).sum()) for states in pages)

    def is_failed(self, place: Place) -> bool:
        """Return whether a row has errors only."""
        return self._state(place) == _FAILED

    def _state(self, place: Place) -> int:
        page, row = divmod(place[1], _PAGE_ROWS)
        states = self._pages.get((place[0], page))
        return _UNKNOWN if states is None else int(states[row])

    def _set(self, place: Place, state: int) -> None:
        page, row = divmod(place[1], _PAGE_ROWS)
        key = place[0], page
        if key not in self._pages:
            self._pages[key] = np.zeros(_PAGE_ROWS, np.uint64)
        self._pages[key][row] = state
