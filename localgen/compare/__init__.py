"""Quantization levels of one model, measured side by side: quality, speed, memory.

run.py      compare(): the order of it          settings.py   how it measures
levels.py   levels → checked files              record.py   what is found so far, and its file
quality.py  each level beside the reference     reference.py   the reference's logits
walk.py     a text under two models at once     metrics.py   what their logits say, pure NumPy
texts.py    greedy texts of each level          divergence.py   how long they agree
rounds.py   the speed of all levels in turn     speed.py   one of them in a process of its own
results.py  the result's types, and its JSON    recommend.py   which level to keep, and why
report.py   a result as PNG and as a page       plots.py, labels.py   what is drawn
pictures.py   drawings as files                 page/   the page's template
formats.py  a level's figures as text           command.py   the command that repeats a run
"""

from __future__ import annotations

from localgen.benchmark.measuring import Spread
from localgen.compare.level_result import LevelResult
from localgen.compare.recommend import Recommendation
from localgen.compare.report import save_html, save_png
from localgen.compare.results import Comparison
from localgen.compare.run import compare

__all__ = [
    "Comparison",
    "LevelResult",
    "Recommendation",
    "Spread",
    "compare",
    "save_html",
    "save_png",
]
