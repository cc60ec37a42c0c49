"""Measure which of llama.cpp's two KV layouts decodes faster, by what the sequences share.

    python benchmarks/layouts.py

llama.cpp alone, in its own contexts: one KV stream for each sequence (`kv_unified=False`) against
one for all (`True`), for sequences that share a prefix (computed once and copied) or do not.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import common
import numpy as np
from common import Row
from floors import new_context

from localgen.llama.baseline import make_batch, run_batches

_NOTE = """\
decode: tokens per second with kv_unified=True divided by those with False; above 1, the unified
layout is faster. prefill: the same for the time before the first token, copies included."""


@dataclass(frozen=True)
class Case:
    """``n_rows`` prompts of ``n_prompt`` tokens, all the same or not, and ``n_new`` steps."""

    n_rows: int
    n_prompt: int
    n_new: int
    shared: bool


CASES = [
    Case(32, 128, 16, shared=True),
    Case(32, 128, 64, shared=True),
    Case(32, 512, 16, shared=True),
    Case(8, 2048, 16, shared=True),
    Case(32, 128, 16, shared=False),
    Case(8, 512, 16, shared=False),
]


class Runner:
    """Runs cases on the weights of a LocalModel's backend."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self._llama = backend._llama
        self._random = np.random.RandomState(0)

    def run(self, case: Case, *, unified: bool) -> tuple[float, float]:
        """Return the seconds before the first token, and of the decode steps after it."""
        context = self._context(case, unified=unified)
        memory = self._llama.llama_get_memory(context)
        steps = [self._step(case, step) for step in range(case.n_new)]
        prompts = [self._prompt(case, row) for row in range(1 if case.shared else case.n_rows)]
        started = time.perf_counter()
        for batches in prompts:
            run_batches(self._llama, context, batches)
        if case.shared:
            for row in range(1, case.n_rows):
                self._llama.llama_memory_seq_cp(memory, 0, row, -1, -1)
        run_batches(self._llama, context, steps[:1])
        prefill = time.perf_counter() - started
        decode = run_batches(self._llama, context, steps[1:])
        self._llama.llama_free(context)
        return prefill, decode

    def _context(self, case: Case, *, unified: bool) -> Any:
        per_row = self._backend._slot_size(case.n_prompt + case.n_new)
        cells = case.n_rows * per_row
        if unified and case.shared:
            cells = case.n_prompt + case.n_rows * case.n_new
        n_ctx = -(-cells // 256) * 256
        return new_context(self._backend, case.n_rows, n_ctx, unified=unified)

    def _tokens(self, n: int) -> list[int]:
        found: list[int] = self._random.randint(0, self._backend.n_vocab, n).tolist()
        return found

    def _prompt(self, case: Case, row: int) -> list[Any]:
        n_batch = self._backend.n_batch
        starts = range(0, case.n_prompt, n_batch)
        sizes = [min(n_batch, case.n_prompt - start) for start in starts]
        return [
            make_batch(self._llama, self._tokens(n), range(start, start + n), [row] * n, [0] * n)
            for start, n in zip(starts, sizes, strict=True)
        ]

    def _step(self, case: Case, step: int) -> Any:
        rows = range(case.n_rows)
        positions = [case.n_prompt + step] * case.n_rows
        return make_batch(self._llama, self._tokens(case.n_rows), positions, rows, [1] * len(rows))


def measure(runner: Runner, case: Case, n_rounds: int) -> Row:
    """Alternate both layouts and return one row of the result."""
    rounds = [
        (runner.run(case, unified=False), runner.run(case, unified=True)) for _ in range(n_rounds)
    ]
    return {
        "rows": case.n_rows,
        "n_prompt": case.n_prompt,
        "n_new": case.n_new,
        "shared": "yes" if case.shared else "no",
        **common.spread("decode", [apart[1] / one[1] for apart, one in rounds]),
        **common.spread("prefill", [apart[0] / one[0] for apart, one in rounds]),
    }


def main() -> None:
    """Measure all cases and report them."""
    from localgen import LocalModel  # noqa: PLC0415  (after the arguments were read)

    options = common.argument_parser(__doc__, rounds=3, new_tokens=0).parse_args()
    with LocalModel.from_pretrained(options.model) as model:
        runner = Runner(model._backend)
        rows = []
        for case in CASES:
            common.progress(str(case))
            rows.append(measure(runner, case, options.rounds))
        threads = common.n_threads(model)
    common.report("layouts", rows, options, threads=threads, note=_NOTE)


if __name__ == "__main__":
    main()
