"""The plot of tasks: an interval for each level, under the name of its task."""

from __future__ import annotations

import dataclasses
from typing import Any

from localgen.compare.level_result import LevelResult, TaskResult
from localgen.compare.results import Comparison
from localgen.compare.task_metrics import PairedDifference
from localgen.compare.task_plot import task_panels
from tests.comparisons import comparison, level


def _task(name: str, difference: float | None) -> TaskResult:
    paired = None
    if difference is not None:
        paired = PairedDifference(
            difference=difference, low=difference - 0.1, high=difference + 0.2, flips=0.3,
            n_lost=1, n_gained=0, p_value=1.0,
        )  # fmt: skip
    return TaskResult(
        name=name, accuracy=0.5, accuracy_se=0.1, accuracy_norm=None, answers=(), right=(),
        difference=paired,
    )  # fmt: skip


def _with_tasks(n_tasks: int = 1) -> Comparison:
    names = [f"task {number}" for number in range(n_tasks)]
    reference = level("F16", 10, 0.0, 1, is_reference=True)
    levels = (
        dataclasses.replace(reference, tasks=tuple(_task(name, None) for name in names)),
        level("Q8_0", 8, 0.1, 2, tasks=tuple(_task(name, 0.05) for name in names)),
        level("Q4_0", 4, 0.2, 3, tasks=tuple(_task(name, -0.25) for name in names)),
        LevelResult(name="IQ1_S", error="it failed"),
    )
    return comparison(levels=levels)


def _drawn(result: Comparison, **limits: Any) -> Any:
    from matplotlib.figure import Figure

    (panel,) = task_panels(result, result.recommend(**limits) if limits else None)
    figure = Figure()
    panel.draw(figure)
    return figure.axes[0]


def test_each_level_has_an_interval_in_percentage_points() -> None:
    axes = _drawn(_with_tasks())
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names == ["task 0", "Q8_0", "Q4_0"]
    spans = [tuple(lines.get_segments()[0][:, 0].round(9)) for lines in axes.collections]
    assert spans == [(-5.0, 25.0), (-35.0, -5.0)]
    points = [line.get_xydata().tolist() for line in axes.lines if line.get_marker() == "o"]
    assert points == [[[5.0, 1.0]], [[-25.0, 2.0]]]


def test_the_recommended_level_is_marked() -> None:
    axes = _drawn(_with_tasks(), max_kld=0.15)
    sizes = [line.get_markersize() for line in axes.lines if line.get_marker() == "o"]
    assert sizes == [7, 4.5]


def test_a_dot_is_filled_if_the_level_differs() -> None:
    """The p-value decides, not whether the interval reaches over 0."""
    result = _with_tasks()
    (task,) = result.levels[1].tasks
    assert task.difference is not None
    lost = dataclasses.replace(task, difference=dataclasses.replace(task.difference, p_value=0.04))
    levels = (result.levels[0], dataclasses.replace(result.levels[1], tasks=(lost,)))
    for each, is_filled in ((result, False), (dataclasses.replace(result, levels=levels), True)):
        dot = next(line for line in _drawn(each).lines if line.get_marker() == "o")
        assert (dot.get_markerfacecolor() == dot.get_color()) is is_filled


def test_what_does_not_fit_is_told() -> None:
    """Twelve tasks of two levels and a heading fill the picture."""
    (full,), (over,) = (task_panels(_with_tasks(number), None) for number in (12, 14))
    assert "only in the tables" not in full.caption
    assert over.caption.endswith(" 2 more tasks only in the tables.")
    assert over.n_inches == full.n_inches


def test_without_answers_there_is_no_plot() -> None:
    assert task_panels(comparison(), None) == ()
    alone = _with_tasks()
    assert task_panels(dataclasses.replace(alone, levels=alone.levels[:1]), None) == ()
