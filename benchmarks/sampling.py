"""Measure the microseconds to choose one token from a row of logits; needs no model.

    python benchmarks/sampling.py [--repeats N] [--output DIR]

Each chain of filters is timed as the engine runs it: ``Sampler.sample`` for a sequence of 400
tokens, on one row of logits; and beside it the same chain by llama.cpp's samplers, and by a full
sort of the vocabulary. The last line of the output is one JSON object. On a busy machine, trust the
minima.
"""

from __future__ import annotations

import argparse
import datetime
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import numpy as np
from llama_samplers import LlamaChain

from localgen.config import SamplingOptions
from localgen.engine.sampling.chain import Sampler
from localgen.engine.sequence import Sequence
from localgen.engine.trackers import TokenCounts
from localgen.engine.uniforms import UniformStream

VOCABULARIES = (49_152, 151_936, 262_144)
N_PROMPT = 400
WITHOUT_PENALTY = {k: v for k, v in common.CHAIN.items() if k != "repetition_penalty"}

# Name, shape of the logits, options.
CHAINS: list[tuple[str, str, dict[str, Any]]] = [
    ("greedy", "peaked", {"do_sample": False}),
    ("full chain", "peaked", common.CHAIN),
    ("chain without penalty", "peaked", WITHOUT_PENALTY),
    ("top_k 50", "peaked", {"top_k": 50}),
    ("top_p 0.95", "peaked", {"top_p": 0.95}),
    ("top_p 0.95", "flat", {"top_p": 0.95}),
    ("min_p 0.05", "peaked", {"min_p": 0.05}),
    ("typical_p 0.9, top_k 50", "peaked", {"typical_p": 0.9, "top_k": 50}),
    ("temperature 0.8", "peaked", {"temperature": 0.8}),
]


def make_logits(n_vocab: int, shape: str) -> np.ndarray:
    """Return logits (n_vocab,): Zipf's law with noise, as a model's are, or noise alone."""
    random = np.random.RandomState(0)
    noise = random.standard_normal(n_vocab)
    if shape == "flat":
        return noise.astype(np.float32)
    ranks = random.permutation(n_vocab)
    return (12 - 1.9 * np.log1p(ranks) + 0.5 * noise).astype(np.float32)


def make_sequence(n_vocab: int, options: SamplingOptions) -> Sequence:
    """A row whose prompt has about ``N_PROMPT`` different tokens."""
    prompt_ids = np.random.RandomState(1).randint(0, n_vocab, N_PROMPT).astype(np.int32)
    return Sequence(
        index=0,
        prompt_ids=prompt_ids,
        max_new_tokens=1,
        eos_token_ids=frozenset({0}),
        sampler=Sampler(options, n_vocab),
        uniform=UniformStream(0, 0),
        trackers=(TokenCounts(prompt_ids, 1),),
    )


def sample_by_full_sort(logits: np.ndarray, sequence: Sequence, o: SamplingOptions) -> int:
    """Sample with the whole vocabulary sorted, and no search for candidates."""
    if o.repetition_penalty != 1.0:
        logits = logits.copy()
        seen = np.unique(sequence.tokens[: sequence.n_tokens])
        values = logits[seen]
        logits[seen] = np.where(
            values < 0, values * o.repetition_penalty, values / o.repetition_penalty
        )
    if not o.do_sample:
        return int(logits.argsort()[-1])
    order = logits.argsort()[::-1]
    scores = logits[order] / np.float32(o.temperature)
    if o.top_k:
        scores = scores[scores >= scores[o.top_k - 1]]
    weights = np.exp(scores - scores[0])
    before = weights.cumsum(dtype=np.float64) - weights
    weights[(before >= o.top_p * weights.sum()) & (o.top_p < 1.0)] = 0.0
    weights[weights < (o.min_p or 0.0)] = 0.0
    if o.typical_p < 1.0:
        weights = keep_typical(weights, o.typical_p)
    running = weights.cumsum(dtype=np.float64)
    return int(order[running.searchsorted(sequence.uniform() * running[-1], side="right")])


def keep_typical(weights: np.ndarray, mass: float) -> np.ndarray:
    """Return ``weights`` with 0 for all but those nearest to the entropy that hold ``mass``."""
    p = weights / weights.sum()
    surprise = -np.log(np.maximum(p, np.finfo(np.float32).tiny))
    distance = np.abs(surprise - (p * surprise).sum())
    order = distance.argsort()
    last = min(int((p[order].cumsum() < mass).sum()), len(p) - 1)
    return np.where(distance <= distance[order[last]], weights, np.float32(0))


def microseconds(name: str, call: Callable[[], object], repeats: int) -> common.Row:
    """Return the median, least and most time of a call, after a few warm-up calls."""
    for _ in range(3):
        call()
    times = []
    for _ in range(repeats):
        started = time.perf_counter_ns()
        call()
        times.append(round((time.perf_counter_ns() - started) / 1000, 1))
    return common.spread(name, times)


def measure(n_vocab: int, name: str, shape: str, chain: dict[str, Any], repeats: int) -> common.Row:
    """Return one row: a chain by localgen, by llama.cpp, and by a full sort with fewer repeats."""
    options = SamplingOptions(**{"do_sample": True, "top_k": 0, **chain})
    sequence = make_sequence(n_vocab, options)
    logits = make_logits(n_vocab, shape)
    llama = LlamaChain(n_vocab, options, sequence.prompt_ids)
    row = {
        "n_vocab": n_vocab,
        "chain": name,
        "logits": shape,
        **microseconds("us", lambda: sequence.sampler.sample(logits, sequence), repeats),
        **microseconds("llama_us", lambda: llama.sample(logits), repeats),
        **microseconds(
            "full_sort_us",
            lambda: sample_by_full_sort(logits, sequence, options),
            max(3, repeats // 20),
        ),
    }
    llama.close()
    return row


def show(row: common.Row) -> None:
    """Print one line of the table."""
    print(
        f"{row['n_vocab']:8}  {row['chain']:25}{row['logits']:8}"
        f"{row['us']:10.1f}{row['us_min']:10.1f}"
        f"{row['llama_us']:10.1f}{row['llama_us_min']:10.1f}"
        f"{row['full_sort_us']:12.1f}{row['full_sort_us_min']:11.1f}",
        flush=True,
    )


def main() -> None:
    """Read the arguments, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--repeats", type=int, default=300, help="time each chain this often; default: %(default)s"
    )
    parser.add_argument("--output", type=Path, help="write sampling.json to this folder")
    arguments = parser.parse_args()
    if arguments.repeats < 1:
        parser.error("--repeats must be at least 1")
    print(f"{'':43}{'localgen, µs':>20}{'llama.cpp, µs':>20}{'full sort, µs':>23}")
    print(f"{'n_vocab':>8}  {'chain':25}{'logits':8}", end="")
    print(f"{'median':>10}{'min':>10}{'median':>10}{'min':>10}{'median':>12}{'min':>11}")
    rows = []
    for n_vocab in VOCABULARIES:
        for name, shape, chain in CHAINS:
            rows.append(measure(n_vocab, name, shape, chain, arguments.repeats))
            show(rows[-1])
    result = {
        "benchmark": "sampling",
        "note": "Microseconds to choose one token from a row of logits, median and extremes.",
        "command": common.command_line(),
        "cpu": common.cpu_name(),
        "n_cpus": common.usable_cpus(),
        "threads": 1,
        "versions": common.versions(),
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "n_repeats": arguments.repeats,
        "rows": rows,
    }
    line = json.dumps(result)
    if arguments.output is not None:
        arguments.output.mkdir(parents=True, exist_ok=True)
        (arguments.output / "sampling.json").write_text(line + "\n", encoding="utf-8")
    print(line)


if __name__ == "__main__":
    main()
