"""Measure decoding with speculation: where the output copies the prompt, and where nothing repeats.

    python benchmarks/speculation.py                      # prompt lookup
    python benchmarks/speculation.py --draft small.gguf   # a draft model
    python benchmarks/speculation.py --parity             # are the tokens the same?

copy: 20 pieces of work that copy most of their prompt, as a chat: ten edits of code, six
quotations, four edits of JSON. SmolLM2 135M follows these forms by copying; whether it makes the
edit does not matter, for the tokens are its own greedy output. hot: random words, continued at
temperature 1.5 without filters, so that hardly anything repeats. Each with one sequence, and with
eight together.
"""

from __future__ import annotations

import json
import time
from dataclasses import fields
from functools import partial
from typing import Any

import common
import numpy as np
from common import CHAIN, Row
from floors import Floors, faster, floor_columns, free_context
from oracle import best_passes, oracle_seconds, pass_seconds
from overhead import alternate

_N_PARITY = 200
_PARITY_SETTINGS: dict[str, Row] = {
    "deterministic": {"deterministic": True},
    "flash attention on": {"flash_attention": "on", "n_threads": common.usable_cpus()},
}
_STOP = {"stop_strings": ["```"], "do_sample": False}
_HOT = {"do_sample": True, "temperature": 1.5, "top_k": 0, "top_p": 1.0, "eos_token_id": []}
_RENAMES = {
    "users": "members", "orders": "sales", "books": "titles", "rooms": "halls", "trips": "tours",
    "notes": "memos", "teams": "crews", "tasks": "jobs", "songs": "tunes", "plants": "trees",
}  # fmt: skip
_CODE = """\
def load_{0}(path):
    with open(path) as file:
        {0} = json.load(file)
    for item in {0}:
        item["name"] = item["name"].strip()
        item["email"] = item["email"].lower()
    return sorted({0}, key=lambda item: item["name"])
"""
_QUOTATIONS = (
    "Repeat this text word for word:",
    "Repeat this text, but call the keeper Peter:",
    "Write each sentence of this text on a line of its own:",
)
_JSON_EDITS = (
    "Write this JSON again without the cities:",
    'Rename the key "city" to "town" in this JSON:',
)
_PEOPLE = {
    "Anna Berg": "Oslo", "Bruno Costa": "Lisbon", "Clara Dietz": "Berlin",
    "David Evans": "Cardiff", "Elena Fabbri": "Milan",
}  # fmt: skip
_NOTE = """\
Decoding from the first token to the return of `complete()`, summed over the prompts of a case, in
each round. ratio is the time of the faster floor, which does not speculate, divided by localgen's
with speculation; by_plain is the same for localgen without it. bound is the same for llama.cpp
alone with drafts that are never wrong, as long as pays by the time of its passes (see oracle.py):
more than bound is not possible. copied is the share of new tokens in runs of four that stand in the
prompt. n_new, passes, drafted and accepted: of the last round; bound_passes: those of bound."""
_PARITY_NOTE = """\
differing: prompts, of 200, whose tokens with and without speculation are not the same. accepted:
drafted tokens that were taken. deterministic mode drafts nothing, since llama.cpp rounds passes of
several tokens differently without flash attention; with it, and weights in Q4_0, Q4_1 or Q8_0, it
does not."""


def copy_prompts(tokenizer: Any) -> list[str]:
    """Return the 20 prompts, so mixed that any eight in a row have some of each kind."""
    code = [
        (f"Write this code again, with `{new}` instead of `{old}`:", "python", _CODE.format(old))
        for old, new in _RENAMES.items()
    ]
    sentences = common.PASSAGE.replace("\n", " ").split(". ")
    texts = [". ".join(sentences[first : first + 3]) + "." for first in (0, 2)]
    lists = [_people(first) for first in (0, 1)]
    quotations = [(task, "", text) for task in _QUOTATIONS for text in texts]
    json_edits = [(task, "json", each) for task in _JSON_EDITS for each in lists]
    others = [*quotations, *json_edits]
    others = others[::3] + others[1::3] + others[2::3]
    order = [each for pair in zip(code, others, strict=True) for each in pair]
    return [_chat(tokenizer, *each) for each in order]


def _people(first: int) -> str:
    """Return a JSON list of four people."""
    people = [
        {"name": name, "city": city, "email": f"{name.lower().replace(' ', '.')}@example.org"}
        for name, city in [*_PEOPLE.items()][first : first + 4]
    ]
    return "[\n" + ",\n".join(f"  {json.dumps(each)}" for each in people) + "\n]\n"


def _chat(tokenizer: Any, task: str, language: str, text: str) -> str:
    """Return a prompt at whose end the answer begins, in a block of code if it has a language."""
    block = f"```{language}\n{text}```" if language else text
    messages = [{"role": "user", "content": f"{task}\n\n{block}"}]
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return f"{prompt}```{language}\n" if language else prompt


def hot_prompts(model: Any) -> list[list[int]]:
    """Return eight prompts of 48 tokens drawn at random."""
    random = np.random.RandomState(17)
    drawn: list[list[int]] = random.randint(500, model.tokenizer.vocab_size, (8, 48)).tolist()
    return drawn


def copied(done: Any, n: int = 4) -> float:
    """Return the share of new tokens in runs of ``n`` that also stand in the prompt."""
    prompt, new = list(done.prompt_token_ids), list(done.token_ids)
    known = {tuple(prompt[i : i + n]) for i in range(len(prompt) - n + 1)}
    found = {
        i + j for i in range(len(new) - n + 1) if tuple(new[i : i + n]) in known for j in range(n)
    }
    return len(found) / max(1, len(new))


def speculation(options: Any) -> Row | None:
    """Return the options that make a call speculate; None, with a line, if this tree has none."""
    from localgen import GenerationConfig  # noqa: PLC0415  (after the arguments were read)

    name = "assistant_model" if options.draft else "prompt_lookup_num_tokens"
    if name not in {field.name for field in fields(GenerationConfig)}:
        common.progress(f"skipped: this localgen has no {name}")
        return None
    return {name: options.draft or options.lookup}


def decode(model: Any, prompts: list[Any], options: Row) -> tuple[float, list[Any]]:
    """Return the seconds from the first token on, and the completions."""
    model.complete(prompts, **{**options, "max_new_tokens": 1})  # the prompts are cached
    started = time.perf_counter()
    done = model.complete(prompts, **options)
    return time.perf_counter() - started - done[0].stats.ttft, done


def measure_group(model: Any, prompts: list[Any], plain: Row, more: Row, n_rounds: int) -> Row:
    """Return the rounds of prompts that decode together, the completions without speculation and
    with it, and the oracle's passes by setting."""
    completions = model.complete(prompts, **plain)
    model.complete(prompts, **plain, **more)
    texts = [(done.prompt_token_ids, done.token_ids) for done in completions]
    passes = {}
    with Floors(model, completions) as floors:
        ways: dict[str, Any] = {
            setting: floor.decode for setting, floor in floors.by_setting.items()
        }
        for setting, floor in floors.by_setting.items():
            passes[setting] = best_passes(texts, pass_seconds(model, setting))
            ways[f"oracle_{setting}"] = partial(oracle_seconds, floor, passes[setting], completions)
        ours = partial(decode, model, prompts, plain)
        ways["plain"] = ours
        ways["ours"] = partial(decode, model, prompts, {**plain, **more})
        renew = partial(floors.renew, free_ours=partial(free_context, model), ours=ours)
        rounds = alternate(ways, n_rounds, renew)
    speculated = rounds[-1]["ours"][1]
    for found in rounds:
        found["plain"], found["ours"] = found["plain"][0], found["ours"][0]
    return {"rounds": rounds, "plain": completions, "ours": speculated, "passes": passes}


def measure_case(model: Any, name: str, groups: list[Any], plain: Row, more: Row, n: int) -> Row:
    """Return one row: the groups one after another, their times summed in each round."""
    found = [measure_group(model, prompts, plain, more, n) for prompts in groups]
    rounds = [
        {key: sum(group["rounds"][number][key] for group in found) for key in found[0]["rounds"][0]}
        for number in range(n)
    ]
    completions = [done for group in found for done in group["plain"]]
    stats = [done.stats for group in found for done in group["ours"]]
    n_tokens = sum(len(done.token_ids) - 1 for done in completions)
    floor = faster(rounds)
    oracle = min(found[0]["passes"], key=lambda setting: common.median(rounds, f"oracle_{setting}"))
    row = {
        "case": name,
        "n_new": n_tokens,
        **floor_columns(rounds, n_tokens, "ours"),
        **common.spread("bound", [r[floor] / r[f"oracle_{oracle}"] for r in rounds]),
        "bound_passes": sum(len(group["passes"][oracle]) for group in found),
        **common.spread("by_plain", [r["plain"] / r["ours"] for r in rounds]),
        "copied": sum(map(copied, completions)) / len(completions),
    }
    for column, field in (
        ("passes", "n_passes"),
        ("drafted", "n_drafted"),
        ("accepted", "n_accepted"),
    ):
        if hasattr(stats[0], field):
            row[column] = sum(getattr(each, field) for each in stats)
    return row


def measure(options: Any, more: Row) -> None:
    """Measure all cases and report them."""
    from localgen import LocalModel  # noqa: PLC0415  (after the arguments were read)

    with LocalModel.from_pretrained(options.model) as model:
        prompts: list[Any] = copy_prompts(model.tokenizer)
        hot = hot_prompts(model)
        groups = {
            "copy-1": [[prompt] for prompt in prompts],
            "copy-8": [prompts[:8], prompts[8:16], prompts[12:]],
            "hot-1": [[prompt] for prompt in hot[:4]],
            "hot-8": [hot],
        }
        rows = []
        for name in options.only or groups:
            common.progress(f"{name}: {options.rounds} rounds")
            plain: Row = {**_STOP, "max_new_tokens": options.new_tokens}
            if name.startswith("hot"):
                seeds = list(range(len(groups[name][0])))
                plain = {**_HOT, "seed": seeds, "max_new_tokens": options.new_tokens}
            rows.append(measure_case(model, name, groups[name], plain, more, options.rounds))
        threads = common.n_threads(model)
    common.report("speculation", rows, options, threads=threads, note=_NOTE)


def measure_parity(options: Any, more: Row) -> None:
    """Count the prompts whose tokens differ, greedily and with seeds."""
    from localgen import LocalModel  # noqa: PLC0415  (after the arguments were read)

    rows: list[Row] = []
    for setting, loading in _PARITY_SETTINGS.items():
        common.progress(f"parity: {setting}")
        with LocalModel.from_pretrained(options.model, **loading) as model:
            rows += [
                {"case": f"{setting}, {way}", **count_differing(model, way, options, more)}
                for way in ("greedy", "seeds")
            ]
            threads = common.n_threads(model)
    common.report("parity", rows, options, threads=threads, note=_PARITY_NOTE)


def count_differing(model: Any, way: str, options: Any, more: Row) -> Row:
    """Return of how many prompts the tokens with speculation differ from those without."""
    tokenizer = model.tokenizer
    whole = copy_prompts(tokenizer)
    # Ten ends of each prompt, each of another length.
    prompts = [tokenizer.encode(whole[i % 20])[-(40 + i // 20) :] for i in range(_N_PARITY)]
    differing = n_accepted = 0
    for number, prompt in enumerate(prompts):
        how = {"do_sample": False} if way == "greedy" else {**CHAIN, "seed": number}
        fixed = {**how, "max_new_tokens": min(24, options.new_tokens), "eos_token_id": []}
        plain = model.complete([prompt], **fixed)[0]
        ours = model.complete([prompt], **fixed, **more)[0]
        differing += list(plain.token_ids) != list(ours.token_ids)
        n_accepted += getattr(ours.stats, "n_accepted", 0)
    return {"prompts": _N_PARITY, "differing": differing, "accepted": n_accepted}


def main() -> None:
    """Measure speeds, or with --parity, compare tokens."""
    parser = common.argument_parser(__doc__, rounds=3, new_tokens=128)
    cases = ["copy-1", "copy-8", "hot-1", "hot-8"]
    parser.add_argument("--only", nargs="+", metavar="CASE", choices=cases)
    parser.add_argument("--draft", metavar="MODEL", help="speculate with this model, not by lookup")
    parser.add_argument("--lookup", type=int, default=31, help="the longest draft of prompt lookup")
    parser.add_argument("--parity", action="store_true", help="compare tokens, not times")
    options = parser.parse_args()
    if options.rounds < 1 or options.new_tokens < 2:
        parser.error("--rounds must be at least 1, --new-tokens at least 2")
    more = speculation(options)
    if more is not None:
        (measure_parity if options.parity else measure)(options, more)


if __name__ == "__main__":
    main()
