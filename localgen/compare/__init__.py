"""Quantization levels of one model, measured side by side: quality, speed, memory.

run.py      compare(): makes the levels, measures each, keeps what is done
walk.py     a text under two models at once     metrics.py   what their logits say, pure NumPy
speed.py    a level in a process of its own     divergence.py   texts side by side
results.py  the result's types, and its JSON    recommend.py   which level to keep, and why
report.py   a result as PNG and as a page       plots.py, labels.py, page/   their parts
formats.py  a level's figures as text           command.py   the command that repeats a run
"""

from __future__ import annotations

from localgen.compare.recommend import Recommendation
from localgen.compare.report import save_html, save_png
from localgen.compare.results import Comparison, LevelResult
from localgen.compare.run import compare
from localgen.measuring import Spread

__all__ = [
    "Comparison",
    "LevelResult",
    "Recommendation",
    "Spread",
    "compare",
    "save_html",
    "save_png",
]
