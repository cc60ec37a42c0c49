"""Constraints in calls: every API, beside beams, speculation, guidance, functions and healing."""

from __future__ import annotations

import asyncio
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localgen import Completion, GenerationConfig
from localgen.engine.constraint import Matcher, PackedMask, masks_one_by_one
from tests.fakes import (
    EOS,
    ChoiceConstraint,
    FakeModel,
    Script,
    constrain,
    fake_model,
    hashed_letter,
)

CHOICES = ["positive", "negative", "neither", "positively"]


@dataclass
class Pair:
    number: int
    name: str


def model_of(script: Script = hashed_letter, **options: Any) -> FakeModel:
    model = fake_model(script, **options)
    constrain(model)
    return model


def check(done: Completion) -> None:
    assert done.text in CHOICES
    assert done.is_valid
    assert done.parsed == [done.text]
    assert done.finish_reason in ("stop", "eos")
    assert bytes(token for token in done.token_ids if token < 256).decode() == done.text


WAYS: list[dict[str, Any]] = [
    {},
    {"temperature": 2.0, "top_p": 0.01, "seed": 3},
    {"num_beams": 3},
    {"num_beams": 2, "do_sample": True, "seed": 1},
    {"prompt_lookup_num_tokens": 4},
    {"guidance_scale": 1.5, "negative_prompt": "no"},
    {"logprobs": 1},
    {"guidance_scale": 1.5, "logprobs": 1},
    {"num_beams": 2, "logprobs": 1},
    {"prompt_lookup_num_tokens": 4, "logprobs": 1},
    {"prefix_allowed_tokens_fn": lambda _batch, _ids: [*range(256), EOS]},
    {"logits_processor": lambda _ids, scores: -scores},
    {"min_new_tokens": 20},
    {"num_return_sequences": 2, "temperature": 2.0},
]


@pytest.mark.parametrize("options", WAYS, ids="-".join)
@pytest.mark.parametrize("wants_end", [False, True], ids=["goes on", "wants to end"])
def test_each_text_is_one_of_its_choices(options: dict[str, Any], wants_end: bool) -> None:
    model = model_of((lambda _: EOS) if wants_end else hashed_letter)
    for done in model.complete(["a", "bb", "ccc"], choices=CHOICES, **options):
        check(done)
        assert done.logprobs is None or len(done.logprobs) == len(done.token_ids)


@pytest.mark.parametrize("options", WAYS, ids="-".join)
def test_masks_are_made_together_beside_a_pass_or_after_it_and_the_texts_are_the_same(
    options: dict[str, Any],
) -> None:
    """None is made ahead where the best token is tried first."""
    texts, makers = [], []

    def masks_of(matchers: list[Matcher]) -> list[PackedMask]:
        makers.append((len(matchers), threading.current_thread().name))
        return masks_one_by_one(matchers)

    for runs_ahead in (True, False):
        model = fake_model(max_sequences=8)
        constrain(model, masks_of, runs_ahead=runs_ahead)
        makers.clear()
        seed = {"seed": 5} if "temperature" in options else {}
        done = model.complete(["a", "bb", "ccc"], choices=CHOICES, **(seed | options))
        texts.append([each.text for each in done])
        is_beside = any(name.startswith("localgen-masks") for _, name in makers)
        tries_first = options.keys() <= {"logprobs", "min_new_tokens", "prompt_lookup_num_tokens"}
        assert is_beside == (runs_ahead and not tries_first)
        assert tries_first or max(size for size, _ in makers) >= 3
    assert texts[0] == texts[1]


@pytest.mark.parametrize("options", [{}, {"temperature": 2.0, "seed": 3}, {"do_sample": True}])
def test_a_draft_model_is_constrained_as_well(options: dict[str, Any]) -> None:
    model, draft = model_of(), fake_model(lambda tokens: hashed_letter(tokens[:-1]))
    draft.backend.path = draft.backend.path.with_name("small.gguf")
    with model, draft:
        plain = model.complete(["a", "bb", "ccc"], choices=CHOICES, **options)
        drafted = model.complete(
            ["a", "bb", "ccc"], choices=CHOICES, assistant_model=draft, **options
        )
        for done in drafted:
            check(done)
        if options != {"do_sample": True}:
            assert [each.text for each in drafted] == [each.text for each in plain]


def test_each_row_has_its_own_constraint_or_none() -> None:
    model = model_of()
    rows = [{"choices": ["yes", "no"]}, {}, {"regex": "1|2|3"}, {"choices": ["maybe"]}]
    configs = [GenerationConfig(max_new_tokens=9, **row) for row in rows]  # type: ignore[arg-type]
    yes, free, digit, maybe = model.complete(["?"] * 4, generation_config=configs)
    assert (yes.text in {"yes", "no"}, digit.text in {"1", "2", "3"}) == (True, True)
    assert (maybe.text, maybe.stats.n_forced, maybe.stats.n_passes) == ("maybe", 5, 1)
    (alone,) = model.complete(["?"], max_new_tokens=9)
    assert free.text == alone.text
    assert (free.is_valid, free.parsed, free.stats.n_forced) == (None, None, 0)


def test_an_empty_schema_is_a_constraint() -> None:
    """Regression: it counted as none, and anything came."""
    assert GenerationConfig(json_schema={}).constraint == ("json_schema", {})
    assert GenerationConfig(json_object=False).constraint is None
    with pytest.raises(ValueError, match="cannot be used together"):
        GenerationConfig(json_schema={}, regex="a")


def test_a_text_that_was_cut_is_neither_valid_nor_parsed() -> None:
    model = model_of(lambda _: ord("p"))
    cuts: list[dict[str, Any]] = [{"max_new_tokens": 8}, {"stop_strings": ["siti"]}]
    for options in cuts:
        (done,) = model.complete(["?"], choices=["positively"], **options)
        assert (done.is_valid, done.parsed) == (False, None)
    whole = model.complete("?", choices=["positively"], max_new_tokens=10)
    check(whole)


def test_a_text_that_its_class_refuses_is_not_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    """A class may ask for more than its schema says."""

    def refuse(_self: ChoiceConstraint, text: str) -> None:
        raise ValueError(f"not {text}")

    monkeypatch.setattr(ChoiceConstraint, "parse", refuse)
    done = model_of().complete("?", choices=["yes"])
    assert (done.text, done.is_valid, done.parsed) == ("yes", False, None)


def test_a_text_that_could_go_on_is_cut_by_its_limit() -> None:
    """It happens to be a choice, but the model had not ended it."""
    model = model_of(lambda tokens: ord("positively"[(len(tokens) - 1) % 10]))
    done = model.complete("?", choices=CHOICES, max_new_tokens=8)
    assert (done.text, done.finish_reason) == ("positive", "length")
    assert (done.is_valid, done.parsed) == (False, None)


def test_the_other_ways_to_generate() -> None:
    model = model_of()
    stream = model.stream("?", choices=CHOICES)
    assert "".join(stream) == stream.completion.text
    check(stream.completion)
    done = asyncio.run(model.acomplete("?", choices=CHOICES))
    assert isinstance(done, Completion)
    check(done)
    prefix = model.prefill("once upon a time")
    check(prefix.complete("?", choices=CHOICES))
    ids = np.array([list(b"two"), list(b"row")])
    ways: list[dict[str, Any]] = [{}, {"num_beams": 2}, {"stopping_criteria": lambda *_: False}]
    for options in ways:
        out = model.generate(
            ids, choices=CHOICES, pad_token_id=EOS, output_scores=True, output_logits=True,
            return_dict_in_generate=True, **options,
        )  # fmt: skip
        for row in out.sequences[:, 3:].tolist():
            assert bytes(token for token in row if token != EOS).decode() in CHOICES


def test_scores_of_each_step_are_there_also_for_forced_tokens() -> None:
    model = model_of()
    out = model.generate(
        np.array([list(b"two")]), choices=CHOICES, output_scores=True, output_logits=True,
        return_dict_in_generate=True,
    )  # fmt: skip
    new = out.sequences[0, 3:].tolist()
    assert len(out.scores) == len(out.logits) == len(new)
    for token_id, scores, logits in zip(new, out.scores, out.logits, strict=True):
        assert scores[0, token_id] == logits[0, token_id]


def test_a_function_that_gives_removed_tokens_back_is_an_error() -> None:
    """In generate(), whose functions see all rows after everything else."""
    model = model_of()

    def raise_all(_ids: Any, scores: Any) -> Any:
        scores = np.nan_to_num(scores, neginf=0.0)
        scores[:, 0] = 100.0
        return scores

    with pytest.raises(ValueError, match="do not let a logits processor raise scores"):
        model.generate(np.array([list(b"two")]), choices=CHOICES, logits_processor=raise_all)
    check(model.complete("?", choices=CHOICES, logits_processor=raise_all))


def test_two_constraints_and_forced_ends_are_refused_before_anything_runs() -> None:
    with pytest.raises(ValueError, match="regex and choices cannot be used together"):
        GenerationConfig(regex="a", choices=["b"])
    with pytest.raises(ValueError, match="forced_eos_token_id cannot be used with json_object"):
        GenerationConfig(json_object=True, forced_eos_token_id=1)
    bad: list[dict[str, Any]] = [{"choices": "ab"}, {"choices": []}, {"choices": [""]}]
    for options in [*bad, {"regex": ""}]:
        with pytest.raises(ValueError, match="must"):
            GenerationConfig(**options)
    for value in (3, [1], ""):
        with pytest.raises(ValueError, match="json_schema must be a JSON Schema as a dict"):
            GenerationConfig(json_schema=value)
    assert GenerationConfig(json_object=False).constraint is None


def test_a_list_of_a_class_is_a_schema() -> None:
    assert GenerationConfig(json_schema=list[Pair]).constraint == ("json_schema", list[Pair])


@pytest.mark.parametrize("options", [{}, {"num_beams": 2}, {"temperature": 3.0, "seed": 1}])
def test_an_end_of_the_prompt_that_is_healed_is_no_part_of_the_text(
    options: dict[str, Any],
) -> None:
    model = model_of()
    done = model.complete("an end", choices=CHOICES, token_healing=True, **options)
    check(done)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"choices": ["a", "b", "a"]}, "choices has 'a' twice; leave one of them out"),
        ({"json_schema": "schemas/a.json"}, "json_schema takes the text of a file, not its name"),
        ({"json_schema": Path("schema")}, "json_schema takes the text of a file, not its name"),
        ({"grammar": "C:\\list.gbnf"}, "grammar takes the text of a file, not its name"),
        ({"regex": re.compile("a+")}, "regex must be a text .* pass its .pattern"),
        ({"choices": ["a", 2]}, "each of choices must be a text"),
        ({"json_schema": Pair(1, "a")}, "pass the class itself, Pair"),
    ],
)
def test_what_is_not_a_constraint(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GenerationConfig(**options)


def test_a_grammar_that_mentions_a_file_is_a_grammar() -> None:
    text = 'start: "a.txt"'
    assert GenerationConfig(grammar=text).grammar == text
