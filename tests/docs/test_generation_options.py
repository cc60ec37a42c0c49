"""The table of transformers' options is complete, and each of its rows true of the code."""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from localgen import GenerationConfig, LocalModel
from localgen.option_names import NOOPS, value_when_unset
from localgen.refused_options import REFUSED, WITHOUT_EFFECT
from tests.fakes import fake_model

PAGE = (Path(__file__).parents[2] / "docs" / "generation-options.md").read_text("utf-8")
ROW = re.compile(r"^\| `(\w+)` \| ([a-z, ]+) \| (.*?) ?\|$", re.MULTILINE)
FIELDS, ARGUMENTS = (
    {name: (verdict, note) for name, verdict, note in ROW.findall(part)}
    for part in PAGE.split("## Fields of GenerationConfig")[1].split("## Arguments of generate()")
)
ROWS = {**FIELDS, **ARGUMENTS}
# Arguments that transformers' generate() takes as keywords of its model or of custom_generate.
KEYWORDS = {
    "assistant_tokenizer",
    "attention_mask",
    "cache",
    "input_ids",
    "inputs_embeds",
    "past_key_values",
    "position_ids",
    "token_type_ids",
    "tokenizer",
    "trust_remote_code",
    "use_model_defaults",
}


class Unlikely:
    """A value that no option has."""


UNLIKELY: Any = Unlikely()


def rows_of(verdict: str) -> list[str]:
    return [name for name, (given, _) in ROWS.items() if given == verdict]


def test_every_row_has_a_verdict() -> None:
    assert len(FIELDS) > 60
    assert {verdict for verdict, _ in ROWS.values()} == {
        "same",
        "same, with a note",
        "no effect",
        "refused",
    }
    for name, (verdict, note) in ROWS.items():
        assert bool(note) == (verdict != "same"), name


def test_the_tables_have_exactly_transformers_options() -> None:
    transformers = pytest.importorskip("transformers")
    given = set(inspect.signature(transformers.GenerationMixin.generate).parameters)
    assert set(FIELDS) == set(vars(transformers.GenerationConfig()))
    assert set(ARGUMENTS) == given - {"self", "kwargs"} | KEYWORDS


@pytest.mark.parametrize("name", [*rows_of("same"), *rows_of("same, with a note")])
def test_what_is_the_same_is_there(name: str) -> None:
    fields = {each.name for each in dataclasses.fields(GenerationConfig)}
    assert name in fields | set(inspect.signature(LocalModel.generate).parameters)
    unset: dict[str, Any] = {name: None}
    if name in FIELDS:
        assert GenerationConfig(**unset) == GenerationConfig()


@pytest.mark.parametrize("name", rows_of("refused"))
def test_what_is_refused_says_why(name: str) -> None:
    """The reason in the table is that of the message; transformers' default is accepted."""
    assert ROWS[name][1] == REFUSED[name]
    with pytest.raises(TypeError, match=re.escape(f"'{name}': {REFUSED[name]}; only its no-op")):
        fake_model().generate([[65]], **{name: UNLIKELY})
    for value in (None, *NOOPS[name]):
        given: dict[str, Any] = {name: value}
        GenerationConfig(**given)


@pytest.mark.parametrize("name", rows_of("no effect"))
def test_what_has_no_effect_is_accepted(name: str) -> None:
    assert ROWS[name][1] == {**REFUSED, **WITHOUT_EFFECT}[name]
    for value in (None, *NOOPS.get(name, [UNLIKELY])):
        given: dict[str, Any] = {name: value}
        assert GenerationConfig(**given) == GenerationConfig()


def test_every_reason_is_of_an_option_that_is_known() -> None:
    fields = {each.name for each in dataclasses.fields(GenerationConfig)}
    assert not fields & (set(REFUSED) | set(WITHOUT_EFFECT))
    for name in WITHOUT_EFFECT:
        assert value_when_unset(name) is None
    assert set(REFUSED) == set(NOOPS)
