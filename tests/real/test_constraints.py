"""Constraints on real weights: what comes fits, whatever else is asked for, and is forced in few
passes."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from localgen import Completion, GenerationConfig, LocalModel

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 6},
        "year_of_birth": {"type": "integer", "minimum": 1900, "maximum": 2025},
        "is_employed": {"type": "boolean"},
    },
    "required": ["name", "year_of_birth", "is_employed"],
    "additionalProperties": False,
}
PROMPTS = ["A person as JSON: ", "Anna was born in 1980 and has a job. As JSON:\n"]


def is_person(done: Completion) -> bool:
    found = json.loads(done.text)
    return (
        done.parsed == found
        and bool(done.is_valid)
        and list(found) == list(PERSON["properties"])  # type: ignore[call-overload]
        and len(found["name"]) <= 6
        and 1900 <= found["year_of_birth"] <= 2025
        and isinstance(found["is_employed"], bool)
    )


def test_every_text_is_what_the_schema_says_whatever_chooses_tokens(smollm2: LocalModel) -> None:
    """Rows of one batch that differ in how their tokens are chosen; and beams."""
    rows: list[dict[str, Any]] = [
        {},
        {"temperature": 1.5, "top_p": 0.5, "seed": 1},
        {"temperature": 5.0, "top_k": 1, "seed": 1},
        {"prompt_lookup_num_tokens": 8},
        {"token_healing": True},
        {"repetition_penalty": 1.3, "suppress_tokens": [5]},
    ]
    configs = [GenerationConfig(json_schema=PERSON, max_new_tokens=60, **row) for row in rows]
    done = smollm2.complete([PROMPTS[0]] * len(rows), generation_config=configs)
    done += smollm2.complete(PROMPTS[1:], json_schema=PERSON, max_new_tokens=60, num_beams=2)
    assert all(is_person(each) for each in done)


def test_keys_are_forced_in_few_passes_and_recording_changes_no_text(exact: LocalModel) -> None:
    """The log-probabilities are those of the same tokens after each other."""
    plain, recorded = (
        exact.complete(PROMPTS[0], json_schema=PERSON, max_new_tokens=60, logprobs=logprobs)
        for logprobs in (None, 0)
    )
    assert is_person(plain)
    assert recorded.token_ids == plain.token_ids
    for each in (plain, recorded):
        assert each.stats.n_forced > each.stats.n_new / 3
        assert each.stats.n_passes < each.stats.n_new / 1.5
    assert recorded.logprobs is not None
    scores = exact.score([*recorded.prompt_token_ids, *recorded.token_ids])
    given = [step.logprob for step in recorded.logprobs]
    assert given == pytest.approx(scores[-len(given) :].tolist(), abs=0.5)


def test_rows_of_a_batch_have_their_own_constraints(smollm2: LocalModel) -> None:
    """With a sequence without one between them."""
    options: list[dict[str, Any]] = [
        {"regex": r"[0-9]{3}-[0-9]{4}"},
        {},
        {"choices": ["naïve 👩‍🔬", "日本語 🙂"]},  # characters of several tokens
        {"json_object": True, "max_new_tokens": 5},
    ]
    configs = [GenerationConfig(**{"max_new_tokens": 24, **each}) for each in options]
    phone, free, unicode, cut = smollm2.complete(
        ["Call me at"] * len(configs), generation_config=configs
    )
    assert re.fullmatch(r"[0-9]{3}-[0-9]{4}", phone.text)
    assert (free.is_valid, free.stats.n_passes) == (None, free.stats.n_new)
    assert unicode.text in {"naïve 👩‍🔬", "日本語 🙂"}
    assert unicode.parsed == unicode.text
    assert (cut.finish_reason, cut.is_valid, cut.parsed) == ("length", False, None)
    assert cut.text.startswith("{")


def test_a_stream_and_a_chat(smollm2: LocalModel) -> None:
    stream = smollm2.stream(PROMPTS[1], json_schema=PERSON, max_new_tokens=60)
    assert "".join(stream) == stream.completion.text
    assert is_person(stream.completion)
    question = [{"role": "user", "content": "Is the sky blue? Answer yes or no."}]
    reply = smollm2.chat(question, choices=["yes", "no"])
    assert (reply.text in {"yes", "no"}, reply.is_valid) == (True, True)


def test_a_word_that_the_prompt_began_goes_on_as_a_choice(smollm2: LocalModel) -> None:
    """The prompt ends in the middle of " France"; the constraint begins there."""
    done = smollm2.complete(
        "Paris is the capital of Fran", choices=["ce.", "klin."], token_healing=True
    )
    assert done.text == "ce."
    assert " France" in smollm2.tokenizer.decode(done.token_ids)
