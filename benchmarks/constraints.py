"""Measure what constraints cost a pass and a token, and what forced tokens gain.

    python benchmarks/constraints.py [--rounds N] [--new-tokens N] [--output DIR]

Calls alternate: 8 free sequences and 8 with a constraint that forces nothing, by the seconds of a
pass; and records with long keys, once as they are and once with an option that keeps tokens from
being forced, by tokens in a second, 1 record and 8 together. Then the microseconds of a mask and of
applying it, for each token of such a record, and the milliseconds to compile a schema of 2,551
lines, the first time and again. The last line of the output is one JSON object.
"""

from __future__ import annotations

import json
import time
from typing import Any

import common
import numpy as np

from localgen import Completion, GenerationConfig, LocalModel
from localgen.engine.sampling.masks import limit, limits

N_ROWS = 8
WORDS = ["cat", "dog", "sea", "sun", "man", "cow", "tree", "house"]
STORIES = [f"The story of the {word} begins" for word in WORDS]
FREE_TEXT = r"[a-zA-Z ,.'\n]{2000}"
KEYS = ("full_name_of_the_person", "year_in_which_the_person_was_born", "is_currently_employed")
RECORD = {
    "type": "object",
    "properties": {
        KEYS[0]: {"type": "string", "maxLength": 20},
        KEYS[1]: {"type": "integer", "minimum": 1900, "maximum": 2025},
        KEYS[2]: {"type": "boolean"},
    },
    "required": list(KEYS),
    "additionalProperties": False,
}
PEOPLE = [f"A person who has a {word}, as JSON:\n" for word in WORDS]


def pass_seconds(done: list[Completion]) -> float:
    """Return the seconds of a pass of a call, prompts excepted."""
    stats = done[0].stats
    return (stats.wall_seconds - stats.prefill_seconds) / stats.n_passes


def tokens_per_second(done: list[Completion]) -> float:
    """Return the tokens of all sequences by the seconds of a call, prompts excepted."""
    stats = done[0].stats
    return sum(each.stats.n_new for each in done) / (stats.wall_seconds - stats.prefill_seconds)


def measure_round(model: LocalModel, n_new: int) -> dict[str, float]:
    """Run each kind of call once."""
    lengths: dict[str, Any] = {"max_new_tokens": n_new, "min_new_tokens": n_new}
    free = model.complete(STORIES, **lengths)
    bound = model.complete(STORIES, regex=FREE_TEXT, **lengths)
    return {
        "free_ms": 1e3 * pass_seconds(free),
        "bound_ms": 1e3 * pass_seconds(bound),
        "ratio": pass_seconds(free) / pass_seconds(bound),
        **forced_gain(model, 1),
        **forced_gain(model, N_ROWS),
    }


def forced_gain(model: LocalModel, n_records: int) -> dict[str, float]:
    """Return the speeds of records, with tokens forced and each of them asked about."""
    options: dict[str, Any] = {"json_schema": RECORD, "max_new_tokens": 120}
    forced = model.complete(PEOPLE[:n_records], **options)
    # An end is no part of a text, so this changes none; but it could be.
    asked = model.complete(
        PEOPLE[:n_records], suppress_tokens=[model.tokenizer.eos_token_id], **options
    )
    assert all(each.is_valid for each in forced + asked)
    return {
        f"forced_{n_records}": tokens_per_second(forced),
        f"asked_{n_records}": tokens_per_second(asked),
        f"gain_{n_records}": tokens_per_second(forced) / tokens_per_second(asked),
        f"passes_forced_{n_records}": forced[0].stats.n_passes,
        f"passes_asked_{n_records}": asked[0].stats.n_passes,
    }


def mask_microseconds(model: LocalModel) -> list[common.Row]:
    """Return the microseconds of a mask, and of applying it, at each token of a record."""
    done = model.complete(PEOPLE[0], json_schema=RECORD, max_new_tokens=120)
    request = model._requests.from_texts(PEOPLE[0], None, {"json_schema": RECORD}, False)
    matcher = next(iter(request.constraint_of.values())).matcher()
    n_vocab = model.tokenizer.vocab_size
    logits = np.random.RandomState(0).standard_normal(n_vocab).astype(np.float32)
    row, most = np.empty(n_vocab, np.float32), np.empty(-(-n_vocab // 8) * 8, np.float32)
    masks, applied = [], []
    for token_id in done.token_ids:
        started = time.perf_counter()
        mask = matcher.mask()
        made = time.perf_counter()
        limit(logits, limits(mask, most), row)
        masks.append(1e6 * (made - started))
        applied.append(1e6 * (time.perf_counter() - made))
        matcher.accept(token_id)
    both = [a + b for a, b in zip(masks, applied, strict=True)]
    return [
        common.spread(name, values)
        for name, values in (("mask", masks), ("apply", applied), ("both", both))
    ]


def large_schema(number: int) -> str:
    """Return a schema of 2,551 lines: 24 nested records of 16 properties in turns."""
    kinds: list[dict[str, Any]] = [
        {"type": "string", "minLength": 1, "maxLength": 40},
        {"type": "integer", "minimum": 0, "maximum": 10_000},
        {"enum": ["red", "green", "blue"]},
        {"type": "array", "items": {"type": "number"}, "maxItems": 8},
        {"type": "string", "format": "date"},
        {"type": "boolean"},
        {"anyOf": [{"type": "null"}, {"type": "string"}]},
        {"type": "string", "pattern": "^[A-Z]{3}-[0-9]{4}$"},
    ]
    records = {
        f"record_{number}_{record}": {
            "type": "object",
            "properties": {f"property_{i}": kinds[(record + i) % len(kinds)] for i in range(16)},
            "required": [f"property_{i}" for i in range(0, 16, 2)],
        }
        for record in range(24)
    }
    return json.dumps(
        {"type": "object", "properties": records, "required": list(records)}, indent=1
    )


def compile_milliseconds(model: LocalModel, n_schemas: int) -> list[common.Row]:
    """Return the milliseconds to compile different large schemas, and each a second time."""
    first: list[float] = []
    again: list[float] = []
    for number in range(n_schemas):
        config = GenerationConfig(json_schema=large_schema(number))
        for times in (first, again):
            started = time.perf_counter()
            model._requests.constraints.of(config)
            times.append(1e3 * (time.perf_counter() - started))
    lines = len(large_schema(0).splitlines())
    return [
        {"schema_lines": lines, **common.spread(name, times)}
        for name, times in (("compile", first), ("compile_again", again))
    ]


def main() -> None:
    """Read the arguments, measure, print and write."""
    parser = common.argument_parser(__doc__, rounds=7, new_tokens=64)
    options = parser.parse_args()
    with LocalModel.from_pretrained(options.model, device="cpu") as model:
        measure_round(model, options.new_tokens)  # warms up
        rounds = [measure_round(model, options.new_tokens) for _ in range(options.rounds)]
        costs = mask_microseconds(model)
        compiles = compile_milliseconds(model, options.rounds)
        threads = common.n_threads(model)
    rows = [common.spread(name, [each[name] for each in rounds]) for name in rounds[0]]
    print("\n".join(common.aligned(common.table([*costs, *compiles]))))
    note = "8 sequences, free and with a constraint; records with long keys, forced and asked."
    common.report(
        "constraints", rows, options, threads=threads, note=note, costs=costs, compiles=compiles
    )


if __name__ == "__main__":
    main()
