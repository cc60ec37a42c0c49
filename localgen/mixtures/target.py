"""What a mixture is to reach: a size or a loss."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from localgen._util.checks import check_float
from localgen._util.format import as_size

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
# Nats. More than any mixture loses.
_MOST_KLD = 1e6


@dataclass(frozen=True, slots=True)
class Target:
    """Either is None. n_bytes: of the file, at most. kld: mean KL divergence in nats, at most.

    option: as the user wrote it.
    """

    option: str
    n_bytes: int | None = None
    kld: float | None = None

    @property
    def label(self) -> str:
        """What takes the place of a level in the file's name: 2.50GB, KLD0.05."""
        return as_size(self.n_bytes).replace(" ", "") if self.n_bytes else f"KLD{self.kld:g}"


def target_of(size: int | str | None, kld: float | None) -> Target:
    """Return the target. Raises ValueError for a wrong value, or for both or none."""
    if (size is None) == (kld is None):
        raise ValueError("give either target_size or target_kld, not both")
    if size is not None:
        return Target("target_size=" + "".join(str(size).split()), n_bytes=_bytes(size))
    loss = check_float(
        "target_kld", kld, "greater than 0 and at most 1000000", math.ulp(0.0), _MOST_KLD
    )
    return Target(f"target_kld={loss:g}", kld=loss)


def _bytes(size: int | str) -> int:
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*", str(size), re.IGNORECASE)
    if match is None or isinstance(size, bool):
        raise ValueError(
            f"target_size={size!r} is not a size. Write 2.5GB, 800MB, 3.5GiB or a number of bytes."
        )
    unit = match[2].upper()
    scale = 2 ** (10 * list(_UNITS).index(unit)) if match[3] else _UNITS[unit]
    n_bytes = int(float(match[1]) * scale)
    if not n_bytes:
        raise ValueError(f"target_size must be greater than 0, got {size!r}")
    return n_bytes
