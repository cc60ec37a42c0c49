"""Measure what constraints cost a pass and a token, and what forced tokens gain.

    python benchmarks/constraints.py [--rounds N] [--new-tokens N] [--output DIR]

Calls alternate: 8 free sequences and 8 with a constraint that forces nothing, by the seconds of a
pass, greedy and sampled; and records with long keys, once as they are and once with an option that
keeps tokens from being forced, by tokens in a second, 1 record and 8 together. Then the
microseconds of a mask, of applying it and of asking about one token instead, token by token; and
the milliseconds to compile a schema of 2,551 lines, the first time and again. The last line of the
output is one JSON object.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import common
import numpy as np

from localgen import Completion, GenerationConfig, LocalModel
from localgen.constraints.matcher import GrammarMatcher
from localgen.engine.sampling.masks import limit, limits
from localgen.generation.text_arguments import text_arguments

N_ROWS = 8
WORDS = ["cat", "dog", "sea", "sun", "man", "cow", "tree", "house"]
STORIES = [f"The story of the {word} begins" for word in WORDS]
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
# They force nothing, and no text ends early. The second is the hard case: each letter is counted,
# so every mask is a new one, and llguidance has no part of it ready.
OPEN: dict[str, dict[str, Any]] = {
    "schema": {"json_schema": {"type": "string", "minLength": 2000}},
    "counted letters": {"regex": r"[a-zA-Z ,.'\n]{2000}"},
}
CHOICES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "sampled": {"do_sample": True, "temperature": 0.8, "seed": 1},
}


NOTE = """
free_ms, bound_ms: a pass of 8 sequences without and with a constraint that forces nothing; ratio
is the first by the second in each round, us_of_a_token what the constraint costs a sequence and
token outside llama.cpp. forced, asked: tokens in a second of records with long keys, as they are
and with an option that keeps tokens from being forced; gain_in_passes compares the seconds of
llama.cpp alone. mask_us: making a mask, of which llguidance takes llguidance_us; apply_us: applying
it; ask_us: asking about one token, which is all that greedy decoding does mostly. chosen tokens:
without those that must come, of which no mask is made. counted letters: [a-zA-Z ,.'\\n]{2000}.
"""


def pass_seconds(done: list[Completion]) -> float:
    """Return the seconds of a pass of a call, prompts excepted."""
    stats = done[0].stats
    return (stats.wall_seconds - stats.prefill_seconds) / stats.n_passes


def own_seconds(done: list[Completion]) -> float:
    """Return the seconds of a pass of a call that are not llama.cpp's, prompts excepted."""
    stats = done[0].stats
    return pass_seconds(done) - stats.decode_seconds / stats.n_passes


def tokens_per_second(done: list[Completion]) -> float:
    """Return the tokens of all sequences by the seconds of a call, prompts excepted."""
    stats = done[0].stats
    return sum(each.stats.n_new for each in done) / (stats.wall_seconds - stats.prefill_seconds)


def pass_round(model: LocalModel, n_new: int, number: int) -> dict[str, common.Row]:
    """Run each constraint once beside free sequences, which come first in every other round."""
    rows = {}
    for chosen, options in CHOICES.items():
        lengths: dict[str, Any] = {"max_new_tokens": n_new, "min_new_tokens": n_new, **options}
        for name, constraint in OPEN.items():
            in_turn = ({}, constraint) if number % 2 else (constraint, {})
            done = [model.complete(STORIES, **lengths, **each) for each in in_turn]
            free, bound = done if number % 2 else done[::-1]
            rows[f"{name}, {chosen}"] = {
                "free_ms": 1e3 * pass_seconds(free),
                "bound_ms": 1e3 * pass_seconds(bound),
                "ratio": pass_seconds(free) / pass_seconds(bound),
                "us_of_a_token": 1e6 * (own_seconds(bound) - own_seconds(free)) / N_ROWS,
            }
    return rows


def record_round(model: LocalModel) -> dict[str, common.Row]:
    """Write records once with tokens forced and once with each of them asked about."""
    rows = {}
    for n_records in (1, N_ROWS):
        options: dict[str, Any] = {"json_schema": RECORD, "max_new_tokens": 120}
        forced = model.complete(PEOPLE[:n_records], **options)
        # An end is no part of a text, so this changes none; but it could be.
        asked = model.complete(
            PEOPLE[:n_records], suppress_tokens=[model.tokenizer.eos_token_id], **options
        )
        assert all(each.is_valid for each in forced + asked)
        rows[f"{n_records} records"] = {
            "forced": tokens_per_second(forced),
            "asked": tokens_per_second(asked),
            "gain": tokens_per_second(forced) / tokens_per_second(asked),
            "gain_in_passes": asked[0].stats.decode_seconds / forced[0].stats.decode_seconds,
            "forced_passes": forced[0].stats.n_passes,
            "asked_passes": asked[0].stats.n_passes,
        }
    return rows


def one_round(model: LocalModel, n_new: int, number: int) -> dict[str, common.Row]:
    """Run each kind of call once."""
    return pass_round(model, n_new, number) | record_round(model)


def spreads(rows: Sequence[common.Row]) -> common.Row:
    """Return the median of each field over ``rows``, and its extremes."""
    found: common.Row = {}
    for key in rows[0]:
        found |= common.spread(key, [each[key] for each in rows])
    return found


def token_costs(model: LocalModel) -> list[common.Row]:
    """Return the microseconds of masks, token by token of texts of each kind."""
    record: dict[str, Any] = {"json_schema": RECORD}
    cases = [
        ("a record, all tokens", record, False),
        ("a record, chosen tokens", record, True),
        *((name, options, False) for name, options in OPEN.items()),
    ]
    return [
        {"case": f"masks of {name}"} | mask_costs(model, options, forces=forces)
        for name, options, forces in cases
    ]


def mask_costs(model: LocalModel, options: dict[str, Any], *, forces: bool) -> common.Row:
    """Return what masks cost at the tokens of a text; see ``Masks``.

    forces: whether tokens that must come are passed over, as the engine does it.
    """
    done = model.complete(PEOPLE[0], **options, max_new_tokens=64)
    request = model._requests.from_texts(text_arguments(PEOPLE[0], **options))
    matcher = next(iter(request.constraint_of.values())).matcher()
    assert isinstance(matcher, GrammarMatcher)
    masks = Masks(model.tokenizer.vocab_size)
    rows: list[common.Row] = []
    for token_id in done.token_ids:
        if not (forces and matcher.forced_tokens()):
            rows.append(masks.costs(matcher, token_id, own_first=len(rows) % 2 == 0))
        matcher.accept(token_id)
    return spreads(rows)


class Masks:
    """Measures what a mask costs, in microseconds, on a row of ``n_vocab`` logits."""

    def __init__(self, n_vocab: int) -> None:
        self._logits = np.random.RandomState(0).standard_normal(n_vocab).astype(np.float32)
        self._row = np.empty(n_vocab, np.float32)
        self._most = np.empty(-(-n_vocab // 8) * 8, np.float32)
        self._words = np.empty(n_vocab // 32 + 1, np.uint32)

    def costs(self, matcher: GrammarMatcher, token_id: int, *, own_first: bool) -> common.Row:
        """Return the costs at one token.

        own_first: whether localgen's mask is made before that of llguidance alone: the first of
        the two finds cold caches.
        """
        alone, asked = matcher.fork().handle, matcher.fork()
        makers: list[tuple[str, Callable[[], Any]]] = [
            ("mask_us", matcher.mask),
            ("llguidance_us", lambda: alone.unsafe_compute_mask_ptr(*self._words_at)),
        ]
        costs = {name: microseconds(make) for name, make in (makers if own_first else makers[::-1])}
        mask = matcher.mask()
        costs["apply_us"] = microseconds(
            lambda: limit(self._logits, limits(mask, self._most), self._row)
        )
        costs["both_us"] = costs["mask_us"] + costs["apply_us"]
        costs["ask_us"] = microseconds(lambda: asked.n_allowed([token_id]))
        return costs

    @property
    def _words_at(self) -> tuple[int, int]:
        return self._words.ctypes.data, self._words.nbytes


def microseconds(call: Callable[[], Any]) -> float:
    """Return what one call takes."""
    started = time.perf_counter()
    call()
    return 1e6 * (time.perf_counter() - started)


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
    again_times: list[float] = []
    for number in range(n_schemas):
        config = GenerationConfig(json_schema=large_schema(number))
        for times in (first, again_times):
            started = time.perf_counter()
            model._requests.constraints.of(config)
            times.append(1e3 * (time.perf_counter() - started))
    lines = len(large_schema(0).splitlines())
    return [
        {"case": f"compile {lines:,} lines{again}"} | common.spread("compile_ms", times)
        for again, times in (("", first), (", again", again_times))
    ]


def main() -> None:
    """Read the arguments, measure, print and write."""
    parser = common.argument_parser(__doc__, rounds=7, new_tokens=64)
    options = parser.parse_args()
    with LocalModel.from_pretrained(options.model, device="cpu") as model:
        one_round(model, options.new_tokens, 0)  # warms up
        rounds = [one_round(model, options.new_tokens, i) for i in range(options.rounds)]
        rows = [{"case": name} | spreads([each[name] for each in rounds]) for name in rounds[0]]
        rows += token_costs(model)
        rows += compile_milliseconds(model, options.rounds)
        threads = common.n_threads(model)
    common.report("constraints", rows, options, threads=threads, note=NOTE)


if __name__ == "__main__":
    main()
