"""The result of a comparison, and its JSON; it measures nothing."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from localgen._util.atomic_write import atomic_write_bytes
from localgen._util.json_text import read_json
from localgen._util.text_file import read_text
from localgen._util.typed_fields import check_fields
from localgen.benchmark.measuring import Spread
from localgen.compare.figures import check_figures
from localgen.compare.level_result import (
    ChatAgreement,
    Divergence,
    LevelResult,
    SpeedAtDepth,
    TaskResult,
)
from localgen.compare.metrics import KLD_PROBABILITIES
from localgen.compare.recommend import Recommendation, recommend
from localgen.compare.task_metrics import PairedDifference
from localgen.errors import CompareError

SCHEMA = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The results of all levels, and what it takes to reproduce them.

    noise: the reference against itself with fewer threads and smaller batches; differences up to
    this size mean nothing. settings: the command, versions, CPU and text; in a merged comparison a
    dict of these for each machine, under "#1", "#2" and so on.
    """

    source: str
    settings: dict[str, Any]
    levels: tuple[LevelResult, ...] = ()
    noise: LevelResult | None = None
    notes: tuple[str, ...] = field(default=())

    def __getitem__(self, label: str) -> LevelResult:
        """Return the level with this label, "NAME" or "NAME kv TYPE", or raise KeyError."""
        found = {level.label: level for level in self.levels}
        if label not in found:
            raise KeyError(f"{label!r} was not compared; the levels are {', '.join(found)}")
        return found[label]

    def recommend(
        self, memory: int | str | None = None, max_kld: float | None = None
    ) -> Recommendation:
        """Return the level to keep within ``memory`` (bytes, or "4GB") and ``max_kld``.

        See ``recommend.recommend``.
        """
        return recommend(self.levels, memory=memory, max_kld=max_kld)

    def to_json(self) -> str:
        return json.dumps({"schema": SCHEMA, **dataclasses.asdict(self)}, indent=1)

    def save(self, path: Path) -> None:
        """Write the JSON to ``path``, atomically."""
        atomic_write_bytes(path, self.to_json().encode())

    @classmethod
    def load(cls, path: Path) -> Comparison:
        """Return the comparison that ``save`` wrote. Raises CompareError for any other file."""
        try:
            return cls.from_json(read_text(path))
        except (ValueError, TypeError, KeyError) as error:
            raise CompareError(f"{path} is not a comparison, or is corrupt: {error}") from error
        except CompareError as error:
            raise CompareError(f"{path}: {error}") from error

    @classmethod
    def from_json(cls, text: str) -> Comparison:
        data = read_json(text)
        if not isinstance(data, dict):
            raise TypeError(f"it must be an object, got {text!r:.40}")
        schema = data.pop("schema", None)
        if schema != SCHEMA:
            raise CompareError(
                f"its schema is {schema!r}, and this version of localgen reads {SCHEMA}. Use the "
                f"version that wrote it."
            )
        data["levels"] = tuple(_level(level) for level in data["levels"])
        data["noise"] = _level(data["noise"]) if data["noise"] else None
        data["notes"] = tuple(data["notes"])
        found = cls(**data)
        check_fields(found)
        for level in (*found.levels, *([found.noise] if found.noise else [])):
            check_figures(level)
        return found

    @classmethod
    def merged(cls, parts: Iterable[Comparison]) -> Comparison:
        """Return several machines' comparisons as one; names get the machine's number."""
        parts = list(parts)
        levels = tuple(
            dataclasses.replace(level, name=f"{level.name} #{number}")
            for number, part in enumerate(parts, 1)
            for level in part.levels
        )
        settings = {
            f"#{number}": {"source": part.source, **part.settings}
            for number, part in enumerate(parts, 1)
        }
        return cls(
            source=", ".join(dict.fromkeys(part.source for part in parts)),
            settings=settings,
            levels=levels,
            notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
        )


_SPREADS = (
    *("load_seconds", "cold_load_seconds", "prefill_tps", "decode_tps", "ttft_seconds"),
    *("prefill_joules", "decode_joules"),
)


def _level(data: dict[str, Any]) -> LevelResult:
    if not isinstance(data, dict):
        raise TypeError(f"a level must be an object, got {data!r:.40}")
    data = _with_spreads(data, _SPREADS)
    data["at_depths"] = tuple(_at_depth(each) for each in data.get("at_depths", ()))
    data["divergences"] = _divergences(data.get("divergences", ()))
    if data.get("chats") is not None:
        replies = _divergences(data["chats"]["replies"])
        data["chats"] = ChatAgreement(**{**data["chats"], "replies": replies})
    data["tasks"] = tuple(_task(each) for each in data.get("tasks", ()))
    data["kld_quantiles"] = tuple(data.get("kld_quantiles", ()))
    if len(data["kld_quantiles"]) not in (0, len(KLD_PROBABILITIES)):
        raise CompareError(
            f"{data.get('name')} has {len(data['kld_quantiles'])} quantiles of the KLD, and "
            f"schema {SCHEMA} has {len(KLD_PROBABILITIES)}: the file is corrupt"
        )
    _add_derived(data)
    return LevelResult(**data)


def _divergences(data: Iterable[dict[str, Any]]) -> tuple[Divergence, ...]:
    return tuple(Divergence(**each) for each in data)


def _with_spreads(data: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    data = dict(data)
    for name in names:
        if data.get(name) is not None:
            data[name] = Spread(**data[name])
    return data


def _at_depth(data: dict[str, Any]) -> SpeedAtDepth:
    return SpeedAtDepth(**_with_spreads(data, ("prefill_tps", "decode_tps")))


def _add_derived(data: dict[str, Any]) -> None:
    """Add the figures that older files have only in another form."""
    at = dict(zip(KLD_PROBABILITIES, data["kld_quantiles"], strict=False))
    data.setdefault("kld_p999", at.get(0.999))
    agreement = data.get("top1_agreement")
    data.setdefault("flips", None if agreement is None else 1 - agreement)


def _task(data: dict[str, Any]) -> TaskResult:
    data = {**data, **{name: tuple(data.get(name, ())) for name in ("answers", "right", "ids")}}
    if data["difference"] is not None:
        data["difference"] = PairedDifference(**data["difference"])
    return TaskResult(**data)
