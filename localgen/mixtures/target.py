"""What a mixture is to reach: a size or a loss."""

from __future__ import annotations

import math
from dataclasses import dataclass

from localgen._util.amounts import n_bytes_of
from localgen._util.checks import check_float
from localgen._util.format import as_size

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
        return Target(
            "target_size=" + "".join(str(size).split()), n_bytes=n_bytes_of("target_size", size)
        )
    loss = check_float(
        "target_kld", kld, "greater than 0 and at most 1000000", math.ulp(0.0), _MOST_KLD
    )
    return Target(f"target_kld={loss:g}", kld=loss)
