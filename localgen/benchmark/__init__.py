"""How fast a model is on this machine, beside llama.cpp alone in the same process.

cases.py     what is measured, by llama-bench's names     measure.py   bench(): the runs
results.py   the result's types, and its JSON
"""

from __future__ import annotations

from localgen.benchmark.measure import bench
from localgen.benchmark.results import BenchResult, BenchTest

__all__ = ["BenchResult", "BenchTest", "bench"]
