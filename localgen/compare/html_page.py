"""Makes the page of a comparison from the templates in ``page/``; it writes no file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from localgen._util.format import as_size
from localgen.compare import pictures
from localgen.compare.advice import MachineAdvice
from localgen.compare.command import TEXT_FILE
from localgen.compare.drawn import MOST_MACHINES, MOST_TEXTS
from localgen.compare.extra_tables import extra_tables
from localgen.compare.formats import (
    KLD,
    Column,
    attention_text,
    measured_columns,
    sampling_error,
    shares_of_most,
)
from localgen.compare.level_result import Divergence, LevelResult
from localgen.compare.machines import machine_settings, numbered
from localgen.compare.memory_sizes import SHARE
from localgen.compare.plot_parts import Panel
from localgen.compare.result_names import SETTING_NAMES, result_names, shown
from localgen.compare.results import Comparison
from localgen.compare.sensitivity import HeatMap
from localgen.compare.side_by_side import side_by_side
from localgen.compare.task_table import TASK_COLUMNS, task_tables
from localgen.compare.text_sides import Sides, sides
from localgen.compare.unfinished import UNFINISHED


@dataclass(frozen=True, slots=True)
class _Cell:
    """A cell of the table: the text to show and the value to sort by, "" if not measured."""

    text: str
    value: str


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of the table; ``share`` is the percentage of the largest mean KLD, for a bar."""

    level: LevelResult
    cells: tuple[_Cell, ...]
    share: float
    is_kept: bool


# A level and its texts.
_LevelTexts: TypeAlias = tuple[LevelResult, tuple[Divergence, ...]]


@dataclass(frozen=True, slots=True)
class _Shown:
    """The texts of levels that are shown, and how many levels more have some."""

    levels: list[tuple[LevelResult, list[Sides]]]
    n_more: int


def html_page(
    result: Comparison,
    advice: Mapping[str, MachineAdvice],
    panels: Sequence[Panel],
    heat_maps: Sequence[HeatMap],
) -> str:
    """Return the page. advice: for each machine. panels: what to draw."""
    import jinja2  # noqa: PLC0415  # only where a page is made

    files = jinja2.Environment(
        loader=jinja2.PackageLoader("localgen.compare", "page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = files.get_template("page.js").render()
    digest = hashlib.sha256(script.encode()).digest()
    return files.get_template("page.html.jinja").render(
        result=result,
        advice=advice.values(),
        share=SHARE,
        text_file=TEXT_FILE,
        as_size=as_size,
        attention_text=attention_text,
        sampling_error=sampling_error(result),
        runs=_runs(result.settings),
        unfinished=_unfinished(result),
        heat_maps=heat_maps,
        pictures=[(panel, pictures.as_svg(panel)) for panel in panels],
        n_undrawn=max(0, len(advice) - MOST_MACHINES),
        script=script,
        script_hash=base64.b64encode(digest).decode(),
        **_tables(result, advice),
        **_texts(result, _kept_labels(advice)),
    )


def _tables(result: Comparison, advice: Mapping[str, MachineAdvice]) -> dict[str, Any]:
    kept = _kept_labels(advice)
    shares = shares_of_most(result.levels)
    columns = measured_columns([level for level in result.levels if level.error is None])
    return {
        "columns": columns,
        "kld": KLD,
        "rows": [
            _row(level, columns, share, is_kept=level.label in kept)
            for level, share in zip(result.levels, shares, strict=True)
            if level.error is None
        ],
        "failed": [level for level in result.levels if level.error is not None],
        "tasks": task_tables(result),
        "task_columns": TASK_COLUMNS,
        "extra": extra_tables(result),
        "side_by_side": side_by_side({number: each.result for number, each in advice.items()}),
    }


def _texts(result: Comparison, kept: Collection[str]) -> dict[str, Any]:
    """Return texts and replies of some levels, beside the reference's."""
    texts = [(level, level.divergences) for level in result.levels if level.divergences]
    replies = [(level, level.chats.replies) for level in result.levels if level.chats is not None]
    return {"kept": kept, "texts": _shown(texts, kept), "replies": _shown(replies, kept)}


def _shown(found: Sequence[_LevelTexts], kept: Collection[str]) -> _Shown:
    """Return the texts of those that are kept first, and of others in the order of the table."""
    first = sorted(found, key=lambda each: each[0].label not in kept)[:MOST_TEXTS]
    cut = [(level, [sides(each) for each in texts]) for level, texts in first]
    return _Shown(cut, len(found) - len(first))


def _kept_labels(advice: Mapping[str, MachineAdvice]) -> set[str]:
    """Return the labels of the recommended levels, as they are in the whole comparison."""
    return {
        numbered(each.kept.level, number).label
        for number, each in advice.items()
        if each.kept is not None and each.kept.level is not None
    }


def _row(level: LevelResult, columns: Sequence[Column], share: float, *, is_kept: bool) -> _Row:
    values = [(column, column.value(level)) for column in columns]
    return _Row(
        level,
        tuple(_Cell(column.text(level), "" if v is None else str(v)) for column, v in values),
        round(100 * share, 1),
        is_kept,
    )


def _runs(settings: dict[str, Any]) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """Return each result's name ("" if it is the only one), command and settings."""
    parts = machine_settings(settings)
    names = result_names(parts)
    return [
        (names[number], str(part.get("command", "")), list(_named(part)))
        for number, part in parts.items()
    ]


def _unfinished(result: Comparison) -> list[str]:
    """Return the name of each result that was interrupted; the model's if it is the only one."""
    parts = machine_settings(result.settings)
    names = result_names(parts)
    found = [number for number, part in parts.items() if part.get(UNFINISHED)]
    return [names[number] or result.source for number in found]


def _named(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in settings.items():
        if key != "command":
            yield SETTING_NAMES.get(key, key), shown(value)
