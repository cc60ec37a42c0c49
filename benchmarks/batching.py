"""Measure what batching, KV cache reuse and the scheduler are worth.

    python benchmarks/batching.py                       # all cases
    python benchmarks/batching.py --only ragged chat

equal: 32 sequences of 128 + 64 tokens decode together, against llama.cpp alone in both layouts.
ragged: 64 prompts of 16 to 512 tokens with 16 to 256 new tokens, against serial `Llama` calls and
static batches of 32. shared: 32 prompts that begin with the same 512 tokens. chat: the tenth turn
of a chat. steps: the cost of a step besides sampling and llama.cpp. soak: 10,000 short calls.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import common
import numpy as np
from common import Row
from floors import clear, new_context, prompts_of, text_of

from localgen.llama.baseline import make_batch, prompt_batches, run_batches, step_batches

_EQUAL_ROWS, _EQUAL_PROMPT, _EQUAL_NEW = 32, 128, 64
_RAGGED_ROWS = 64
_SHARED_ROWS, _SHARED_PREFIX, _SHARED_NEW = 32, 512, 32
_TURNS, _HISTORY, _SHORT_PROMPT = 10, 1500, 30
_SOAK_CALLS, _SOAK_WARM = 10_000, 1_000
_NOTE = """\
Each figure is a ratio of two alternating measurements; above 1, localgen is faster. equal: decode
speed divided by that of llama.cpp alone, with kv_unified false and true. ragged: tokens per second
divided by those of serial `Llama` calls with the same threads, and by those of localgen in static
batches of 32. shared: seconds of prefill and of decoding without sharing divided by those with it.
chat: time to first token of the tenth turn divided by that of a prompt of 30 tokens;
baseline_by_short: the same for llama.cpp alone, where reuse costs nothing; n_cached, n_prompt: of
that turn. steps: microseconds of a step besides sampling and llama.cpp, by number of sequences.
soak: resident memory at the end divided by that after the first 1,000 calls."""


# --- equal rows ---


class BaselineContext:
    """llama.cpp alone, in its own context for ``prompts`` and the tokens after them."""

    def __init__(self, model: Any, completions: list[Any], *, unified: bool) -> None:
        backend = model._backend
        self._llama, self._backend = backend._llama, backend
        prompts = [done.prompt_token_ids for done in completions]
        new = [done.token_ids for done in completions]
        self._n_slots = len(prompts)
        self._n_tokens = len(prompts[0]) + len(new[0])
        self._unified = unified
        self._prefill = prompt_batches(self._llama, prompts, backend.n_batch)
        self._steps = step_batches(self._llama, prompts, new)

    def decode(self) -> float:
        """Return the seconds of all decode steps; the prefill before them is not timed."""
        per_slot = self._backend._slot_size(self._n_tokens)
        n_cells = -(-self._n_tokens // 256) * 256 if self._unified else per_slot
        n_ctx = n_cells * self._n_slots
        context = new_context(self._backend, self._n_slots, n_ctx, unified=self._unified)
        try:
            run_batches(self._llama, context, self._prefill)
            return run_batches(self._llama, context, self._steps)
        finally:
            self._llama.llama_free(context)


def equal(model: Any, n_rounds: int) -> list[Row]:
    """Decode 32 equal sequences by localgen, and by llama.cpp alone in both layouts."""
    prompts = prompts_of(model, _EQUAL_ROWS, _EQUAL_PROMPT)
    options = {"max_new_tokens": _EQUAL_NEW, "eos_token_id": []}
    done = model.complete(prompts, **options)
    floors = [BaselineContext(model, done, unified=unified) for unified in (False, True)]
    rounds = []
    for number in range(n_rounds):
        common.progress(f"equal: round {number + 1} of {n_rounds}")
        streams, unified = (floor.decode() for floor in floors)
        # Prompts are cached, so that all rows decode together from the first step on.
        model.complete(prompts, max_new_tokens=1)
        started = time.perf_counter()
        stats = model.complete(prompts, **options)[0].stats
        rounds.append((streams, unified, time.perf_counter() - started - stats.ttft))
    return [
        {
            "case": "equal",
            **common.spread("by_streams", [s / ours for s, _, ours in rounds]),
            **common.spread("by_unified", [u / ours for _, u, ours in rounds]),
        }
    ]


# --- ragged rows ---


def ragged_work(model: Any) -> tuple[list[list[int]], list[Any]]:
    """Return 64 prompts and their configs, the same in every run."""
    from localgen import GenerationConfig  # noqa: PLC0415  (the children import their own)

    random = np.random.RandomState(11)
    n_prompt = random.randint(16, 513, _RAGGED_ROWS)
    n_new = random.randint(16, 257, _RAGGED_ROWS)
    whole = prompts_of(model, _RAGGED_ROWS, 512)
    prompts = [ids[:n] for ids, n in zip(whole, n_prompt.tolist(), strict=True)]
    configs = [GenerationConfig(max_new_tokens=n, eos_token_id=[]) for n in n_new.tolist()]
    return prompts, configs


def ragged(model: Any, n_rounds: int) -> list[Row]:
    """Alternate continuous batching, static batches and serial `Llama` calls."""
    prompts, configs = ragged_work(model)
    n_tokens = sum(config.max_new_tokens for config in configs)
    llama = serial_llama(model)
    ways: dict[str, Callable[[], object]] = {
        "localgen": lambda: model.complete(prompts, generation_config=configs),
        "static": lambda: static_batches(model, prompts, configs),
        "llama": lambda: run_llama_serially(llama, prompts, configs),
    }
    rounds = []
    for number in range(n_rounds):
        common.progress(f"ragged: round {number + 1} of {n_rounds}")
        seconds = {}
        for name, run in ways.items():
            clear(model)
            started = time.perf_counter()
            run()
            seconds[name] = time.perf_counter() - started
        rounds.append(seconds)
    return [
        {
            "case": "ragged",
            **common.spread("tokens_per_s", [n_tokens / r["localgen"] for r in rounds]),
            **common.spread("by_llama", [r["llama"] / r["localgen"] for r in rounds]),
            **common.spread("by_static", [r["static"] / r["localgen"] for r in rounds]),
        }
    ]


def static_batches(model: Any, prompts: list[list[int]], configs: list[Any]) -> None:
    """Complete the prompts in batches of 32; each ends before the next one starts."""
    for i in range(0, len(prompts), 32):
        model.complete(prompts[i : i + 32], generation_config=configs[i : i + 32])
        clear(model)


def serial_llama(model: Any) -> Any:
    """Load llama-cpp-python's `Llama` on the same file with the same threads."""
    from llama_cpp import Llama  # noqa: PLC0415  (only this case needs it)

    threads = common.n_threads(model)
    return Llama(
        str(model._backend.path), n_ctx=1024, n_threads=threads, n_threads_batch=threads,
        verbose=False,
    )  # fmt: skip


def run_llama_serially(llama: Any, prompts: list[list[int]], configs: list[Any]) -> None:
    for prompt, config in zip(prompts, configs, strict=True):
        run_llama(llama, prompt, config.max_new_tokens)


def run_llama(llama: Any, prompt: list[int], n_new: int) -> None:
    """Generate exactly ``n_new`` greedy tokens after a prompt by `Llama.generate`."""
    llama.reset()
    for n_made, _ in enumerate(llama.generate(prompt, temp=0.0), start=1):
        if n_made == n_new:
            return


# --- shared prefix ---


def shared(model: Any, n_rounds: int) -> list[Row]:
    """Complete 32 prompts with a common beginning: prefilled once, and computed for each."""
    prefix = model.tokenizer.encode(text_of(model.tokenizer, _SHARED_PREFIX))
    ends = prompts_of(model, _SHARED_ROWS, 4)
    prompts = [[*prefix, *end] for end in ends]
    options = {"max_new_tokens": _SHARED_NEW, "eos_token_id": []}
    cache = model._driver._engine.kv_cache
    rounds = []
    for number in range(n_rounds):
        common.progress(f"shared: round {number + 1} of {n_rounds}")
        seconds = {}
        for reuses in (True, False):
            clear(model)
            cache._reuses = reuses
            prefill = model.complete(prompts, **options)[0].stats.prefill_seconds
            cache._reuses = True
            # Without sharing, sequences decode while others prefill: decoding is timed in a
            # second call, whose prompts are cached.
            model.complete(prompts, max_new_tokens=1)
            decode = model.complete(prompts, **options)[0].stats.decode_seconds
            seconds[reuses] = (prefill, decode)
        rounds.append(seconds)
    return [
        {
            "case": "shared",
            **common.spread("prefill", [r[False][0] / r[True][0] for r in rounds]),
            **common.spread("decode", [r[False][1] / r[True][1] for r in rounds]),
            **common.spread("prefill_s", [r[True][0] for r in rounds]),
        }
    ]


# --- a chat ---


def chat(model: Any, n_rounds: int) -> list[Row]:
    """Time the first token of a tenth turn after 1,500 tokens, and of a short prompt."""
    tokenizer = model.tokenizer
    short = tokenizer.encode(text_of(tokenizer, _SHORT_PROMPT, 7))
    question = tokenizer.encode(text_of(tokenizer, _SHORT_PROMPT, 90))
    rounds = []
    for _ in range(n_rounds):
        clear(model)
        history = tokenizer.encode(text_of(tokenizer, _HISTORY // _TURNS))
        for _turn in range(_TURNS - 1):
            done = model.complete([history], max_new_tokens=32, eos_token_id=[])[0]
            history += done.token_ids
            history += text_ids(tokenizer, _HISTORY // _TURNS - 32, len(history))
        model.complete([history[:_HISTORY]], max_new_tokens=2, eos_token_id=[])
        turn = model.complete([history[:_HISTORY] + question], max_new_tokens=2)[0].stats
        fresh = model.complete([short], max_new_tokens=2)[0].stats
        baseline = baseline_turn(model._backend, history[:_HISTORY], question, short)
        rounds.append((turn, fresh, *baseline))
    return [
        {
            "case": "chat",
            **common.spread("by_short", [turn.ttft / fresh.ttft for turn, fresh, *_ in rounds]),
            **common.spread("baseline_by_short", [turn / fresh for *_, turn, fresh in rounds]),
            **common.spread("turn_ms", [turn.ttft * 1e3 for turn, *_ in rounds]),
            **common.spread("short_ms", [fresh.ttft * 1e3 for _, fresh, *_ in rounds]),
            "n_cached": rounds[-1][0].n_cached,
            "n_prompt": rounds[-1][0].n_prompt,
        }
    ]


def baseline_turn(
    backend: Any, history: list[int], question: list[int], short: list[int]
) -> tuple[float, float]:
    """Return llama.cpp's seconds for ``question`` after ``history``, and for ``short`` alone."""
    llama = backend._llama
    context = new_context(backend, 1, backend._slot_size(len(history) + len(question)))

    def run(token_ids: list[int], start: int) -> float:
        n = len(token_ids)
        outputs = [0] * (n - 1) + [1]
        batch = make_batch(llama, token_ids, range(start, start + n), [0] * n, outputs)
        return run_batches(llama, context, [batch])

    try:
        for start in range(0, len(history), backend.n_batch):
            run(history[start : start + backend.n_batch], start)
        turn = run(question, len(history))
        llama.llama_memory_clear(llama.llama_get_memory(context), True)
        return turn, run(short, 0)
    finally:
        llama.llama_free(context)


def text_ids(tokenizer: Any, n_tokens: int, first: int) -> list[int]:
    """Return the token ids of a text; each ``first`` gives another one."""
    ids: list[int] = tokenizer.encode(common.PASSAGE * 9, add_special_tokens=False)
    first %= 500
    return ids[first : first + n_tokens]


# --- steps ---


@contextmanager
def without_forward_passes(model: Any) -> Iterator[None]:
    """Replace llama_decode by nothing, so that a step's time is localgen's own."""
    context, llama = model._backend._context, model._backend._llama

    class Bindings:
        """llama.cpp's bindings with one function replaced."""

        def __getattr__(self, name: str) -> Any:
            return getattr(llama, name)

        def llama_decode(self, _context: object, _batch: object) -> int:
            return 0

    context._llama = Bindings()
    try:
        yield
    finally:
        context._llama = llama


def steps(model: Any, n_rounds: int) -> list[Row]:
    """Measure the microseconds of a step outside llama.cpp and sampling, by batch size."""
    n_new = 128
    rows = []
    for n_rows in (1, 8, 32):
        prompts = prompts_of(model, n_rows, 16)
        model.complete(prompts, max_new_tokens=2, eos_token_id=[])
        times = []
        for _ in range(n_rounds):
            clear(model)
            with without_forward_passes(model):
                stats = model.complete(prompts, max_new_tokens=n_new, eos_token_id=[])[0].stats
            spent = stats.decode_seconds + stats.overhead_seconds + stats.text_seconds
            times.append(spent / (n_new - 1) * 1e6)
            clear(model)
        rows.append({"case": f"steps-{n_rows}", "rows": n_rows, **common.spread("us", times)})
    return rows


# --- soak ---


def soak(model: Any, _n_rounds: int) -> list[Row]:
    """Measure resident memory over 10,000 short calls."""
    tokenizer = model.tokenizer
    random = np.random.RandomState(5)
    ids = tokenizer.encode(common.PASSAGE * 3)
    started = time.perf_counter()
    warm = 0.0
    for number in range(_SOAK_CALLS):
        if number == _SOAK_WARM:
            warm = resident_mb()
        first, n_prompt, n_new = (
            int(random.randint(low, high)) for low, high in ((0, 200), (2, 9), (1, 3))
        )
        model.complete([ids[first : first + n_prompt]], max_new_tokens=n_new)
        if number % 1000 == 999:
            common.progress(f"soak: {number + 1} calls, {resident_mb():.1f} MB")
    cache = model._driver._engine.kv_cache
    return [
        {
            "case": "soak",
            "calls": _SOAK_CALLS,
            "seconds": time.perf_counter() - started,
            "growth": resident_mb() / warm,
            "resident_mb": resident_mb(),
            "running_rows": cache.n_running,
        }
    ]


def resident_mb() -> float:
    """Return this process's resident memory now, in MB."""
    import psutil  # noqa: PLC0415  (only this case needs it)

    return float(psutil.Process().memory_info().rss / 1e6)


CASES: dict[str, Callable[[Any, int], list[Row]]] = {
    "equal": equal, "ragged": ragged, "shared": shared, "chat": chat, "steps": steps, "soak": soak,
}  # fmt: skip


def main() -> None:
    """Run the chosen cases and report them."""
    from localgen import LocalModel  # noqa: PLC0415  (after the arguments were read)

    parser = common.argument_parser(__doc__, rounds=3, new_tokens=64)
    parser.add_argument("--only", nargs="+", metavar="CASE", choices=[*CASES])
    options = parser.parse_args()
    rows: list[Row] = []
    threads = 0
    for name in options.only or CASES:
        common.progress(f"{name}: {options.rounds} rounds")
        with LocalModel.from_pretrained(options.model) as model:
            threads = common.n_threads(model)
            rows += CASES[name](model, options.rounds)
    common.report("batching", rows, options, threads=threads, note=_NOTE)


if __name__ == "__main__":
    main()
