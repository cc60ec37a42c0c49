"""Speeds are measured with a real model in processes of its own; no time is bounded."""

from __future__ import annotations

from pathlib import Path

import pytest

from localgen.config import GenerationConfig
from localgen.errors import JobError
from localgen.jobs.ray.measuring import measure, n_rows_to_measure
from localgen.jobs.ray.plan import Arrangement
from localgen.jobs.rows import Line, Row, read_rows

TWO = Arrangement(n_actors=2, n_threads=1, factor=1.0)
OPTIONS = {"max_sequences": 4, "n_ctx": 256}


class Heard:
    """What a listener was called with."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.n_rows = 0
        self.n_new: list[tuple[int, bool]] = []

    def begin_step(self, step: str) -> None:
        self.steps.append(step)

    def start(self, n_rows: int) -> None:
        self.n_rows = n_rows

    def add(self, worker: str, n_new: int, *, is_failed: bool) -> None:
        assert worker in ("model 1", "model 2")
        self.n_new.append((n_new, is_failed))


def rows(n: int, **options: object) -> list[Row]:
    lines = [Line(i, b'{"prompt_token_ids": [%d, 5, 6, 7]}' % (i + 1)) for i in range(1, n + 1)]
    config = GenerationConfig(**options)  # type: ignore[arg-type]
    return [row for row in read_rows(lines, config, 0, {}) if isinstance(row, Row)]


@pytest.mark.slow
def test_each_model_runs_the_rows_and_the_costs_are_none_below_zero(tiny_bpe_path: Path) -> None:
    heard = Heard()
    given = rows(20, max_new_tokens=6, eos_token_id=[])
    found = measure(tiny_bpe_path, given, TWO, OPTIONS, None, heard)
    assert heard.steps == ["loading 2 models", "running 8 prompts in each model"]
    assert heard.n_rows == 18
    assert heard.n_new == [(6, False)] * 18
    assert (found.speed.n_actors, found.speed.n_threads) == (2, 1)
    assert found.speed.load > 0
    assert min(found.speed.prompt_token, found.speed.forward_pass, found.speed.new_token) >= 0
    assert len(found.rows) == 9  # two for each of four places, and one
    assert {new for _, new in found.rows} == {6}
    assert found.longest == 10


@pytest.mark.slow
def test_rows_that_fail_are_left_out_unless_all_do(tiny_bpe_path: Path) -> None:
    good = rows(19, max_new_tokens=6, eos_token_id=[])
    long_line = Line(99, b'{"prompt_token_ids": [%s]}' % b", ".join([b"5"] * 300))
    bad = [row for row in read_rows([long_line], GenerationConfig(), 0, {}) if isinstance(row, Row)]
    assert len(measure(tiny_bpe_path, [*good, *bad], TWO, OPTIONS, None, Heard()).rows) == 9
    with pytest.raises(JobError, match="none of the rows of the sample can be run"):
        measure(tiny_bpe_path, bad, TWO, OPTIONS, None, Heard())


def test_without_rows_there_is_nothing_to_measure() -> None:
    with pytest.raises(JobError, match="there is no row to measure"):
        measure(Path("model.gguf"), [], TWO, OPTIONS, None, Heard())
    assert n_rows_to_measure(32) == 4 * 32 + 8
