"""Measure the time and memory that localgen adds to llama.cpp.

The floor is llama.cpp alone in the faster of both settings for that work, with flash attention or
without: both are run, in contexts of their own on the same weights (see floors.py), and alternate
with localgen. A ratio is the faster floor's time divided by localgen's: 1 means no overhead. Each
round makes all contexts anew, since where their memory lies changes their speed by some percent,
and the one that is made first takes turns.

    python benchmarks/overhead.py                  # all cases
    python benchmarks/overhead.py --only decode-1@10 prefill-512 --rounds 20
    python benchmarks/overhead.py --peak-memory    # peak memory of two fresh processes

decode-8@200 are 8 sequences after prompts of 200 tokens, greedily and with the chain of filters. At
depth 10 they get all new tokens, deeper ones half as many, of which the depth changes less.
"""

from __future__ import annotations

import importlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import common
from common import CHAIN, Row
from floors import Floors, clear, floor_columns, free_context, prompts_of, text_of

from localgen.config import SamplingOptions
from localgen.llama.backend import FLASH_ATTENTION_TYPES
from localgen.llama.baseline import prompt_batches, run_batches, step_batches

_MEMORY_PROMPT = 128
_SETTLING_CALLS = 4
_NOTE = """\
ratio is the time of the faster floor divided by localgen's, in each round: 1 means no overhead.
floor is the setting of flash attention whose floor has the faster median; floor_on and floor_off
are both. Decoding is timed from the first token to the return of `complete()`, text included;
`prefill-512-pass` is the forward passes alone, `prefill-512-call` the whole of `complete()` with
one new token. The chain is temperature 0.8, top_k 40, top_p 0.95, min_p 0.05, repetition_penalty
1.1, with a seed for each sequence; llama_chain_ratio compares it with llama.cpp's own samplers
after the passes of its loop, in localgen's setting of flash attention. attention is what localgen
ran with, where its statistics say so. sample_us, text_us and python_us are microseconds per step
outside llama.cpp, for all sequences together: choosing tokens, making text, and the rest."""
_MEMORY_NOTE = """\
Peak resident memory of a process that loads the model, creates a context, prefills 128 tokens and
decodes the rest: through llama_cpp's bindings alone, with a context for this one sequence, and
through localgen, whose context has room for some later sequences as well."""

_SAMPLED: dict[str, Any] = {"do_sample": True, **CHAIN}


@dataclass(frozen=True)
class Decode:
    """``n_rows`` sequences that decode after prompts of ``depth`` tokens."""

    n_rows: int
    depth: int

    @property
    def name(self) -> str:
        return f"decode-{self.n_rows}@{self.depth}"

    def n_new(self, asked: int) -> int:
        return asked if self.depth <= 10 else max(2, asked // 2)

    def ways(self) -> dict[str, Row]:
        """Return the options of each way to choose a token, by the name of its row."""
        # One seed a sequence, so that its draws do not depend on the others.
        return {"greedy": {}, "chain": {**CHAIN, "seed": list(range(self.n_rows))}}


@dataclass(frozen=True)
class Prefill:
    """One prompt of ``n_prompt`` tokens."""

    n_prompt: int

    @property
    def name(self) -> str:
        return f"prefill-{self.n_prompt}"


_DECODES = ((1, 10), (8, 10), (32, 10), (1, 200), (8, 200), (1, 500), (1, 1000), (1, 1500))
_CASES: list[Decode | Prefill] = [
    *(Decode(n_rows, depth) for n_rows, depth in _DECODES),
    *(Prefill(n_prompt) for n_prompt in (128, 512, 1500)),
]
CASES = {case.name: case for case in _CASES}


# --- floors and localgen, alternating ---


def alternate(
    ways: dict[str, Callable[[], Any]], n_rounds: int, before_round: Callable[[int], object]
) -> list[Row]:
    """Return what each way returned, in each round; every other round runs them backwards.

    before_round: called with the number of the round, from 0 on.
    """
    rounds = []
    for number in range(n_rounds):
        before_round(number)
        names = list(ways) if number % 2 == 0 else list(reversed(ways))
        rounds.append({name: ways[name]() for name in names})
    return rounds


def decode_seconds(model: Any, prompts: list[list[int]], options: Row) -> tuple[float, Any]:
    """Return localgen's seconds from its first token to its return, and its statistics."""
    started = time.perf_counter()
    stats = model.complete(prompts, **options)[0].stats
    return time.perf_counter() - started - stats.ttft, stats


def measure_decode(model: Any, case: Decode, options: Any) -> tuple[list[Row], Any]:
    """Return the rows of one decode case, greedy and with the chain, and the rounds."""
    prompts = prompts_of(model, case.n_rows, case.depth)
    n_new = case.n_new(options.new_tokens)
    fixed = {"max_new_tokens": n_new, "eos_token_id": []}
    completions = model.complete(prompts, **fixed)

    def settle() -> None:
        # Their prompts are cached from here on, so that all sequences decode together, and
        # attention settles: one short call after its prompt is not worth another KV cache.
        for _ in range(_SETTLING_CALLS):
            model.complete(prompts, **fixed)

    with Floors(model, completions) as floors:
        renew = partial(floors.renew, free_ours=partial(free_context, model), ours=settle)
        ways: dict[str, Callable[[], Any]] = {
            setting: floor.decode for setting, floor in floors.by_setting.items()
        }
        for way, more in case.ways().items():
            ways[way] = partial(decode_seconds, model, prompts, {**fixed, **more})
        same_setting = floors.by_setting[model._backend.flash_attention]
        ways["llama_chain"] = partial(same_setting.decode_and_sample, SamplingOptions(**_SAMPLED))
        rounds = alternate(ways, options.rounds, renew)
    rows = []
    for way in case.ways():
        stats = [found[way][1] for found in rounds]
        for found in rounds:
            found[way] = found[way][0]
        rows.append(
            {
                **common_columns(f"{case.name}-{way}", case.n_rows, case.depth, n_new),
                **floor_columns(rounds, case.n_rows * (n_new - 1), way),
                **(llama_chain_column(rounds) if way == "chain" else {}),
                **attention_column(stats),
                **parts_of_a_step(stats, n_new),
            }
        )
    return rows, rounds


def llama_chain_column(rounds: list[Row]) -> Row:
    """Return the ratio to llama.cpp with its own samplers, which choose by the same options."""
    return common.spread("llama_chain_ratio", [r["llama_chain"] / r["chain"] for r in rounds])


def parts_of_a_step(stats: list[Any], n_new: int) -> Row:
    """Return the microseconds of a step outside llama.cpp, by what they were for."""
    parts = {"sample": "sample_seconds", "text": "text_seconds", "python": "overhead_seconds"}
    return {
        f"{name}_us": common.median([{name: getattr(each, field)} for each in stats], name)
        / n_new
        * 1e6
        for name, field in parts.items()
    }


def attention_column(stats: list[Any]) -> Row:
    """Return the flash attention that localgen ran with, where its statistics say so."""
    found = {str(getattr(each, "flash_attention", "")) for each in stats} - {""}
    return {"attention": ", ".join(sorted(found))} if found else {}


def measure_prefill(model: Any, case: Prefill, options: Any) -> tuple[list[Row], Any]:
    """Return the rows of one prompt: its forward passes, and the whole call with one new token."""
    prompt = text_of(model.tokenizer, case.n_prompt)
    fixed = {"max_new_tokens": 1, "eos_token_id": []}

    def localgen() -> tuple[float, Any]:
        clear(model)
        started = time.perf_counter()
        stats = model.complete([prompt], **fixed)[0].stats
        return time.perf_counter() - started, stats

    with Floors(model, model.complete([prompt], **fixed)) as floors:
        renew = partial(floors.renew, free_ours=partial(free_context, model), ours=localgen)
        ways: dict[str, Callable[[], Any]] = {
            setting: floor.prefill for setting, floor in floors.by_setting.items()
        }
        rounds = alternate({**ways, "call": localgen}, options.rounds, renew)
    stats = [found["call"][1] for found in rounds]
    for found in rounds:
        found["call"], found["pass"] = found["call"][0], found["call"][1].prefill_seconds
    rows = [
        {
            **common_columns(f"{case.name}-{what}", 1, case.n_prompt, 1),
            **floor_columns(rounds, case.n_prompt, what),
            **attention_column(stats),
        }
        for what in ("pass", "call")
    ]
    return rows, rounds


def common_columns(case: str, n_rows: int, n_prompt: int, n_new: int) -> Row:
    """Return the columns that identify a row."""
    return {"case": case, "rows": n_rows, "n_prompt": n_prompt, "n_new": n_new}


def measure(options: Any) -> None:
    """Run the chosen cases and report them."""
    from localgen import LocalModel  # noqa: PLC0415  (the children for memory import their own)

    rows: list[Row] = []
    rounds: dict[str, Any] = {}
    for name in options.only or CASES:
        common.progress(f"{name}: {options.rounds} rounds")
        # A model for each case, whose context is exactly as large as the case needs.
        with LocalModel.from_pretrained(options.model, n_threads=options.threads) as model:
            threads = common.n_threads(model)
            case = CASES[name]
            if isinstance(case, Decode):
                found, rounds[name] = measure_decode(model, case, options)
            else:
                found, rounds[name] = measure_prefill(model, case, options)
        rows += found
        common.progress("".join(f"  {r['case']}: ratio {r['ratio']:.3f}\n" for r in found).rstrip())
    common.report("overhead", rows, options, threads=threads, note=_NOTE, rounds=rounds)


# --- memory, in processes of their own ---


def localgen_memory(model: str, n_new: int) -> Row:
    """Run localgen in the child; report how its context was made."""
    localgen = importlib.import_module("localgen")
    with localgen.LocalModel.from_pretrained(model) as loaded:
        prompt = text_of(loaded.tokenizer, _MEMORY_PROMPT)
        done = loaded.complete(prompt, max_new_tokens=n_new, eos_token_id=[])
        backend = loaded._backend
        return {
            "peak_mb": common.peak_memory_mb(),
            "path": str(backend.path),
            "prompt": done.prompt_token_ids,
            "new": done.token_ids,
            "n_gpu_layers": backend.n_gpu_layers,
            "use_extra_bufts": importlib.import_module("localgen.llama.amx").is_safe(),
            "n_ctx": backend.n_ctx_seq,
            "flash_attention": backend.flash_attention,
            "n_batch": backend.n_batch,
            "n_ubatch": backend.n_ubatch,
            "n_threads": backend.n_threads,
        }


def baseline_memory(like: Row) -> Row:
    """Repeat in the child what the other one did, by llama.cpp's bindings alone."""
    llama = importlib.import_module("llama_cpp.llama_cpp")
    silent = llama.llama_log_callback(lambda *_: None)
    llama.llama_log_set(silent, None)
    llama.llama_backend_init()
    model_params = llama.llama_model_default_params()
    model_params.n_gpu_layers = like["n_gpu_layers"]
    model_params.use_extra_bufts = like["use_extra_bufts"]
    model = llama.llama_model_load_from_file(os.fsencode(like["path"]), model_params)
    params = llama.llama_context_default_params()
    params.n_ctx, params.n_seq_max, params.kv_unified = like["n_ctx"], 1, False
    params.n_batch, params.n_ubatch = like["n_batch"], like["n_ubatch"]
    params.n_threads = params.n_threads_batch = like["n_threads"]
    params.flash_attn_type = FLASH_ATTENTION_TYPES[like["flash_attention"]]
    context = llama.llama_init_from_model(model, params)
    run_batches(llama, context, prompt_batches(llama, [like["prompt"]], like["n_batch"]))
    run_batches(llama, context, step_batches(llama, [like["prompt"]], [like["new"]]))
    peak = common.peak_memory_mb()
    llama.llama_free(context)
    llama.llama_model_free(model)
    return {"peak_mb": peak}


def measure_memory(options: Any) -> None:
    """Measure the peak memory of both children in turn, and the difference."""
    rounds = []
    for number in range(options.rounds):
        common.progress(f"memory: round {number + 1} of {options.rounds}")
        task = {"model": options.model, "n_new": options.new_tokens}
        ours = common.run_child({"localgen_memory": task})
        baseline = common.run_child({"baseline_memory": {"like": ours}})
        rounds.append({"baseline": baseline["peak_mb"], "localgen": ours["peak_mb"]})
    row = {
        "n_prompt": _MEMORY_PROMPT,
        "n_new": options.new_tokens,
        **common.spread("baseline_mb", [r["baseline"] for r in rounds]),
        **common.spread("localgen_mb", [r["localgen"] for r in rounds]),
        **common.spread("difference_mb", [r["localgen"] - r["baseline"] for r in rounds]),
    }
    threads = ours["n_threads"]
    common.report("memory", [row], options, threads=threads, note=_MEMORY_NOTE)


def main() -> None:
    """Measure time, or with --peak-memory, memory."""
    parser = common.argument_parser(__doc__, rounds=3, new_tokens=100)
    parser.add_argument("--only", nargs="+", metavar="CASE", choices=[*CASES])
    parser.add_argument("--threads", type=int, help="CPU threads; default: all CPUs")
    parser.add_argument("--peak-memory", action="store_true", help="measure memory, not time")
    options = parser.parse_args()
    if options.new_tokens < 2 or options.rounds < 1:
        parser.error("--new-tokens must be at least 2, --rounds at least 1")
    if options.child:
        children: dict[str, Any] = {
            "localgen_memory": localgen_memory,
            "baseline_memory": baseline_memory,
        }
        ((name, task),) = options.child.items()
        print(json.dumps(children[name](**task)))
    elif options.peak_memory:
        measure_memory(options)
    else:
        measure(options)


if __name__ == "__main__":
    main()
