"""Keeps measured losses in a JSON file, so that another target or run need not measure again."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from localgen._util.atomic_write import atomic_write_bytes, check_writable
from localgen._util.json_text import read_json
from localgen._util.text_file import read_text
from localgen.errors import QuantizeError
from localgen.mixtures.losses import Mixture

_FORMAT = "localgen losses 1"


class LossFile:
    """The losses of one model's mixtures, measured in one way. path: None keeps them in memory.

    origin: what must be the same for losses to be reused.
    """

    def __init__(self, path: Path | None, origin: Mapping[str, Any]) -> None:
        """Read the file if there is one.

        Raises QuantizeError for a file of another origin, and OSError if it cannot be written.
        """
        self._path = path
        self._origin = dict(origin)
        self.losses: dict[Mixture, float] = {}
        if path is not None and path.exists():
            self.losses = _read(path, self._origin)
        if path is not None:
            check_writable(path)

    def __contains__(self, mixture: Mixture) -> bool:
        return mixture in self.losses

    def add(self, mixture: Mixture, loss: float) -> None:
        """Add a loss, and write the file."""
        self.losses[mixture] = loss
        if self._path is None:
            return
        content = {
            "format": _FORMAT,
            **self._origin,
            "losses": [[list(types), value] for types, value in self.losses.items()],
        }
        atomic_write_bytes(self._path, json.dumps(content, indent=1).encode())


def _read(path: Path, origin: Mapping[str, Any]) -> dict[Mixture, float]:
    try:
        found = read_json(read_text(path))
        if found["format"] != _FORMAT:
            raise ValueError(found["format"])
        losses = {_mixture(types): float(value) for types, value in found["losses"]}
        if not all(map(math.isfinite, losses.values())):
            raise ValueError("a loss is not finite")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise QuantizeError(
            f"{path} is not a file of measured losses. Name another file, which will be written."
        ) from error
    changed = [name for name, value in origin.items() if found.get(name) != value]
    if changed:
        raise QuantizeError(
            f"{path} cannot be used: its losses were measured with a different "
            f"{', '.join(changed)}. Use the same, or name another file."
        )
    if any(not _fits(mixture, origin["groups"]) for mixture in losses):
        raise QuantizeError(f"{path} is damaged: it has losses of types that no group can have")
    return losses


def _mixture(types: object) -> Mixture:
    if not isinstance(types, list):
        raise TypeError(f"the types of a mixture must be a list, got {types!r:.40}")
    return tuple(types)


def _fits(mixture: Mixture, groups: Sequence[tuple[str, Sequence[str]]]) -> bool:
    """Return whether each group has a type of its ladder, or the source's."""
    return len(mixture) == len(groups) and all(
        kind is None or kind in ladder for kind, (_, ladder) in zip(mixture, groups, strict=True)
    )
