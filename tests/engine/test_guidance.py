"""Guidance against the slow loop: both logits from whole sequences, combined by the formula."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localgen import ContextFullError, DecodeError, GenerationConfig, KvBudgetError
from localgen.engine.sampling.filters import log_softmax
from localgen.engine.sampling.guided import guided
from localgen.generation.text_arguments import text_arguments
from tests.fakes import (
    EOS,
    FakeBackend,
    FakeModel,
    engine_of,
    fake_model,
    hashed_letter,
    hashed_logits,
    reference_greedy,
    spelling,
)

SCALES = [-1.0, 0.0, 0.45, 0.5, 1.5]


def reference(prompt: list[int], negative: list[int], scale: float, n_new: int = 6) -> list[int]:
    """Greedy tokens, each from the whole of both sequences."""
    new: list[int] = []
    for _ in range(n_new):
        rows = [hashed_logits(ids, hashed_letter(ids)) for ids in (prompt + new, negative + new)]
        own, other = map(log_softmax, rows)
        new.append(int(np.argmax(np.float32(scale) * (own - other) + other)))
        if new[-1] >= 257:
            break
    return new


def ids(text: str) -> list[int]:
    return list(text.encode())


def test_formula() -> None:
    """By hand: 2 * (-1 - -3) + -3 = 1."""
    own, other = np.array([-1, -2], np.float32), np.array([-3, -2], np.float32)
    assert guided(own, other, 2.0).tolist() == [1.0, -2.0]
    assert guided(own, other, 1.0).tolist() == own.tolist()
    assert guided(own, other, 0.0).tolist() == other.tolist()


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("options", [{"n_batch": 4}, {"n_batch": 64}, {"can_truncate": False}])
def test_a_negative_prompt(scale: float, options: dict[str, Any]) -> None:
    """However the two prompts are cut into passes."""
    model = fake_model(backend=FakeBackend(**options))
    prompt, negative = ids("a prompt of some length"), ids("none")
    done = model.complete(
        [prompt], guidance_scale=scale, negative_prompt=negative, max_new_tokens=6
    )
    assert done[0].token_ids == reference(prompt, negative, scale)


def test_without_one_the_guide_begins_with_the_last_token() -> None:
    model = fake_model()
    for scale in SCALES:
        out = model.generate([ids("abc")], guidance_scale=scale, max_new_tokens=6)
        assert out[0, 3:].tolist() == reference(ids("abc"), ids("c"), scale)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text("abcd", min_size=1, max_size=9),
            st.none() | st.text("xy", min_size=1, max_size=9),
            st.sampled_from([None, 1.0, *SCALES]),
        ),
        min_size=1,
        max_size=6,
    ),
    st.integers(2, 5),
)
def test_any_batch(rows: list[tuple[str, str | None, float | None]], n_places: int) -> None:
    """Each prompt with its own config, guided or not; any number of them in two places or more."""
    configs = [
        GenerationConfig(guidance_scale=scale, negative_prompt=negative, max_new_tokens=4)
        if scale not in (None, 1.0)
        else GenerationConfig(max_new_tokens=4)
        for _, negative, scale in rows
    ]
    model = fake_model(max_sequences=n_places)
    done = model.complete([text for text, _, _ in rows], generation_config=configs)
    for each, (text, negative, scale) in zip(done, rows, strict=True):
        if scale in (None, 1.0):
            expected = reference_greedy(ids(text), 4)
        else:
            expected = reference(ids(text), ids(negative or text[-1]), scale, 4)
        assert each.token_ids == expected
    assert engine_of(model).idle


def test_rows_of_negative_prompts() -> None:
    """One for all, one each, or one for each sequence, padded on any side with its mask."""
    prompts, width = [ids("ab"), ids("cd")], 2
    given = np.array([[7, 7, *ids("xyz")], [*ids("uv"), 7, 7, 7]])
    mask = np.array([[0, 0, 1, 1, 1], [1, 1, 0, 0, 0]])
    expected = [
        reference(p, n, 0.45) for p, n in zip(prompts, (ids("xyz"), ids("uv")), strict=True)
    ]
    options: dict[str, Any] = {"guidance_scale": 0.45, "max_new_tokens": 6}
    out = fake_model().generate(
        prompts, negative_prompt_ids=given, negative_prompt_attention_mask=mask, **options
    )
    assert out[:, width:].tolist() == expected
    out = fake_model().generate(prompts, negative_prompt_ids=[ids("uv")], **options)
    assert out[:, width:].tolist() == [reference(p, ids("uv"), 0.45) for p in prompts]
    sampled = {**options, "do_sample": True, "num_return_sequences": 2, "seed": 3, "top_k": 1}
    out = fake_model(max_sequences=8).generate(
        prompts,
        negative_prompt_ids=np.repeat(given, 2, axis=0),
        negative_prompt_attention_mask=np.repeat(mask, 2, axis=0),
        **sampled,
    )
    assert out[:, width:].tolist() == [expected[0]] * 2 + [expected[1]] * 2


def test_raw_logits_and_scores() -> None:
    """As in transformers: logits are those of the prompt, scores those after guidance."""
    out = fake_model().generate(
        [ids("abc")],
        guidance_scale=1.5,
        negative_prompt_ids=[ids("x")],
        max_new_tokens=2,
        return_dict_in_generate=True,
        output_scores=True,
        output_logits=True,
    )
    own = hashed_logits(ids("abc"), hashed_letter(ids("abc")))
    other = hashed_logits(ids("x"), hashed_letter(ids("x")))
    np.testing.assert_array_equal(out.logits[0][0], own)
    expected = guided(log_softmax(own), log_softmax(other), 1.5)
    np.testing.assert_array_equal(out.scores[0][0], expected)


def test_callers_functions_come_after_it() -> None:
    """They see one row for each prompt, without the guides, and may choose any token."""
    seen = []

    def process(input_ids: Any, scores: Any) -> Any:
        seen.append((input_ids.shape, float(scores.max())))
        scores[:] = -np.inf
        scores[:, 65] = 0
        return scores

    prompts = [ids("ab"), ids("cd")]
    options: dict[str, Any] = {"guidance_scale": 3.0, "max_new_tokens": 3}
    out = fake_model().generate(prompts, logits_processor=[process], **options)
    assert out[:, 2:].tolist() == [[65] * 3] * 2
    assert [shape for shape, _ in seen] == [(2, 2), (2, 3), (2, 4)]
    assert fake_model().complete("ab", logits_processor=process, **options).token_ids == [65] * 3
    with pytest.raises(ValueError, match="got 4, guides included, and max_sequences is 3"):
        fake_model(max_sequences=3).generate(prompts, logits_processor=[process], **options)


def test_processors_and_masks_come_after_it() -> None:
    banned = reference(ids("ab"), ids("b"), 1.5, 1)
    done = fake_model().complete("ab", guidance_scale=1.5, suppress_tokens=banned, max_new_tokens=3)
    assert not {*banned} & {*done.token_ids}
    assert len(done.token_ids) == 3


def test_a_guide_ends_with_its_sequence() -> None:
    """EOS, a stop string and a deadline end both; the guide's text is never looked at."""
    model = fake_model(spelling("no end"))
    done = model.complete(["Q?", "R?"], guidance_scale=2.0)
    assert [each.finish_reason for each in done] == ["eos", "eos"]
    assert done[0].text == "no end"
    done = model.complete(["Q?", "R?"], guidance_scale=2.0, stop_strings="end")
    assert [each.finish_reason for each in done] == ["stop", "stop"]
    done = model.complete(["Q?", "R?"], guidance_scale=2.0, max_time=1e-9)
    assert [each.finish_reason for each in done] == ["time", "time"]
    assert engine_of(model).idle


def test_streams_and_cancel() -> None:
    model = fake_model()
    stream = model.stream("ab", guidance_scale=0.45, max_new_tokens=6)
    assert list("".join(stream).encode()) == reference(ids("ab"), ids("b"), 0.45)
    stream = model.stream("ab", guidance_scale=0.45, max_new_tokens=6)
    next(stream)
    stream.close()
    assert stream.completion.finish_reason == "cancelled"
    event = threading.Event()
    event.set()
    assert model.complete("ab", guidance_scale=2.0, cancel=event).finish_reason == "cancelled"
    assert engine_of(model).idle


def test_sampling_takes_the_draws_of_its_own_stream() -> None:
    """A guide draws nothing: the same seed gives the same tokens beside any other prompts."""
    options: dict[str, Any] = {"guidance_scale": 1.1, "temperature": 9.0, "max_new_tokens": 8}
    alone = fake_model().complete(["ab"], seed=[5], **options)
    beside = fake_model().complete(["x", "ab", "y"], seed=[1, 5, 2], **options)
    assert beside[1].token_ids == alone[0].token_ids


def test_an_interrupt_between_two_tokens() -> None:
    """The sequence has a token that its guide has not: the guide catches up, and the rest follows
    as if nothing had happened."""
    model = fake_model()
    engine = engine_of(model)
    accepted = engine.accept
    n_calls = 0

    def interrupted(sequence: Any, token_id: int) -> bool:
        nonlocal n_calls
        n_calls += 1
        if n_calls == 4:  # the guide's second token
            raise KeyboardInterrupt
        return accepted(sequence, token_id)

    engine.accept = interrupted  # type: ignore[method-assign]
    call = model._requests.from_texts(text_arguments("ab", guidance_scale=0.45, max_new_tokens=6))
    engine.submit(call.request)
    interrupts = 0
    while not call.request.done:
        try:
            engine.step()
        except KeyboardInterrupt:
            interrupts += 1
    assert interrupts == 1
    assert call.sequences[0].new_token_ids.tolist() == reference(ids("ab"), ids("b"), 0.45)


def test_logits_of_a_guide_that_are_not_finite() -> None:
    """They are the model's fault, and the error says so."""

    class Broken(FakeBackend):
        def decode(self, *given: Any) -> Any:
            logits = super().decode(*given)
            logits[1:] = np.nan
            return logits

    with pytest.raises(DecodeError, match="not finite after 1 tokens of a negative prompt"):
        fake_model(backend=Broken()).complete("ab", guidance_scale=2.0, negative_prompt=[1])


# --- what is refused before anything runs ---


def refused(
    error: type[Exception], message: str, *, model: FakeModel | None = None, **options: Any
) -> None:
    model = model or fake_model()
    with pytest.raises(error, match=message):
        model.complete("ab", **{"guidance_scale": 2.0, **options})
    assert not model.backend.calls


def test_bad_arguments() -> None:
    refused(ValueError, "guidance_scale must be a number between -1e4", guidance_scale="high")
    refused(ValueError, "guidance_scale must be a number between -1e4", guidance_scale=float("nan"))
    refused(ValueError, "negative_prompt must be one text or its token ids", negative_prompt="")
    refused(ValueError, "negative_prompt must be one text", negative_prompt=["a", "b"])
    refused(ValueError, "negative_prompt must be one text", negative_prompt=3)
    message = {"role": "user", "content": "x"}
    for chat in ([message], message):
        advice = r"negative_prompt must be one text .* pass tokenizer\.apply_chat_template\("
        refused(ValueError, advice, negative_prompt=chat)
    refused(ValueError, "negative_prompt: token id 900 is outside", negative_prompt=[900])
    refused(ContextFullError, "the negative prompt has 600 tokens", negative_prompt="x" * 600)
    refused(
        ValueError,
        "decodes a second sequence beside each one, and max_sequences is 1",
        model=fake_model(max_sequences=1),
    )
    refused(
        KvBudgetError,
        "2 sequences of 12 tokens that run together do not fit",
        model=fake_model(budget=20),
        max_new_tokens=10,
    )


def test_not_with_beams() -> None:
    refused(ValueError, "guidance_scale=2.0 cannot be used with num_beams=2", num_beams=2)


def test_with_healing() -> None:
    """The guide begins with the last token that stays, and gets those that are generated again."""
    model, n_new = fake_model(), 4
    healed = model.complete("ab", guidance_scale=1.5, token_healing=True, max_new_tokens=n_new)
    plain = model.complete("ab", guidance_scale=1.5, max_new_tokens=n_new)
    assert healed.token_ids == plain.token_ids  # of bytes: no token is longer


def test_bad_arguments_of_generate() -> None:
    bad: dict[str, dict[str, Any]] = {
        "belongs": {"negative_prompt_attention_mask": [[1]]},
        "has 2 rows for 3 prompts": {"negative_prompt_ids": [[1], [2]]},
        "the shape of negative_prompt_ids": {
            "negative_prompt_ids": [[1]],
            "negative_prompt_attention_mask": [[1, 1]],
        },
        "negative_prompt_ids: token id 999": {"negative_prompt_ids": [[999]]},
        "here use negative_prompt_ids": {"negative_prompt": "x"},
    }
    for message, options in bad.items():
        with pytest.raises(ValueError, match=message):
            fake_model().generate([[1], [2], [3]], guidance_scale=2.0, **options)


def test_the_context_limits_both() -> None:
    """New tokens end where the longer of the two is full."""
    done = fake_model(n_ctx=20).complete("ab", guidance_scale=2.0, negative_prompt="x" * 15)
    assert (len(done.token_ids), done.finish_reason) == (5, "length")


def test_no_effect_without_guidance() -> None:
    with pytest.warns(UserWarning, match="negative_prompt has no effect without guidance_scale"):
        fake_model().complete("ab", negative_prompt="x", max_new_tokens=1)
    with pytest.warns(UserWarning, match="negative_prompt_ids has no effect"):
        fake_model().generate([[1]], negative_prompt_ids=[[1]], max_new_tokens=1)


def test_eos_of_the_guide_ends_nothing() -> None:
    """A guide that would end goes on with its sequence's tokens."""
    ends = lambda t: EOS if t[0] == ord("x") else hashed_letter(t)  # noqa: E731
    done = fake_model(ends).complete(
        "ab", guidance_scale=3.0, negative_prompt="x", max_new_tokens=4
    )
    assert len(done.token_ids) == 4
