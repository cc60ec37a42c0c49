"""Joins the comparisons of several machines, and takes them apart again; it measures nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from localgen.compare.level_result import LevelResult
from localgen.compare.results import Comparison

# Settings that figures of quality depend on, and what they are called in a note.
_OF_QUALITY = {"text_sha256": "text", "n_ctx": "n_ctx", "n_chunks": "n_chunks"}


def by_machine(result: Comparison) -> dict[str, Comparison]:
    """Return each machine's own comparison by its number, "" if it is the only one."""
    if not is_merged(result.settings):
        return {"": result}
    levels: dict[str, list[LevelResult]] = {number: [] for number in result.settings}
    for level in result.levels:
        name, _, number = level.name.rpartition(" ")
        if number in levels:
            levels[number].append(dataclasses.replace(level, name=name))
    return {number: _part(result, number, levels[number]) for number in levels}


def is_merged(settings: Mapping[str, Any]) -> bool:
    """Return whether settings are those of several machines, by their numbers."""
    return bool(settings) and all(
        number == f"#{index}" and isinstance(each, dict)
        for index, (number, each) in enumerate(settings.items(), 1)
    )


def machine_settings(settings: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """Return each machine's settings by its number, "" if it is the only one."""
    return settings if is_merged(settings) else {"": settings}


def numbered(level: LevelResult, number: str) -> LevelResult:
    """Return a machine's level as it is named in the merged comparison."""
    return dataclasses.replace(level, name=f"{level.name} {number}") if number else level


def merge(results: Iterable[Comparison]) -> Comparison:
    """Return the comparisons as one, in which levels have the machine's number; see ``merged``.

    Merged ones are taken apart first, and a machine's results count once. A note says if the
    models or texts differ. Raises ValueError for no comparisons.
    """
    parts = _distinct(part for result in results for part in by_machine(result).values())
    if not parts:
        raise ValueError("there is no comparison to merge")
    if len(parts) == 1:
        return parts[0]
    merged = Comparison.merged(parts)
    notes = tuple(dict.fromkeys((*merged.notes, *_differences(parts))))
    return dataclasses.replace(merged, notes=notes, noise=_largest_noise(parts))


def _distinct(parts: Iterable[Comparison]) -> list[Comparison]:
    """Return the comparisons without those whose settings and levels an earlier one has."""
    found: dict[str, Comparison] = {}
    for part in parts:
        bare = dataclasses.replace(part, source="", noise=None, notes=())
        found.setdefault(bare.to_json(), part)
    return [*found.values()]


def _largest_noise(parts: Sequence[Comparison]) -> LevelResult | None:
    noises = [(part.noise, number) for number, part in enumerate(parts, 1) if part.noise]
    if not noises:
        return None
    noise, number = max(noises, key=lambda each: each[0].kld_mean or 0.0)
    return dataclasses.replace(noise, name=f"{noise.name} #{number}")


def _part(result: Comparison, number: str, levels: Sequence[LevelResult]) -> Comparison:
    settings = dict(result.settings[number])
    source = str(settings.pop("source", result.source))
    return dataclasses.replace(
        result, source=source, settings=settings, levels=tuple(levels), noise=None
    )


def _differences(parts: Sequence[Comparison]) -> list[str]:
    """Return notes on what keeps figures of different results from being compared."""
    notes = []
    if _n_values(parts, "source_sha256") > 1:
        notes.append("the results are of different models")
    names = [name for key, name in _OF_QUALITY.items() if _n_values(parts, key) > 1]
    if names:
        notes.append(
            f"the results have a different {', '.join(names)}: compare perplexity and KLD only "
            f"within one result"
        )
    return notes


def _n_values(parts: Sequence[Comparison], key: str) -> int:
    return len({str(part.settings[key]) for part in parts if key in part.settings})
