"""Options that edit scores, in calls: rows as if alone, functions, errors and warnings."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from localgen import GenerationConfig
from localgen.engine.backend import Batch
from tests.fakes import EOS, FakeBackend, fake_model

PAD = 7
# Two prompts of three and six tokens, padded on the left.
IDS = np.array([[PAD, PAD, PAD, *b"aba"], list(b"longer")])
MASK = np.array([[0, 0, 0, 1, 1, 1], [1] * 6])
WIDTH = IDS.shape[1]
ROWS = [list(b"aba"), list(b"longer")]


def ends_early(tokens: list[int]) -> int:
    """A letter of the prompt's end, again and again, and EOS where there are eight tokens."""
    return EOS if len(tokens) >= 8 else tokens[-1]


OPTIONS: dict[str, Any] = {
    "min_length": 9,
    "min_new_tokens": 6,
    "encoder_repetition_penalty": 0.01,
    "encoder_no_repeat_ngram_size": 1,
    "forced_eos_token_id": ord("z"),
    "begin_suppress_tokens": [ord("a"), ord("r")],
    "exponential_decay_length_penalty": (1, 3.0),
    "remove_invalid_values": True,
    "renormalize_logits": True,
    "prefix_allowed_tokens_fn": lambda _id, ids: [ids[-1], ids[-2], ord("x")],
}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("samples", [False, True])
def test_a_row_is_as_if_alone(name: str, samples: bool) -> None:
    """Padding is no part of a prompt: tokens, and the scores of every step, are those that the row
    has without it. transformers counts padding for ``min_length`` and ``encoder_*``."""
    options: dict[str, Any] = {name: OPTIONS[name], "max_new_tokens": 6, "do_sample": samples}
    more: dict[str, Any] = {"return_dict_in_generate": True, "output_scores": True}
    seeds: dict[str, Any] = {"seed": [1, 2]} if samples else {}
    model = fake_model(ends_early)
    out = model.generate(IDS, MASK, pad_token_id=PAD, **options, **more, **seeds)
    for number, row in enumerate(ROWS):
        seed: dict[str, Any] = {"seed": [seeds["seed"][number]]} if samples else {}
        alone = model.generate([row], **options, **more, **seed)
        n_new = alone.sequences.shape[1] - len(row)
        new = out.sequences[number, WIDTH : WIDTH + n_new]
        assert new.tolist() == alone.sequences[0, len(row) :].tolist()
        scores = [step[number] for step in out.scores[:n_new]]
        np.testing.assert_array_equal(scores, [step[0] for step in alone.scores])


@pytest.mark.parametrize("name", [*OPTIONS])
def test_the_text_api_does_the_same(name: str) -> None:
    """complete() and stream(), and a config for each prompt."""
    model = fake_model(ends_early)
    options: dict[str, Any] = {name: OPTIONS[name], "max_new_tokens": 6}
    out = model.generate(IDS, MASK, pad_token_id=PAD, **options)
    texts = ["aba", "longer"]
    for number, done in enumerate(model.complete(texts, **options)):
        ids = done.token_ids
        assert ids == out[number, WIDTH : WIDTH + len(ids)].tolist()
        assert "".join(model.stream(texts[number], **options)) == done.text
    configs = [GenerationConfig(**options), GenerationConfig(max_new_tokens=6)]
    first, second = model.complete(texts, generation_config=configs)
    assert first.token_ids == model.complete("aba", **options).token_ids
    assert second.token_ids == model.complete("longer", max_new_tokens=6).token_ids


@pytest.mark.parametrize("name", [name for name in OPTIONS if not name.startswith("re")])
def test_options_change_the_output(name: str) -> None:
    """An option that changed nothing would pass the tests above."""
    model = fake_model(ends_early)
    plain = model.generate(IDS, MASK, pad_token_id=PAD, max_new_tokens=6).tolist()
    given: dict[str, Any] = {name: OPTIONS[name]}
    assert model.generate(IDS, MASK, pad_token_id=PAD, max_new_tokens=6, **given).tolist() != plain


def test_options_beside_functions() -> None:
    """Where functions see the whole batch, options still see each row alone."""
    options: dict[str, Any] = {**OPTIONS, "min_new_tokens": None, "max_new_tokens": 6}
    model = fake_model(ends_early)
    plain = model.generate(IDS, MASK, pad_token_id=PAD, **options)
    same = lambda _ids, scores: scores  # noqa: E731
    beside = model.generate(IDS, MASK, pad_token_id=PAD, logits_processor=same, **options)
    assert beside.tolist() == plain.tolist()


def test_recorded_scores_are_normalized() -> None:
    """After all filters: their exponentials add up to 1, greedy or sampled."""
    more: dict[str, Any] = {"return_dict_in_generate": True, "output_scores": True}
    chains: list[dict[str, Any]] = [{}, {"do_sample": True, "temperature": 0.5, "top_k": 3}]
    for chain in chains:
        options: dict[str, Any] = {**more, **chain, "seed": 1} if chain else more
        given: dict[str, Any] = {"max_new_tokens": 3, **options}
        out = fake_model().generate(IDS, MASK, renormalize_logits=True, **given)
        plain = fake_model().generate(IDS, MASK, **given)
        assert out.sequences.tolist() == plain.sequences.tolist()
        np.testing.assert_allclose(np.exp(out.scores).sum(axis=-1), 1.0, rtol=1e-5)
        assert ((out.scores[0] > -np.inf) == (plain.scores[0] > -np.inf)).all()


class DamagedBackend(FakeBackend):
    """Gives rows with NaN and infinity in them."""

    def decode(self, batch: Batch, *args: Any) -> Any:
        logits = super().decode(batch, *args)
        logits[:, :3] = np.nan, np.inf, -np.inf
        return logits


def test_remove_invalid_values() -> None:
    """An infinite score is the largest one, and the call does not fail."""
    model = fake_model(backend=DamagedBackend())
    options: list[dict[str, Any]] = [{}, {"do_sample": True, "top_p": 0.9, "seed": 1}]
    for more in options:
        done = model.complete("abc", max_new_tokens=3, remove_invalid_values=True, **more)
        assert done.token_ids == [1, 1, 1]


# --- forced tokens ---


@pytest.mark.parametrize("n_ctx", [512, 8])
def test_the_last_token_is_forced(n_ctx: int) -> None:
    """At the limit, or at the context's edge before it; the text then ends with that token."""
    done = fake_model(n_ctx=n_ctx).complete("abc", max_new_tokens=6, forced_eos_token_id=EOS)
    assert len(done.token_ids) == min(6, n_ctx - 3)
    assert (done.token_ids[-1], done.finish_reason) == (EOS, "eos")
    other = fake_model().complete("abc", max_new_tokens=2, forced_eos_token_id=[ord("!")])
    assert (other.text[-1], other.finish_reason) == ("!", "length")


def test_the_first_token_is_forced() -> None:
    done = fake_model().complete([[65]], max_new_tokens=2, forced_bos_token_id=ord("?"))
    assert done[0].text[0] == "?"
    with pytest.warns(
        UserWarning, match=r"forced_bos_token_id \(=63\) has no effect after prompts"
    ):
        fake_model().complete("ab", max_new_tokens=1, forced_bos_token_id=ord("?"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_length": 9}, r"min_length \(=9\) is above the tokens that a sequence of this call"),
        (
            {"min_length": 9, "min_new_tokens": 1},
            r"both min_new_tokens \(=1\) and min_length \(=9\)",
        ),
    ],
)
def test_lengths_that_exclude_each_other(options: dict[str, Any], message: str) -> None:
    """As in transformers, a warning; the text ends at its limit."""
    with pytest.warns(UserWarning, match=message):
        done = fake_model(lambda _: EOS).complete("abc", max_new_tokens=3, **options)
    assert len(done.token_ids) == (2 if "min_new_tokens" in options else 3)


def test_lengths_that_fit_warn_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fake_model().complete("abc", max_new_tokens=3, min_length=6)
        fake_model().complete([[65]], max_new_tokens=3, forced_bos_token_id=EOS)


# --- the function that allows tokens ---


def test_the_function_sees_padded_rows_in_generate() -> None:
    """The number of the prompt, and its row as the caller gave it, so that what comes after the
    batch's width is new; rows of one prompt share its number."""
    seen = []

    def function(batch_id: int, token_ids: Any) -> list[int]:
        seen.append((batch_id, token_ids.tolist()))
        return [ord("0") + batch_id]

    out = fake_model().generate(
        IDS,
        MASK,
        pad_token_id=PAD,
        max_new_tokens=2,
        num_return_sequences=2,
        do_sample=True,
        seed=1,
        prefix_allowed_tokens_fn=function,
    )
    assert out[:, WIDTH:].tolist() == [[48, 48], [48, 48], [49, 49], [49, 49]]
    given = IDS.tolist()
    expected = [(i, [*given[i], *[48 + i] * n]) for n in (0, 1) for i in (0, 0, 1, 1)]
    assert sorted(seen) == sorted(expected)


def test_the_function_sees_tokens_in_the_text_api() -> None:
    """complete(): without padding; chat() and stream() too."""
    seen = []

    def function(batch_id: int, token_ids: Any) -> list[int]:
        seen.append((batch_id, bytes(token_ids.tolist()).decode()))
        return [ord("!")]

    model = fake_model()
    done = model.complete(["ab", "c"], max_new_tokens=1, prefix_allowed_tokens_fn=function)
    assert [each.text for each in done] == ["!", "!"]
    assert sorted(seen) == [(0, "ab"), (1, "c")]
    stream = model.stream("de", max_new_tokens=2, prefix_allowed_tokens_fn=function)
    assert "".join(stream) == "!!"
    assert seen[-2:] == [(0, "de"), (0, "de!")]


def test_a_function_for_one_row_only() -> None:
    """Configs may have different functions, or none."""
    only = lambda char: lambda _id, _ids: [ord(char)]  # noqa: E731
    configs = [
        GenerationConfig(max_new_tokens=2, prefix_allowed_tokens_fn=function)
        for function in (only("x"), None, only("y"))
    ]
    done = fake_model().complete(["ab", "cd", "ef"], generation_config=configs)
    assert [each.text for each in done][::2] == ["xx", "yy"]
    assert done[1].text == fake_model().complete("cd", max_new_tokens=2).text


def test_tensors_in_and_out() -> None:
    """With torch prompts the function gets a tensor, and may return one."""
    torch = pytest.importorskip("torch")
    seen = []

    def function(batch_id: int, token_ids: Any) -> Any:
        seen.append((token_ids.dtype, token_ids.tolist()))
        return torch.tensor([50 + batch_id]) if batch_id else [token_ids[-1] * 0 + 50]

    out = fake_model().generate(
        torch.tensor(IDS), torch.tensor(MASK), max_new_tokens=1, prefix_allowed_tokens_fn=function
    )
    assert out[:, WIDTH:].tolist() == [[50], [51]]
    assert seen == [(torch.int64, row) for row in IDS.tolist()]


def test_allowed_tokens_that_are_banned() -> None:
    """transformers' rule, where an end comes too early: the constraint holds."""
    only_end = lambda _id, _ids: [EOS]  # noqa: E731
    options: dict[str, Any] = {"min_new_tokens": 3, "prefix_allowed_tokens_fn": only_end}
    assert fake_model().complete("ab", **options).token_ids == [EOS]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([], "sequence 1: prefix_allowed_tokens_fn allows no token after 3 tokens"),
        (None, "sequence 1: prefix_allowed_tokens_fn must return a list of token ids, got None"),
        ([259], "sequence 1: .* returned token id 259, which is outside the vocabulary, 0 to 258"),
    ],
)
def test_one_row_without_a_token(answer: Any, message: str) -> None:
    """The call ends with an error that names the row, and what another call does goes on."""
    model = fake_model()
    stream = model.stream("xyz", max_new_tokens=20)
    text = next(stream)

    def function(batch_id: int, token_ids: Any) -> Any:
        return answer if batch_id == 1 and len(token_ids) == 3 else [ord("a")]

    with pytest.raises(ValueError, match=message):
        model.complete(["ab", "cd"], max_new_tokens=4, prefix_allowed_tokens_fn=function)
    assert text + "".join(stream) == fake_model().complete("xyz", max_new_tokens=20).text


def test_the_defaults_of_a_model_may_have_them() -> None:
    """model.generation_config; None sets an option back."""
    model = fake_model(ends_early)
    model.generation_config.update(forced_eos_token_id=ord("!"), min_length=26)
    assert model.complete("abcdef", max_new_tokens=20).text[-1] == "!"
    model.generation_config.update(forced_eos_token_id=None, min_length=None)
    assert len(model.complete("abcdef", max_new_tokens=20).token_ids) == 3
    assert model.generation_config.min_length == 0
    assert model.generation_config.encoder_repetition_penalty == 1.0


def test_a_config_of_transformers_may_have_them() -> None:
    """By attribute: all that it sets means what it means by name."""
    transformers = pytest.importorskip("transformers")
    names = [name for name in OPTIONS if name != "prefix_allowed_tokens_fn"]
    model = fake_model(ends_early)
    for name in names:
        options: dict[str, Any] = {name: OPTIONS[name]}
        if name in ("forced_eos_token_id", "min_length"):
            options["max_new_tokens"] = 7
        config = transformers.GenerationConfig(**options)
        by_name = model.generate([[97, 98]], **options)
        assert model.generate([[97, 98]], config).tolist() == by_name.tolist(), name
