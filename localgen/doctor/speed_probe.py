"""Estimates a model's speed in about two seconds; ``localgen.compare.speed`` measures it properly.

    python -m localgen.doctor.speed_probe FILE

This runs in a child process, since C may abort.
"""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from localgen._util import child
from localgen.completion import Stats
from localgen.model import LocalModel

_LIMIT_SECONDS = 180.0
_PREFILL_SECONDS, _DECODE_SECONDS = 0.7, 1.0
_MIN_TOKENS, _MAX_TOKENS = 8, 512
_N_CTX = 1024
_TEXT = "A slow ship sails south with salt, and comes back north in spring with spices and news. "


@dataclass(frozen=True, slots=True)
class Speed:
    """Seconds, tokens per second, and the numbers of tokens that they were measured on."""

    load_seconds: float
    prefill_tps: float
    decode_tps: float
    n_prefill: int
    n_decode: int


def measure(file: Path, limit_seconds: float = _LIMIT_SECONDS) -> Speed | child.Failure:
    """Return the model's speed, measured by a child process, or why there is none."""
    answer = child.run_json_child(
        "localgen.doctor.speed_probe", str(file), limit_seconds=limit_seconds
    )
    return answer if isinstance(answer, child.Failure) else Speed(**answer)


def _probe(file: str) -> dict[str, Any]:
    from localgen.llama.library import llama  # noqa: PLC0415  # loaded only in the child

    llama()  # so that loading a model does not count the library's own
    started = time.perf_counter()
    with LocalModel.from_pretrained(file, n_ctx=_N_CTX, use_profile=False) as model:
        loaded = time.perf_counter() - started
        rounds = _Rounds(model, model.tokenizer.encode(_TEXT * 80))
        n_prefill, prefill_tps = rounds.prefill()
        n_decode, decode_tps = rounds.decode()
    return asdict(Speed(loaded, prefill_tps, decode_tps, n_prefill, n_decode))


@dataclass(slots=True)
class _Rounds:
    """Calls whose prompts each start at another token of the text, so that nothing is reused."""

    model: LocalModel
    token_ids: list[int]
    n_calls: int = field(default=0, init=False)

    def prefill(self) -> tuple[int, float]:
        """Return the length and the speed, in tokens/s, of the last of several prompts.

        Each is twice as long as the one before; the first ones create the context and load the
        weights into memory.
        """
        started, n_tokens = time.perf_counter(), _MIN_TOKENS
        while True:
            stats = self._call(n_tokens, max_new_tokens=1)
            spent = time.perf_counter() - started
            if n_tokens >= _MAX_TOKENS or spent >= _PREFILL_SECONDS / 2:
                n_computed = stats.n_prompt - stats.n_cached
                return n_computed, n_computed / stats.prefill_seconds
            n_tokens *= 2

    def decode(self) -> tuple[int, float]:
        """Return how many tokens were generated in a second, and the rate after the first one."""
        stats = self._call(1, max_new_tokens=_MAX_TOKENS, max_time=_DECODE_SECONDS)
        return stats.n_new, stats.tokens_per_second or stats.n_new / stats.wall_seconds

    def _call(self, n_prompt: int, max_new_tokens: int, max_time: float | None = None) -> Stats:
        self.n_calls += 1
        prompt = self.token_ids[self.n_calls : self.n_calls + n_prompt]
        (done,) = self.model.complete(
            [prompt],
            max_new_tokens=max_new_tokens,
            max_time=max_time,
            eos_token_id=[],
            do_sample=False,
        )
        return done.stats


if __name__ == "__main__":
    child.answer(lambda: _probe(sys.argv[1]))
