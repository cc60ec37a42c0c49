"""Token healing on real weights: texts of code, URLs, CJK, emoji and prose, cut anywhere.

``benchmarks/healing.py`` cuts them at more places, and counts.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from localgen import Completion, GenerationConfig, LocalModel
from localgen.benchmark.healed_tokens import is_allowed

DATA = json.loads(Path(__file__).with_name("healing_texts.json").read_text("utf-8"))
TEXTS: list[str] = DATA["texts"]
LONGEST = 48
N_NEW = 2


@pytest.fixture(scope="module")
def cut_texts() -> list[str]:
    random_ = random.Random(15)
    ends = [(text, random_.randrange(1, min(len(text), LONGEST))) for text in TEXTS]
    return [text[:end] for text, end in ends]


@pytest.fixture(scope="module")
def healed(exact: LocalModel, cut_texts: list[str]) -> list[Completion]:
    return exact.complete(cut_texts, max_new_tokens=N_NEW, token_healing=True)


def test_every_output_begins_with_its_prompt(
    exact: LocalModel, cut_texts: list[str], healed: list[Completion]
) -> None:
    token_bytes = exact.tokenizer.token_bytes
    n_healed = 0
    for prompt, done in zip(cut_texts, healed, strict=True):
        given = exact.tokenizer.encode(prompt)
        output = b"".join(map(token_bytes, done.prompt_token_ids + done.token_ids))
        assert output.startswith(prompt.encode())
        assert given[: len(done.prompt_token_ids)] == done.prompt_token_ids
        n_healed += len(given) > len(done.prompt_token_ids)
    assert n_healed > len(cut_texts) / 2


def test_what_the_model_says_anyway_is_what_healing_gives(
    exact: LocalModel, cut_texts: list[str], healed: list[Completion]
) -> None:
    """Where the greedy continuation of the remaining tokens spells the prompt as healing allows, by
    the prompt's own tokens and then a longer one, it is the healed one."""
    remaining = [done.prompt_token_ids for done in healed]
    configs = [GenerationConfig(max_new_tokens=len(done.token_ids)) for done in healed]
    plain = exact.complete(remaining, generation_config=configs)
    n_agreeing = 0
    for prompt, done, unhealed in zip(cut_texts, healed, plain, strict=True):
        own = exact.tokenizer.encode(prompt)[len(done.prompt_token_ids) :]
        if not is_allowed(unhealed.token_ids, own, exact.tokenizer.token_bytes):
            continue
        n_agreeing += 1
        assert unhealed.token_ids[: len(done.token_ids)] == done.token_ids, prompt
    assert n_agreeing > len(cut_texts) / 4


def test_a_word_that_is_cut(exact: LocalModel) -> None:
    """With every token allowed that spells a part of the rest, a short one won, such as " w" of
    " world"."""
    prompt = "My favorite fruit is straw"
    stream = exact.stream(prompt, max_new_tokens=1, token_healing=True)
    assert "".join(stream).startswith("berry")
    inputs = exact.tokenizer([prompt, "See http:"], padding=True)
    out = exact.generate(**inputs, max_new_tokens=1, token_healing=True)
    texts = exact.tokenizer.batch_decode(out, skip_special_tokens=True)
    assert texts[0].startswith("My favorite fruit is strawberry")
    assert texts[1].startswith("See http://")
