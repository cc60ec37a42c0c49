"""Adds up what counters of energy say; where they are, the platform knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from localgen.errors import BackendError


@dataclass(frozen=True, slots=True)
class Counter:
    """A file with the microjoules used so far, which restart at 0 after ``most``."""

    name: str
    file: Path
    most: int

    def read(self) -> int:
        """Return the microjoules. Raises BackendError if this user may not read them."""
        try:
            return int(self.file.read_text("ascii"))
        except PermissionError:
            raise BackendError(
                f"energy cannot be measured: only root may read {self.file}. Run as root, or let "
                f"this user read it."
            ) from None
        except (OSError, ValueError) as error:
            raise BackendError(f"energy cannot be measured: {self.file}: {error}") from None


class EnergyMeter:
    """Counts the joules of the whole machine's processors, whichever program uses them.

    A counter must be read before it restarts twice, which takes minutes.
    """

    def __init__(self, counters: Sequence[Counter]) -> None:
        """Raises BackendError if a counter cannot be read."""
        self._counters = tuple(counters)
        self._last = [each.read() for each in self._counters]
        self._microjoules = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the counters, as "package-0"."""
        return tuple(each.name for each in self._counters)

    def joules(self) -> float:
        """Return the joules used since the meter was made."""
        now = [each.read() for each in self._counters]
        for counter, before, after in zip(self._counters, self._last, now, strict=True):
            self._microjoules += after - before + (counter.most if after < before else 0)
        self._last = now
        return self._microjoules / 1e6
