"""Jobs whose model's process ends: the rest of the rows is unharmed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest

from localgen import GenerationConfig, LocalModel, ModelConfig
from localgen.jobs.job import Job, open_lines
from localgen.jobs.results import make_header, open_results
from tests.worker import functions

pytestmark = pytest.mark.slow


class Poisoned:
    """A model in which llama.cpp aborts at the rows that begin with one of some token ids."""

    def __init__(self, model: LocalModel, poison: set[int]) -> None:
        self._model = model
        self._poison = poison

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    async def acomplete(self, prompts: Any, **given: Any) -> Any:
        if prompts[0][0] in self._poison:
            given["logits_processor"] = functions.AbortAfter(2)
        return await self._model.acomplete(prompts, **given)


def test_only_the_rows_that_end_the_process_fail(tmp_path: Path, tiny_bpe_path: Path) -> None:
    rows = [{"id": i, "prompt_token_ids": [i + 5, 6, 7]} for i in range(12)]
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    defaults = GenerationConfig(max_new_tokens=8, min_new_tokens=8, do_sample=False)
    header = make_header(tiny_bpe_path, ModelConfig(), defaults)
    records: list[Any] = []
    with (
        LocalModel.from_pretrained(
            tiny_bpe_path, isolated=True, n_ctx=512, n_threads=1, max_sequences=4
        ) as model,
        open_lines(str(source)) as lines,
        open_results(str(target), header, overwrite=False) as results,
    ):
        poisoned = cast("LocalModel", Poisoned(model, {5 + 2, 5 + 9}))
        Job(lines, results, defaults).run(poisoned, records.append)
    failed = {record["id"]: record["error"]["type"] for record in records if "error" in record}
    assert failed == {2: "WorkerCrashedError", 9: "WorkerCrashedError"}
    assert {record["id"] for record in records if "text" in record} == set(range(12)) - {2, 9}
