"""Reads how much each group of a model's tensors loses alone, from what ``quantize --losses`` kept.

A heat map has a row for each kind of tensor and a column for each third of the layers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localgen._util.json_text import read_json
from localgen._util.text_file import read_text
from localgen.errors import CompareError

FORMAT = "localgen losses 1"
# Of tensors in the layers; others, such as the embeddings, stand in a column of their own.
_DEPTHS = ("early", "middle", "late")
_NO_DEPTH = "no layer"


@dataclass(frozen=True, slots=True)
class HeatCell:
    """The loss of one group that alone is stored as ``type``: mean KLD from the source, in nats.

    share: where it is between the smallest (0) and the largest (1) of all, by its logarithm.
    """

    type: str
    loss: float
    share: float


@dataclass(frozen=True, slots=True)
class HeatMap:
    """The losses of all groups. rows: {kind of tensor: a cell for each column, None without one}.

    name: of the file. types: those that groups were measured at. most: the group that loses most.
    """

    name: str
    columns: tuple[str, ...]
    rows: Mapping[str, tuple[HeatCell | None, ...]]
    types: tuple[str, ...]
    most: str


def is_loss_file(path: Path) -> bool:
    """Return whether a file says that it holds losses; it may still be corrupt."""
    try:
        found = read_json(read_text(path))
    except (ValueError, OSError):
        return False
    return isinstance(found, dict) and found.get("format") == FORMAT


def load_heat_map(path: Path) -> HeatMap:
    """Return the heat map of a loss file. Raises CompareError for any other file."""
    try:
        data = read_json(read_text(path))
        if data["format"] != FORMAT:
            raise ValueError(f"its format is {data['format']!r}")
        names = [str(name) for name, _ in data["groups"]]
        alone = dict(_alone(names, types, float(loss)) for types, loss in _singles(data))
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise CompareError(f"{path} is not a file of losses, or is corrupt: {error}") from error
    if not alone:
        raise CompareError(f"{path} has no loss of a single group yet; finish the search first")
    return _heat_map(path.name, alone)


def _singles(data: Mapping[str, Any]) -> list[tuple[list[str | None], float]]:
    """Return the mixtures in which one group alone has another type, with their losses."""
    return [(types, loss) for types, loss in data["losses"] if sum(map(bool, types)) == 1]


def _alone(
    names: Sequence[str], types: Sequence[str | None], loss: float
) -> tuple[str, tuple[str, float]]:
    if len(types) != len(names) or not math.isfinite(loss):
        raise ValueError(f"a mixture of {len(types)} types with a loss of {loss}")
    ((name, kind),) = [(name, kind) for name, kind in zip(names, types, strict=True) if kind]
    return name, (str(kind), loss)


def _heat_map(name: str, alone: Mapping[str, tuple[str, float]]) -> HeatMap:
    places = {group: _place(group) for group in alone}
    columns = [each for each in (*_DEPTHS, _NO_DEPTH) if each in {at for _, at in places.values()}]
    losses = [loss for _, loss in alone.values()]
    cells = {
        places[group]: HeatCell(kind, loss, _share(loss, losses))
        for group, (kind, loss) in alone.items()
    }
    rows = dict.fromkeys(row for row, _ in places.values())
    return HeatMap(
        name,
        tuple(columns),
        {row: tuple(cells.get((row, column)) for column in columns) for row in rows},
        tuple(dict.fromkeys(kind for kind, _ in alone.values())),
        max(alone, key=lambda group: alone[group][1]),
    )


def _place(group: str) -> tuple[str, str]:
    """Return the row and the column of a group: "attn_v.early (Q2_K)" is an "attn_v (Q2_K)"."""
    name, space, rest = group.partition(" ")
    kind, _, depth = name.rpartition(".")
    return (f"{kind}{space}{rest}", depth) if depth in _DEPTHS else (group, _NO_DEPTH)


def _share(loss: float, losses: Sequence[float]) -> float:
    positive = [each for each in losses if each > 0]
    if loss <= 0:
        return 0.0
    low, high = math.log(min(positive)), math.log(max(positive))
    return 1.0 if low == high else (math.log(loss) - low) / (high - low)
