"""Writes a comparison as a PNG and as a self-contained HTML page; it measures nothing."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localgen._util.atomic_write import atomic_write_bytes
from localgen._util.format import as_size
from localgen.compare import pictures, plots
from localgen.compare.advice import MachineAdvice, advice_by_machine
from localgen.compare.command import TEXT_FILE
from localgen.compare.divergence import n_same
from localgen.compare.extra_tables import extra_tables
from localgen.compare.formats import (
    COLUMNS,
    KLD,
    attention_text,
    machine_settings,
    sampling_error,
    share_of_most,
)
from localgen.compare.level_result import Divergence, LevelResult
from localgen.compare.machines import numbered
from localgen.compare.memory_sizes import SHARE
from localgen.compare.plots import Panel
from localgen.compare.results import Comparison
from localgen.compare.sensitivity import HeatMap
from localgen.compare.side_by_side import side_by_side
from localgen.compare.task_plot import task_panels
from localgen.compare.task_table import TASK_COLUMNS, task_tables
from localgen.errors import CompareError

# Names of settings on the page; others keep their keys.
_SETTINGS = {
    "source": "model",
    "localgen": "localgen",
    "llama_cpp": "llama-cpp-python (llama.cpp)",
    "features": "llama.cpp build",
    "python": "Python",
    "numpy": "NumPy",
    "platform": "system",
    "machine": "machine",
    "cpu": "CPU",
    "n_threads": "threads",
    "n_ctx": "tokens per chunk",
    "n_chunks": "chunks",
    "kv_types": "KV cache types",
    "text_sha256": "SHA-256 of the text",
    "source_sha256": "SHA-256 of the model",
    "tasks_sha256": "SHA-256 of the tasks",
    "task_limit": "questions of each task",
}
# Extensions of reports; a name may also have none.
_SUFFIXES = ("", ".png", ".html", ".htm")
# Visible white space; line breaks still break the line.
_SIGNS = str.maketrans({" ": "␣", "\t": "⇥\t", "\n": "↵\n", "\r": "␍", "\u00a0": "⍽"})


def check_targets(paths: Sequence[Path]) -> None:
    """Raise CompareError if a report cannot be written to ``paths``, before anything is measured.

    It checks the extension, the folder and matplotlib.
    """
    if paths:
        _require_matplotlib()
    for path in paths:
        if path.suffix.lower() not in _SUFFIXES:
            raise CompareError(
                f"{path} has the wrong extension: plots are written as PNG, reports as HTML. Use "
                f"{path.stem}.png or {path.stem}.html."
            )
        if path.is_dir() or not path.absolute().parent.is_dir():
            raise CompareError(
                f"{path} cannot be written: it is a folder, or its parent folder does not exist"
            )


def save_png(
    result: Comparison,
    path: str | os.PathLike[str],
    *,
    memory: int | str | None = None,
    max_kld: float | None = None,
) -> None:
    """Plot quality and speed against size, and the distribution of the KLD, to a PNG file.

    Each machine of a merged comparison has a row of plots. What was not measured is left out.
    memory, max_kld: as in ``Comparison.recommend``, for the level to highlight. Raises CompareError
    without matplotlib, or if nothing was measured.
    """
    _require_matplotlib()
    advice = advice_by_machine(result, memory, max_kld)
    rows = [drawn for drawn in (_panels(number, each) for number, each in advice.items()) if drawn]
    if not rows:
        raise CompareError("no level was measured, so there is nothing to draw")
    sentences = [each.full_sentence for each in advice.values()]
    atomic_write_bytes(Path(path), pictures.as_png(rows, result.source, sentences))


def save_html(
    result: Comparison,
    path: str | os.PathLike[str],
    *,
    memory: int | str | None = None,
    max_kld: float | None = None,
    heat_maps: Sequence[HeatMap] = (),
) -> None:
    """Write a self-contained page: table, plots, texts side by side, and how to reproduce it.

    memory, max_kld: as in ``Comparison.recommend``, for the level to highlight. heat_maps: the
    losses of single groups of tensors; see ``sensitivity``. Raises CompareError without matplotlib.
    """
    _require_matplotlib()
    page = _page(result, memory, max_kld, heat_maps)
    atomic_write_bytes(Path(path), page.encode("utf-8", "replace"))


def _require_matplotlib() -> None:
    try:
        import matplotlib.figure  # noqa: F401, PLC0415  # an optional extra
    except ImportError as error:
        raise CompareError(
            f"reports need matplotlib, which cannot be imported ({error}). Install it with: "
            f"pip install 'localgen[report]'"
        ) from error


# --- the page ---


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


@dataclass(frozen=True, slots=True)
class _Sides:
    """Two texts cut where they diverge: their common part, and each one's next word and rest.

    shows_space: whether the two words differ only in white space, or one is only white space.
    """

    prompt: str
    n_same: int
    same: str
    reference: tuple[str, str]
    text: tuple[str, str]

    @property
    def is_same(self) -> bool:
        return not any((*self.reference, *self.text))

    @property
    def shows_space(self) -> bool:
        ours, theirs = self.reference[0], self.text[0]
        return ours.split() == theirs.split() or any(each.isspace() for each in (ours, theirs))

    def mark(self, word: str) -> str:
        """Return a word with visible white space, if that is the difference."""
        return word.translate(_SIGNS) if self.shows_space else word


def _page(
    result: Comparison,
    memory: int | str | None,
    max_kld: float | None,
    heat_maps: Sequence[HeatMap],
) -> str:
    import jinja2  # noqa: PLC0415  # only where a page is made

    advice = advice_by_machine(result, memory, max_kld)
    kept = _kept_labels(advice)
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
        columns=COLUMNS,
        kld=KLD,
        rows=[_row(level, result, kept) for level in result.levels if level.error is None],
        tasks=task_tables(result),
        task_columns=TASK_COLUMNS,
        extra=extra_tables(result),
        failed=[level for level in result.levels if level.error is not None],
        heat_maps=heat_maps,
        side_by_side=side_by_side({number: each.result for number, each in advice.items()}),
        pictures=[
            (panel, pictures.as_svg(panel))
            for number, each in advice.items()
            for panel in _panels(number, each)
        ],
        texts=[
            (level, [sides(each) for each in level.divergences])
            for level in result.levels
            if level.divergences
        ],
        kept=kept,
        machines=_machines(result.settings),
        text_file=TEXT_FILE,
        as_size=as_size,
        attention_text=attention_text,
        sampling_error=sampling_error(result),
        script=script,
        script_hash=base64.b64encode(digest).decode(),
    )


def _kept_labels(advice: Mapping[str, MachineAdvice]) -> set[str]:
    """Return the labels of the recommended levels, as they are in the whole comparison."""
    return {
        numbered(each.kept.level, number).label
        for number, each in advice.items()
        if each.kept is not None and each.kept.level is not None
    }


def _panels(number: str, advice: MachineAdvice) -> list[Panel]:
    """Return the panels of a machine; its number is in their titles if there are others."""
    return [
        dataclasses.replace(panel, title=f"{panel.title}, {number}") if number else panel
        for make in (plots.panels, task_panels)
        for panel in make(advice.result, advice.kept)
    ]


def _row(level: LevelResult, result: Comparison, kept: Collection[str]) -> _Row:
    values = [(column, column.value(level)) for column in COLUMNS]
    return _Row(
        level,
        tuple(_Cell(column.text(level), "" if v is None else str(v)) for column, v in values),
        round(100 * share_of_most(level, result), 1),
        level.label in kept,
    )


def sides(found: Divergence) -> _Sides:
    """Cut both texts at the first character that differs; the word of a text that ends is ""."""
    n = n_same(found.reference, found.text)
    return _Sides(
        found.prompt,
        found.n_same,
        found.text[:n],
        _word(found.reference[n:]),
        _word(found.text[n:]),
    )


def _word(text: str) -> tuple[str, str]:
    """Return the first word, with the space before it, and the rest."""
    match = re.match(r"\s*\S*", text)
    end = match.end() if match else 0
    return text[:end], text[end:]


def _machines(settings: dict[str, Any]) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """Return each machine's number ("" if it is the only one), command and settings."""
    return [
        (number, str(part.get("command", "")), list(_named(part)))
        for number, part in machine_settings(settings).items()
    ]


def _named(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in settings.items():
        if key != "command":
            yield _SETTINGS.get(key, key), _shown(value)


def _shown(value: object) -> str:
    """Return a setting as text: lists and dicts without their brackets."""
    if isinstance(value, dict):
        value = [f"{name}: {each}" for name, each in value.items()]
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
