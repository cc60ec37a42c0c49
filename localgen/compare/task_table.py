"""Formats what levels answered to the questions of tasks, for the terminal and the page."""

from __future__ import annotations

from localgen._util.format import counted
from localgen.compare.level_result import LevelResult, TaskResult
from localgen.compare.results import Comparison
from localgen.compare.task_metrics import SIGNIFICANT

MISSING = "-"
# Titles, and what the figures are.
TASK_COLUMNS = {
    "level": "quantization level, and the KV cache type if it is not F16",
    "right": "share of right answers ± standard error",
    "by character": "the same, if choices are compared by their log-probability per character",
    "flips": "share of answers that are not the reference's, right or wrong",
    "difference": "percentage points of right answers more than the reference has",
    "95 % interval": "of the difference, by Newcombe's method for pairs",
    "p": "p-value of McNemar's exact test: how likely a split at least as uneven is by chance",
    "differs": f"whether p is below {SIGNIFICANT}; this decides, even if the interval excludes 0",
}
TASK_TITLES = tuple(TASK_COLUMNS)
# Stands below the tables: an interval and a p-value may seem to disagree.
DECIDES = f"differs: p is below {SIGNIFICANT}, which decides; the interval says by how much"


def task_tables(result: Comparison) -> list[tuple[str, list[list[str]]]]:
    """Return for each task a heading and a row of cells for each level that answered it."""
    names = dict.fromkeys(task.name for level in result.levels for task in level.tasks)
    return [_table(result, name) for name in names]


def _table(result: Comparison, name: str) -> tuple[str, list[list[str]]]:
    found = [(level, task) for level in result.levels for task in level.tasks if task.name == name]
    heading = f"{name}: {counted(len(found[0][1].right), 'question')}"
    return heading, [_row(level, task) for level, task in found]


def _row(level: LevelResult, task: TaskResult) -> list[str]:
    norm = MISSING if task.accuracy_norm is None else _percent(task.accuracy_norm)
    right = f"{_percent(task.accuracy)} ±{100 * task.accuracy_se:.1f}"
    found = task.difference
    if found is None:
        rest = ["reference" if level.is_reference else MISSING, "", "", "", ""]
    else:
        rest = [
            _percent(found.flips),
            f"{100 * found.difference:+.1f}",
            f"{100 * found.low:+.1f} to {100 * found.high:+.1f}",
            f"{found.p_value:.2g}",
            "yes" if found.is_significant else "no",
        ]
    return [level.label, right, norm, *rest]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
