"""Measures how fast a model is on this machine, beside llama.cpp alone in the same process.

cases.py     what is measured, with llama-bench's names     measure.py    bench(): the runs
results.py   the types of the result and its JSON           measuring.py  what compare shares
healed_tokens.py  what the benchmark and the tests of token healing count
"""

from __future__ import annotations

from localgen.benchmark.measure import bench
from localgen.benchmark.results import BenchResult, BenchTest

__all__ = ["BenchResult", "BenchTest", "bench"]
