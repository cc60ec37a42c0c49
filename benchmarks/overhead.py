"""Measure the time and memory that localgen adds to llama.cpp.

The floor is a plain loop of llama_decode calls on prefilled batches: the tokens that localgen
generated, at the same positions in the same context, with one llama_get_logits a step; no sampling,
no text, no Python between the calls. Floor and localgen alternate. A ratio is the floor's time
divided by localgen's: 1 means no overhead.

    python benchmarks/overhead.py                  # decode at batch 1, 8 and 32, and prefill
    python benchmarks/overhead.py --peak-memory    # peak memory of two fresh processes
"""

from __future__ import annotations

import importlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import common
from common import CHAIN, PASSAGE, Row

from localgen.llama.backend import FLASH_ATTENTION_TYPES
from localgen.llama.baseline import Baseline, prompt_batches, run_batches, step_batches

_PREFILL_TOKENS = 512
_MEMORY_PROMPT = 128
_NOTE = """\
ratio is the floor's time divided by localgen's, in each round: 1 means no overhead. Decoding is
timed from the first token to the return of `complete()`, text included; `prefill-512-pass` is the
forward pass alone, `prefill-512-call` the whole of `complete()` with one new token. The chain is
temperature 0.8, top_k 40, top_p 0.95, min_p 0.05, repetition_penalty 1.1, with a seed for each
sequence. sample_us, text_us and python_us are microseconds per step outside llama.cpp, for all
sequences together: choosing tokens, making text, and the rest."""
_MEMORY_NOTE = """\
Peak resident memory of a process that loads the model, creates a context, prefills 128 tokens and
decodes the rest: through llama_cpp's bindings alone, with a context for this one sequence, and
through localgen, whose context has room for some later sequences as well."""


@dataclass(frozen=True)
class Case:
    """A batch of ``n_rows`` prompts to decode, ``sampled`` with the chain or greedily."""

    n_rows: int
    sampled: bool

    @property
    def n_prompt(self) -> int:
        """Return the tokens of each prompt: as many as fit all prompts into one forward pass."""
        return min(64, 512 // self.n_rows)

    @property
    def options(self) -> Row:
        # One seed a sequence, so that its draws do not depend on the others.
        return {**CHAIN, "seed": list(range(self.n_rows))} if self.sampled else {}


CASES = {
    f"decode-{n_rows}-{'chain' if sampled else 'greedy'}": Case(n_rows, sampled)
    for n_rows in (1, 8, 32)
    for sampled in (False, True)
}
PREFILL = f"prefill-{_PREFILL_TOKENS}"


# --- the floor ---


def new_context(backend: Any, n_seqs: int, n_ctx: int, *, unified: bool = False) -> Any:
    """Create a context of ``n_ctx`` tokens in all, with the parameters that a LocalModel uses."""
    params = backend._llama.llama_context_default_params()
    params.n_ctx, params.n_seq_max, params.kv_unified = n_ctx, n_seqs, unified
    params.n_batch = params.n_ubatch = backend.n_batch
    params.n_threads = params.n_threads_batch = backend.n_threads
    params.flash_attn_type = FLASH_ATTENTION_TYPES[backend.flash_attention]
    return backend._llama.llama_init_from_model(backend._model, params)


class Floor:
    """llama.cpp alone, in the context of a LocalModel's own backend.

    Each run empties the KV cache, so that localgen has no prefix to reuse.
    """

    def __init__(self, model: Any, completions: Sequence[Any]) -> None:
        self._baseline = baseline = Baseline(model._backend)
        prompts = [done.prompt_token_ids for done in completions]
        new = [done.token_ids for done in completions]
        self._prefill = baseline.fill(prompts, [ids[:1] for ids in new])
        self._decode = baseline.fill(prompts, new, n_cached=len(prompts[0]))

    def prefill(self) -> float:
        """Return the seconds of one forward pass over all prompts, on an empty KV cache."""
        return self._baseline.seconds(self._prefill)

    def decode(self) -> float:
        """Return the seconds of all decode steps; the prefill before them is not timed."""
        return self._baseline.seconds(self._decode)


# --- floor and localgen, alternating ---


def text_of(tokenizer: Any, n_tokens: int, first: int = 0) -> str:
    """Return a text of exactly ``n_tokens`` tokens, from token ``first`` of the passage."""
    ids = tokenizer.encode(PASSAGE * (2 + (first + n_tokens) // 100), add_special_tokens=False)
    for start in range(first, first + 50):
        for length in (n_tokens, n_tokens - 1):  # some tokenizers add a first token
            text = tokenizer.decode(ids[start : start + length])
            if len(tokenizer.encode(text)) == n_tokens:
                return str(text)
    raise ValueError(f"no part of the passage has {n_tokens} tokens; choose another number")


def decode_round(model: Any, prompts: list[list[int]], options: Row, floor: Floor) -> Row:
    """Time localgen between two runs of the floor, from its first token, and its parts."""
    before = floor.decode()
    started = time.perf_counter()
    stats = model.complete(prompts, **options)[0].stats
    seconds = time.perf_counter() - started - stats.ttft
    return {
        "floor": (before + floor.decode()) / 2,
        "localgen": seconds,
        "sample": stats.sample_seconds,
        "text": stats.text_seconds,
        "python": stats.overhead_seconds,
    }


def decode_row(model: Any, name: str, case: Case, n_new: int, n_rounds: int) -> tuple[Row, Any]:
    """Return the row of one decode case, and its rounds."""
    texts = [text_of(model.tokenizer, case.n_prompt, row) for row in range(case.n_rows)]
    # As token ids, so that text_seconds is what the new text takes.
    prompts = [model.tokenizer.encode(text) for text in texts]
    options = {"max_new_tokens": n_new, "eos_token_id": [], **case.options}
    floor = Floor(model, model.complete(prompts, **options))
    rounds = [decode_round(model, prompts, options, floor) for _ in range(n_rounds)]
    n_tokens = case.n_rows * (n_new - 1)
    row = {
        **common_columns(name, case.n_rows, case.n_prompt, n_new),
        **common.spread("ratio", [r["floor"] / r["localgen"] for r in rounds]),
        **common.spread("floor_tokens_per_s", [n_tokens / r["floor"] for r in rounds]),
        **common.spread("localgen_tokens_per_s", [n_tokens / r["localgen"] for r in rounds]),
        **{f"{k}_us": common.median(rounds, k) / n_new * 1e6 for k in ("sample", "text", "python")},
    }
    return row, rounds


def prefill_rows(model: Any, n_rounds: int) -> tuple[list[Row], Any]:
    """Return the rows of one prompt: its forward pass, and the whole call with one new token."""
    prompt = text_of(model.tokenizer, _PREFILL_TOKENS)
    options = {"max_new_tokens": 1, "eos_token_id": []}
    floor = Floor(model, model.complete([prompt], **options))
    rounds = []
    for _ in range(n_rounds):
        floor_seconds = floor.prefill()
        started = time.perf_counter()
        stats = model.complete([prompt], **options)[0].stats
        seconds = time.perf_counter() - started
        rounds.append({"floor": floor_seconds, "call": seconds, "pass": stats.prefill_seconds})
    rows = [
        {
            **common_columns(f"{PREFILL}-{what}", 1, _PREFILL_TOKENS, 1),
            **common.spread("ratio", [r["floor"] / r[what] for r in rounds]),
            **common.spread("floor_tokens_per_s", [_PREFILL_TOKENS / r["floor"] for r in rounds]),
            **common.spread("localgen_tokens_per_s", [_PREFILL_TOKENS / r[what] for r in rounds]),
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
    for name in options.only or [*CASES, PREFILL]:
        common.progress(f"{name}: {options.rounds} rounds")
        # A model for each case, whose context is exactly as large as the case needs.
        with LocalModel.from_pretrained(options.model, n_threads=options.threads) as model:
            threads = common.n_threads(model)
            if name == PREFILL:
                found, rounds[name] = prefill_rows(model, options.rounds)
            else:
                row, rounds[name] = decode_row(
                    model, name, CASES[name], options.new_tokens, options.rounds
                )
                found = [row]
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
    params.n_batch = params.n_ubatch = like["n_batch"]
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
    parser = common.argument_parser(__doc__, rounds=5, new_tokens=64)
    parser.add_argument("--only", nargs="+", metavar="CASE", choices=[*CASES, PREFILL])
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
