"""NumPy arrays and torch tensors, without importing torch."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import numpy.typing as npt


def is_torch(value: object) -> bool:
    """Return whether ``value`` is a torch tensor."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def plain(value: Any) -> Any:
    """Return the number that an array or tensor without dimensions holds, and anything else
    unchanged."""
    is_number = getattr(value, "ndim", None) == 0 and callable(getattr(value, "item", None))
    return value.item() if is_number else value


def to_numpy(value: Any) -> Any:
    """Return a torch tensor as a NumPy array, and anything else unchanged."""
    return value.detach().cpu().numpy() if is_torch(value) else value


def to_torch(array: npt.NDArray[Any]) -> Any:
    """Return ``array`` as a torch tensor on the CPU; torch must be imported already."""
    return sys.modules["torch"].from_numpy(np.ascontiguousarray(array))


def torch_seed() -> int:
    """Return a number below 2**63 from torch's global generator; torch must be imported already."""
    return int(sys.modules["torch"].randint(2**63 - 1, ()))


def check_ids(ids: npt.NDArray[Any], n_vocab: int, what: str) -> None:
    """Raise ValueError unless every token id is in [0, n_vocab)."""
    bad = ids[(ids < 0) | (ids >= n_vocab)]
    if len(bad):
        raise ValueError(f"{what}: token id {bad[0]} is outside the vocabulary, 0 to {n_vocab - 1}")
