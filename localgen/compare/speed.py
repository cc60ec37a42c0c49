"""Measures the speed of one level in a new process: ``python -m localgen.compare.speed TASK``.

The task is JSON, and so is the answer; see ``child``.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from localgen._util import child
from localgen._util.system import drop_from_page_cache, peak_memory
from localgen.config import ModelConfig
from localgen.errors import CompareError

N_PREFILL, N_DECODE, N_TTFT = 512, 64, 128
_LIMIT_SECONDS = 1800.0


@dataclass(frozen=True, slots=True)
class Task:
    """What to measure.

    token_ids: a text of at least ``N_PREFILL`` tokens. cold: drop the file from the page cache
    before loading it, if the system can.
    """

    file: str
    kv_type: str
    n_threads: int | None
    token_ids: list[int]
    cold: bool


@dataclass(frozen=True, slots=True)
class Measured:
    """The results of one round of one level, in seconds, tokens/s and bytes.

    was_cold: whether the file was dropped from the page cache before it was loaded.
    flash_attention: see ``Backend``.
    """

    load_seconds: float
    prefill_tps: float
    decode_tps: float
    ttft_seconds: float
    peak_rss_bytes: int
    was_cold: bool
    flash_attention: str


def measure(task: Task) -> Measured:
    """Run one round in a child process. Raises CompareError with the reason if it fails."""
    answer = child.run_json_child(
        "localgen.compare.speed", json.dumps(asdict(task)), limit_seconds=_LIMIT_SECONDS
    )
    if isinstance(answer, child.Failure):
        raise CompareError(f"its speed could not be measured: the process {answer.reason}")
    return Measured(**answer)


def _run(task: Task) -> Measured:
    from localgen.llama.backend import LlamaBackend  # noqa: PLC0415
    from localgen.llama.library import llama  # noqa: PLC0415
    from localgen.model import LocalModel  # noqa: PLC0415  # loaded only in the child

    llama()  # loads the library, so that the model's load time does not include it
    was_cold = task.cold and drop_from_page_cache(Path(task.file))
    started = time.perf_counter()
    config = ModelConfig(n_ctx=1024, kv_type=task.kv_type, n_threads=task.n_threads)
    backend = LlamaBackend(Path(task.file), config, adapts=False)
    with LocalModel(backend, config) as model:
        loaded = time.perf_counter() - started
        options: dict[str, Any] = {"eos_token_id": [], "do_sample": False}
        prompt = task.token_ids[:N_PREFILL]
        # The first call creates the context and touches the weights. Each prompt starts with
        # another token, so that nothing of an earlier one is reused.
        model.complete([prompt[1:]], max_new_tokens=2, **options)
        prefill = model.complete([prompt], max_new_tokens=1, **options)[0].stats
        short = model.complete([prompt[2 : 2 + N_TTFT]], max_new_tokens=1, **options)[0].stats
        decode = model.complete([prompt[3:4]], max_new_tokens=N_DECODE, **options)[0].stats
    return Measured(
        load_seconds=loaded,
        prefill_tps=(prefill.n_prompt - prefill.n_cached) / prefill.prefill_seconds,
        decode_tps=decode.tokens_per_second or 0.0,
        ttft_seconds=short.ttft or 0.0,
        peak_rss_bytes=peak_memory(),
        was_cold=was_cold,
        flash_attention=backend.flash_attention,
    )


if __name__ == "__main__":
    child.answer(lambda: asdict(_run(Task(**json.loads(sys.argv[1])))))
