"""Measures the speed of one level in a new process: ``python -m localgen.compare.speed TASK``.

The task is JSON, and so is the answer; see ``child``.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localgen._util import child, system
from localgen.config import ModelConfig
from localgen.errors import CompareError

if TYPE_CHECKING:
    from localgen.completion import Stats
    from localgen.model import LocalModel

N_PREFILL, N_DECODE, N_TTFT = 512, 64, 128
N_CTX = 1024
# Where in the text the prompts at depth begin, unlike all others.
_FIRST = 4
_LIMIT_SECONDS, _MOST_SECONDS_PER_TOKEN = 1800.0, 1.0
_OPTIONS: dict[str, Any] = {"eos_token_id": [], "do_sample": False}


@dataclass(frozen=True, slots=True)
class Task:
    """What to measure.

    config: fields of ModelConfig. token_ids: a text of at least ``n_tokens(depths)`` tokens. cold:
    drop the file from the page cache before loading it, if the system can. depths: see
    ``LevelResult``. energy: whether to count joules.
    """

    file: str
    config: dict[str, Any]
    token_ids: list[int]
    cold: bool
    depths: tuple[int, ...] = ()
    energy: bool = False


@dataclass(frozen=True, slots=True)
class Measured:
    """The results of one round of one level, in seconds, tokens/s, bytes, and joules per token.

    was_cold: whether the file was dropped from the page cache before it was loaded.
    flash_attention: see ``Backend``. at_depths: (prefill, decode) tokens/s at each depth; the
    former is None for a model that computes a cached prompt again.
    """

    load_seconds: float
    prefill_tps: float
    decode_tps: float
    ttft_seconds: float
    peak_rss_bytes: int
    was_cold: bool
    flash_attention: str
    prefill_joules: float | None = None
    decode_joules: float | None = None
    at_depths: tuple[tuple[float | None, float], ...] = ()


def n_tokens(depths: tuple[int, ...]) -> int:
    """Return how many tokens of text it takes to measure at these depths."""
    return _FIRST + max(depths, default=0) + N_PREFILL


def measure(task: Task) -> Measured:
    """Run one round in a child process. Raises CompareError with the reason if it fails."""
    answer = child.run_json_child(
        "localgen.compare.speed",
        json.dumps(asdict(task)),
        limit_seconds=_LIMIT_SECONDS + _MOST_SECONDS_PER_TOKEN * sum(task.depths),
    )
    if isinstance(answer, child.Failure):
        raise CompareError(f"its speed could not be measured: the process {answer.reason}")
    return Measured(**{**answer, "at_depths": tuple(map(tuple, answer["at_depths"]))})


def _run(task: Task) -> Measured:
    from localgen.llama.backend import LlamaBackend  # noqa: PLC0415
    from localgen.llama.library import llama  # noqa: PLC0415
    from localgen.model import LocalModel  # noqa: PLC0415  # loaded only in the child

    llama()  # loads the library, so that the model's load time does not include it
    was_cold = task.cold and system.drop_from_page_cache(Path(task.file))
    joules = system.energy_meter().joules if task.energy else None
    started = time.perf_counter()
    config = ModelConfig(**task.config)
    backend = LlamaBackend(Path(task.file), config, adapts=False)
    with LocalModel(backend, config) as model:
        loaded = time.perf_counter() - started
        prompt = task.token_ids[:N_PREFILL]
        # The first call creates the context and touches the weights. Each prompt starts with
        # another token, so that nothing of an earlier one is reused.
        _stats(model, prompt[1:], 2)
        prefill, prefill_joules = _metered(joules, lambda: _stats(model, prompt, 1))
        short = _stats(model, prompt[2 : 2 + N_TTFT], 1)
        decode, decode_joules = _metered(joules, lambda: _stats(model, prompt[3:4], N_DECODE))
        peak = system.peak_memory()  # that of short texts, whatever the depths
        at_depths = tuple(_at_depth(model, task.token_ids[_FIRST:], each) for each in task.depths)
    return Measured(
        load_seconds=loaded,
        prefill_tps=_prefill_tps(prefill),
        decode_tps=decode.tokens_per_second or 0.0,
        ttft_seconds=short.ttft or 0.0,
        peak_rss_bytes=peak,
        was_cold=was_cold,
        flash_attention=backend.flash_attention,
        prefill_joules=None if prefill_joules is None else prefill_joules / N_PREFILL,
        decode_joules=None if decode_joules is None else decode_joules / N_DECODE,
        at_depths=at_depths,
    )


def _at_depth(model: LocalModel, token_ids: list[int], depth: int) -> tuple[float | None, float]:
    """Return the tokens/s of a prompt of ``N_PREFILL`` after ``depth`` tokens, and of new ones.

    What an earlier, smaller depth has left in the cache is used.
    """
    decode = _stats(model, token_ids[:depth], N_DECODE)
    _stats(model, token_ids[:depth], 1)  # recurrent models continue only where a text has ended
    prefill = _stats(model, token_ids[: depth + N_PREFILL], 1)
    was_cached = prefill.n_cached >= depth  # more where the model has written the text's next token
    return _prefill_tps(prefill) if was_cached else None, decode.tokens_per_second or 0.0


def _stats(model: LocalModel, prompt: list[int], n_new: int) -> Stats:
    return model.complete([prompt], max_new_tokens=n_new, **_OPTIONS)[0].stats


def _prefill_tps(stats: Stats) -> float:
    return (stats.n_prompt - stats.n_cached) / stats.prefill_seconds


def _metered(
    joules: Callable[[], float] | None, work: Callable[[], Stats]
) -> tuple[Stats, float | None]:
    """Return what ``work`` returns, and the joules used meanwhile; None without a meter."""
    before = joules() if joules is not None else 0.0
    stats = work()
    return stats, joules() - before if joules is not None else None


if __name__ == "__main__":
    child.answer(lambda: asdict(_run(Task(**json.loads(sys.argv[1])))))
