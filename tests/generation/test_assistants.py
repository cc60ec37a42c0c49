"""assistant_model=: which models may draft, for which calls, and who frees what."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from localgen import ClosedError, GenerationConfig, LocalModel
from localgen.generation.assistants import vocabulary_difference
from localgen.text.vocab import TokenType
from tests.fakes import (
    FakeBackend,
    FakeModel,
    FakeVocab,
    fake_model,
    hashed_letter,
    reference_greedy,
)

PROMPT = "a prompt"


def assistant(**options: Any) -> FakeModel:
    model = fake_model(lambda tokens: hashed_letter(tokens) if len(tokens) % 4 else 33, **options)
    model.backend.path = model.backend.path.with_name("small.gguf")
    return model


def test_texts_are_those_of_the_model_alone() -> None:
    with fake_model() as model, assistant() as draft:
        (greedy,) = model.complete([PROMPT], max_new_tokens=40, assistant_model=draft)
        assert greedy.token_ids == reference_greedy([*PROMPT.encode()], 40)
        assert greedy.stats.n_passes <= 40
        sampling: dict[str, Any] = {"max_new_tokens": 20, "seed": 3, "temperature": 3.0}
        plain = model.complete([PROMPT, "b"], **sampling)
        drafted = model.complete([PROMPT, "b"], assistant_model=draft, **sampling)
        assert [each.token_ids for each in drafted] == [each.token_ids for each in plain]
        assert drafted[0].stats.seed == 3
        text = "".join(model.stream(PROMPT, max_new_tokens=20, assistant_model=draft))
        assert text == greedy.text[: len(text)]


def test_a_seed_is_reported_only_where_it_repeats_the_text() -> None:
    with fake_model() as model, assistant() as draft:
        (done,) = model.complete([PROMPT], max_new_tokens=9, do_sample=True, assistant_model=draft)
        assert done.stats.seed is None


def test_a_name_is_loaded_once_and_closed_with_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[FakeModel] = []

    def load(name: str, **options: Any) -> FakeModel:
        assert name == "small"
        assert options["n_ctx"] == 512
        loaded.append(assistant())
        return loaded[-1]

    monkeypatch.setattr(LocalModel, "from_pretrained", load)
    with fake_model() as model:
        for _ in range(2):
            model.complete([PROMPT], max_new_tokens=9, assistant_model="small")
        assert len(loaded) == 1
        assert not loaded[0].backend.closed
    assert loaded[0].backend.closed


def test_a_given_model_stays_open() -> None:
    draft = assistant()
    with draft:
        with fake_model() as model:
            model.complete([PROMPT], max_new_tokens=9, assistant_model=draft)
        assert not draft.backend.closed


def test_a_closed_assistant_is_an_error_and_the_model_goes_on() -> None:
    with fake_model() as model:
        with assistant() as draft:
            stream = model.stream(PROMPT, max_new_tokens=50, assistant_model=draft)
            next(stream)
        with pytest.raises(ClosedError):
            list(stream)
        with pytest.raises(ClosedError):
            model.complete([PROMPT], max_new_tokens=9, assistant_model=draft)
        assert model.complete([PROMPT], max_new_tokens=9)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"num_beams": 2}, "num_beams=2"),
        ({"guidance_scale": 2.0}, "guidance_scale=2.0"),
        ({"prompt_lookup_num_tokens": 3}, "prompt_lookup_num_tokens=3"),
    ],
)
def test_what_cannot_be_combined_is_refused_before_anything_runs(
    options: dict[str, Any], named: str
) -> None:
    draft, model = assistant(), fake_model()
    with model, draft:
        with pytest.raises(ValueError, match=f"assistant_model cannot be used with {named}"):
            model.complete([PROMPT], assistant_model=draft, **options)
        assert not model.backend.count("decode")


def test_functions_that_see_a_batch_are_refused() -> None:
    with fake_model() as model, assistant() as draft:
        ids = model.tokenizer([PROMPT]).input_ids
        with pytest.raises(ValueError, match="logits_processor or stopping_criteria"):
            model.generate(ids, assistant_model=draft, logits_processor=lambda ids, scores: scores)


def test_prompts_of_a_call_have_one_assistant() -> None:
    with fake_model() as model, assistant() as draft:
        configs = [GenerationConfig(assistant_model=draft), GenerationConfig()]
        with pytest.raises(ValueError, match="must be the same for all prompts"):
            model.complete([PROMPT, PROMPT], generation_config=configs)


def test_models_that_cannot_draft_are_refused() -> None:
    recurrent = FakeModel(FakeBackend(can_truncate=False), fake_model().config)
    recurrent.backend.path = recurrent.backend.path.with_name("mamba.gguf")
    with fake_model() as model:
        with pytest.raises(ValueError, match="this model itself"):
            model.complete([PROMPT], assistant_model=model)
        with pytest.raises(ValueError, match=r"mamba\.gguf has a recurrent state"):
            model.complete([PROMPT], assistant_model=recurrent)
        with pytest.raises(ValueError, match="must be a LocalModel, or the name or path"):
            model.complete([PROMPT], assistant_model=3)


@pytest.mark.parametrize("options", [{"deterministic": True}, {"can_truncate": False}])
def test_where_drafts_could_change_a_text_there_are_none_and_stats_say_why(
    options: dict[str, Any],
) -> None:
    with fake_model(**options) as model, assistant() as draft:
        (done,) = model.complete([PROMPT], max_new_tokens=9, assistant_model=draft)
        assert done.stats.no_speculation_because
        assert not done.stats.n_drafted


def test_options_of_drafts_have_no_effect_without_an_assistant() -> None:
    with fake_model() as model, pytest.warns(UserWarning, match="needs?|without assistant_model"):
        model.complete([PROMPT], max_new_tokens=2, num_assistant_tokens=3)


class OtherVocab(FakeVocab):
    def __init__(self, n_vocab: int, texts: dict[int, str] | None = None, kind: Any = None) -> None:
        self.n_vocab = n_vocab
        self.texts, self.kind = texts or {}, kind

    def token_text(self, token_id: int) -> str:
        return self.texts.get(token_id) or super().token_text(min(token_id, 258))

    def token_type(self, token_id: int) -> TokenType:
        return self.kind if token_id > 258 and self.kind else super().token_type(token_id)


def test_the_first_difference_of_vocabularies_is_named() -> None:
    own = FakeVocab()
    assert vocabulary_difference(own, OtherVocab(259)) is None
    assert vocabulary_difference(own, OtherVocab(300, kind="unused")) is None
    assert vocabulary_difference(own, OtherVocab(260, {259: "[PAD259]"})) is None
    assert vocabulary_difference(OtherVocab(300, kind="unused"), own) is None
    changed = vocabulary_difference(own, OtherVocab(259, {97: "z", 99: "y"}))
    assert changed == "token 97 is 'z' (normal) there, and 'a' (normal) here"
    longer = vocabulary_difference(own, OtherVocab(260, {259: "more"}))
    assert longer == "token 259, 'more', is only there"


def test_another_vocabulary_is_refused() -> None:
    draft, model = assistant(), fake_model()
    with model, draft:
        draft.backend.vocab = OtherVocab(259, {97: "z"})
        with pytest.raises(ValueError, match=r"small\.gguf has another vocabulary: token 97"):
            model.complete([PROMPT], assistant_model=draft)


def test_a_config_with_an_assistant_can_be_copied_with_other_options() -> None:
    with assistant() as draft:
        config = GenerationConfig(assistant_model=draft)
        assert dataclasses.replace(config, top_k=3).assistant_model is draft
