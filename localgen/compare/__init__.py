"""Compares quantization levels of one model: quality, speed, memory.

run.py                compare(): the steps in order
options.py            its options, each once; the command's flags are made from them
preparation.py        what is found out before anything is made or measured
checks.py             what cannot be used, by what files hold
making.py             makes the levels' files, and says which can be compared
steps.py              the measurements in their order
settings.py           how it measures; what is recorded about the machine
levels.py             from requested levels to checked files
record.py             the results so far, and their file
quality.py            perplexity and KLD of each level, beside the reference
reference.py          what levels are compared with: a model, its stored logits, or a pack
packed_rows.py        predictions in few bytes, and metrics against them, pure NumPy
reference_pack.py     the file of such predictions
pack_making.py        makes one from the reference
pack_use.py           makes one the reference
paired_evaluation.py  one text under two models at the same time
metrics.py            statistics of their logits, pure NumPy
calibration.py        whether a model is right as often as it is confident, pure NumPy
chats.py              greedy replies to chats, by the chat template
chat_file.py          files of chats
texts.py              greedy texts of each level
divergence.py         how long two texts agree
rounds.py             the speed of all levels in turn
speed.py              the speed of one level, in a process of its own
compute_device.py     where a level is computed
level_result.py       what was measured of one level
results.py            the whole result, and its JSON
machines.py           results of several machines as one, and the files in a folder
recommend.py          which level to keep, and why
pareto.py             what no other level beats
memory_sizes.py       which level to keep on a machine of 4, 8 or 16 GB
advice.py             both for each machine, as text
side_by_side.py       figures of several machines, as a table
sensitivity.py        heat maps of what parts of a model lose alone
formats.py            a level's figures as text
extra_tables.py       figures that are measured where asked for, as tables
report.py             the result as PNG and as an HTML page
html_page.py, page/   that page
text_sides.py         two texts cut where they diverge
drawn.py              which levels are drawn, of too many
plots.py              quality, speed and the distribution over tokens, drawn
plot_parts.py         what plots have in common
labels.py             labels, placed where they cover the least
task_plot.py          right answers with their intervals, drawn
pictures.py           drawings as files
command.py            the command that repeats a run
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
