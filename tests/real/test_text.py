"""complete(), stream() and score() on real weights: the text, its stops, its numbers.

The prompts here have continuations whose two best tokens are never close, so that the same text
comes out however the tokens are divided into forward passes; ``reference`` makes sure of it.
"""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from localgen import Completion, LocalModel
from localgen.completion import TokenLogprob
from localgen.generation.row_stream import RowUpdate

pytestmark = pytest.mark.real

NAMES = ("chat", "html", "numbers")
N_NEW = 12
SURE = 0.1  # log-probability between the two likeliest tokens
CLOSE = 0.05  # log-probability, computed in two ways
OPTIONS: dict[str, Any] = {"max_new_tokens": N_NEW, "eos_token_id": []}


@pytest.fixture(scope="module")
def texts(parity: dict[str, Any]) -> dict[str, str]:
    """The prompts as text."""
    return {entry["name"]: entry["prompt"] for entry in parity["greedy"]}


@pytest.fixture(scope="module")
def reference(f16: LocalModel, texts: dict[str, str]) -> dict[str, Completion]:
    """Each prompt's greedy continuation, made alone, with its log-probabilities."""
    done = {name: f16.complete(texts[name], logprobs=3, **OPTIONS) for name in NAMES}
    for completion in done.values():
        assert completion.logprobs is not None
        assert min(step.top[0][1] - step.top[1][1] for step in completion.logprobs) > SURE
    return done


# --- text ---


def test_text_is_the_decoded_tokens(f16: LocalModel, reference: dict[str, Completion]) -> None:
    """Without a stop, decoding the new tokens gives the text, and limits give the reason."""
    for done in reference.values():
        assert done.text == f16.tokenizer.decode(done.token_ids, skip_special_tokens=True)
        assert len(done.token_ids) == N_NEW
        assert (done.finish_reason, done.stop_match) == ("length", None)


def test_end_token_is_kept_but_not_shown(f16: LocalModel, texts: dict[str, str]) -> None:
    """A row that ends itself has its EOS in token_ids and not in the text."""
    done = f16.complete(texts["chat_short"], max_new_tokens=N_NEW)
    assert done.token_ids == [5230, 30, 2]
    assert (done.text, done.finish_reason) == ("No.", "eos")


def test_stream_equals_complete(
    f16: LocalModel, texts: dict[str, str], reference: dict[str, Completion]
) -> None:
    """The pieces make the same text, and the completion at the end is the same result."""
    stream = f16.stream(texts["chat"], **OPTIONS)
    pieces = list(stream)
    assert len(pieces) > 1
    assert all(pieces)
    assert "".join(pieces) == stream.completion.text == reference["chat"].text
    assert stream.completion.token_ids == reference["chat"].token_ids
    assert stream.completion.finish_reason == "length"


def test_stream_gives_whole_characters(f16: LocalModel, texts: dict[str, str]) -> None:
    """Chinese characters of two or three tokens arrive whole: no piece holds U+FFFD."""
    stream = f16.stream(texts["chinese"], max_new_tokens=24)
    pieces = list(stream)
    n_parts = [len(f16.tokenizer.encode(char)) for char in "".join(pieces)]
    assert max(n_parts) > 1
    assert "\ufffd" not in "".join(pieces)
    assert "".join(pieces) == stream.completion.text


def test_ids_equal_text(
    f16: LocalModel, texts: dict[str, str], reference: dict[str, Completion]
) -> None:
    """A prompt given as its token ids is the same prompt."""
    ids = f16.tokenizer.encode(texts["html"])
    [done] = f16.complete([ids], **OPTIONS)
    assert done.token_ids == reference["html"].token_ids
    assert done.prompt_token_ids == reference["html"].prompt_token_ids == ids


def test_batch_equals_single(
    f16: LocalModel, texts: dict[str, str], reference: dict[str, Completion]
) -> None:
    """Several prompts together give each its own text, in order."""
    done = f16.complete([texts[name] for name in NAMES], **OPTIONS)
    assert [one.text for one in done] == [reference[name].text for name in NAMES]


def test_several_samples(exact: LocalModel, texts: dict[str, str]) -> None:
    """num_return_sequences gives a list for one text, the same as generate()'s rows."""
    options = {**OPTIONS, "max_new_tokens": 6, "num_return_sequences": 2, "seed": 4}
    done = exact.complete(texts["numbers"], **options)
    assert [one.stats.seed_row for one in done] == [0, 1]
    ids = done[0].prompt_token_ids
    rows = exact.generate([ids], do_sample=True, **options)
    assert [one.token_ids for one in done] == rows[:, len(ids) :].tolist()


# --- stop strings ---


def cut_across_tokens(
    model: LocalModel, done: Completion, first: int, last: int
) -> tuple[str, str]:
    """A string that starts inside token ``first`` and ends inside ``last``, after the text before
    it."""
    pieces = [model.tokenizer.decode([token]) for token in done.token_ids]
    assert "".join(pieces) == done.text
    assert min(len(pieces[first]), len(pieces[last])) > 2
    start = len("".join(pieces[:first])) + 2
    end = len("".join(pieces[:last])) + 2
    stop = done.text[start:end]
    assert done.text.find(stop) == start
    return done.text[:start], stop


def test_stop_string_across_tokens(
    f16: LocalModel, texts: dict[str, str], reference: dict[str, Completion]
) -> None:
    """A stop string that begins and ends inside tokens: the text ends before it, and the token
    that completed it is the last."""
    before, stop = cut_across_tokens(f16, reference["chat"], 5, 7)
    done = f16.complete(texts["chat"], stop_strings=["never there", stop], **OPTIONS)
    assert (done.text, done.finish_reason, done.stop_match) == (before, "stop", stop)
    assert done.token_ids == reference["chat"].token_ids[:8]


def test_stop_string_in_a_stream(
    f16: LocalModel, texts: dict[str, str], reference: dict[str, Completion]
) -> None:
    """The half of a stop string that a token already holds is never shown."""
    before, stop = cut_across_tokens(f16, reference["chat"], 5, 7)
    stream = f16.stream(texts["chat"], stop_strings=stop, **OPTIONS)
    assert "".join(stream) == before
    assert stream.completion.stop_match == stop


def test_almost_a_stop_string(
    f16: LocalModel, texts: dict[str, str], reference: dict[str, Completion]
) -> None:
    """What looked like a stop string's beginning and was not is shown after all."""
    _, stop = cut_across_tokens(f16, reference["chat"], 5, 7)
    stream = f16.stream(texts["chat"], stop_strings=[stop + "\x00"], **OPTIONS)
    assert "".join(stream) == reference["chat"].text
    assert stream.completion.finish_reason == "length"


def test_stop_strings_in_a_batch(
    f16: LocalModel, texts: dict[str, str], reference: dict[str, Completion]
) -> None:
    """A stop ends its own row only."""
    before, stop = cut_across_tokens(f16, reference["chat"], 5, 7)
    done = f16.complete([texts["chat"], texts["html"]], stop_strings=stop, **OPTIONS)
    assert [one.text for one in done] == [before, reference["html"].text]
    assert [one.finish_reason for one in done] == ["stop", "length"]


# --- numbers ---


def test_logprobs(exact: LocalModel, texts: dict[str, str]) -> None:
    """The chosen and the likeliest tokens' logprobs are the log-softmax of generate()'s logits."""
    done = exact.complete(texts["chat"], logprobs=3, **OPTIONS)
    out = exact.generate(
        [done.prompt_token_ids],
        np.ones((1, len(done.prompt_token_ids)), np.int64),  # its <|im_end|> is no padding
        return_dict_in_generate=True,
        output_logits=True,
        **OPTIONS,
    )
    assert done.logprobs is not None
    assert [step.token_id for step in done.logprobs] == done.token_ids
    for step, logits in zip(done.logprobs, out.logits, strict=True):
        wide = logits[0].astype(np.float64)
        logprobs = wide - wide.max() - np.log(np.exp(wide - wide.max()).sum())
        assert step.logprob == pytest.approx(logprobs[step.token_id], abs=1e-4)
        assert [token for token, _ in step.top] == np.argsort(-logprobs)[:3].tolist()
        assert [value for _, value in step.top] == pytest.approx(
            np.sort(logprobs)[::-1][:3].tolist(), abs=1e-4
        )


def test_logprobs_are_the_models_own(exact: LocalModel, texts: dict[str, str]) -> None:
    """Temperature, filters and suppressed tokens change the choice, not the reported numbers."""
    plain = exact.complete(texts["numbers"], max_new_tokens=1, logprobs=2)
    best = plain.token_ids[0]
    bent = exact.complete(
        texts["numbers"],
        max_new_tokens=1,
        logprobs=2,
        suppress_tokens=[best],
        temperature=3.0,
        top_k=2,
        seed=1,
    )
    assert bent.token_ids[0] != best
    assert plain.logprobs is not None
    assert bent.logprobs is not None
    assert bent.logprobs[0].top == plain.logprobs[0].top
    assert bent.logprobs[0].logprob < plain.logprobs[0].logprob


@pytest.mark.parametrize("name", NAMES)
def test_score_equals_logprobs(f16: LocalModel, texts: dict[str, str], name: str) -> None:
    """One pass over prompt and answer gives each token the logprob that generating it gave."""
    done = f16.complete(texts[name], logprobs=1, **OPTIONS)
    assert done.logprobs is not None
    scored = f16.score([*done.prompt_token_ids, *done.token_ids])
    assert scored.shape == (len(done.prompt_token_ids) + N_NEW - 1,)
    got = [step.logprob for step in done.logprobs]
    np.testing.assert_allclose(scored[-N_NEW:], got, rtol=0, atol=CLOSE)
    assert float(scored[-N_NEW:].sum()) == pytest.approx(sum(got), abs=N_NEW * CLOSE)


def test_score_of_one_token(f16: LocalModel) -> None:
    """A single token has nothing before it to be scored by."""
    assert f16.score([504]).shape == (0,)


def test_stats(f16: LocalModel, texts: dict[str, str]) -> None:
    """Counts are exact, and the parts of the time make up the whole."""
    done = f16.complete([texts["chat"], texts["numbers"]], **OPTIONS)
    for one in done:
        stats = one.stats
        assert stats.n_prompt == len(one.prompt_token_ids)
        assert stats.n_new == len(one.token_ids) == N_NEW
        assert stats.n_rows == 2
        assert 0 <= stats.n_cached < stats.n_prompt
        parts = (
            stats.prefill_seconds,
            stats.decode_seconds,
            stats.sample_seconds,
            stats.draft_seconds,
            stats.text_seconds,
            stats.overhead_seconds,
            stats.wait_seconds,
        )
        assert min(parts) >= 0.0
        assert sum(parts) == pytest.approx(stats.wall_seconds)
        assert stats.ttft is not None
        assert stats.prefill_seconds <= stats.ttft <= stats.wall_seconds
        assert stats.tokens_per_second is not None
        assert stats.tokens_per_second > 0.0
        assert stats.seed is None


# --- streams beside other calls ---


def test_a_call_between_two_pieces(
    f16: LocalModel, texts: dict[str, str], reference: dict[str, Completion]
) -> None:
    """A stream left half-way: another call is right, and so is the rest of the stream."""
    stream = f16.stream(texts["chat"], **OPTIONS)
    pieces = [next(stream) for _ in range(5)]
    other = f16.complete([texts["html"], texts["numbers"]], **OPTIONS)
    assert [one.text for one in other] == [reference["html"].text, reference["numbers"].text]
    f16.score(texts["one_token"] * 2)
    pieces += stream
    assert "".join(pieces) == reference["chat"].text
    assert stream.completion.token_ids == reference["chat"].token_ids


def test_two_streams_in_turns(
    f16: LocalModel, texts: dict[str, str], reference: dict[str, Completion]
) -> None:
    """Each piece displaces the other stream's cache, and neither text shows it."""
    names = ("chat", "html")
    options = {**OPTIONS, "max_new_tokens": 8}
    streams = [f16.stream(texts[name], **options) for name in names]
    pieces = list(zip(*streams, strict=False))
    assert len(pieces) >= 6
    for name, stream in zip(names, streams, strict=True):
        list(stream)  # what is left of the longer one
        assert stream.completion.token_ids == reference[name].token_ids[:8]
        assert reference[name].text.startswith(stream.completion.text)


def test_an_abandoned_stream(
    f16: LocalModel, texts: dict[str, str], reference: dict[str, Completion]
) -> None:
    """A closed stream keeps what it gave, gives nothing more, and disturbs no later call."""
    stream = f16.stream(texts["chat"], **OPTIONS)
    first = next(stream)
    stream.close()
    assert list(stream) == []
    assert stream.completion.finish_reason == "cancelled"
    assert stream.completion.text == first
    dropped = f16.stream(texts["html"], **OPTIONS)
    next(dropped)
    del dropped
    assert f16.complete(texts["chat"], **OPTIONS).text == reference["chat"].text


# --- asyncio ---


def test_rows_in_asyncio_equal_complete(
    f16: LocalModel, texts: dict[str, str], reference: dict[str, Completion]
) -> None:
    """Each row's pieces, tokens and log-probabilities are those of its prompt alone."""

    async def main() -> tuple[list[list[RowUpdate]], list[Completion]]:
        rows = f16.astream_rows([texts[name] for name in NAMES], logprobs=3, **OPTIONS)
        return [updates async for updates in rows], rows.completions

    updates, done = asyncio.run(main())
    for index, name in enumerate(NAMES):
        own = [each for items in updates for each in items if each.row == index]
        assert "".join(delta.text for each in own for delta in each.deltas) == reference[name].text
        assert [i for each in own for i in each.token_ids] == reference[name].token_ids
        assert done[index].token_ids == reference[name].token_ids


def test_tokens_are_scored_beside_a_call(f16: LocalModel, texts: dict[str, str]) -> None:
    """What score() gives alone, and the likeliest tokens, while a text is generated."""
    ids = f16.tokenizer.encode(" ".join(texts[name] for name in NAMES))

    async def main() -> list[TokenLogprob]:
        found, _ = await asyncio.gather(
            f16.ascore_tokens(ids, top=2), f16.acomplete(texts[NAMES[0]], **OPTIONS)
        )
        return found

    found = asyncio.run(main())
    assert [each.logprob for each in found] == pytest.approx(f16.score(ids).tolist(), abs=CLOSE)
    assert all(each.top[0][1] >= max(each.logprob, each.top[1][1]) for each in found)
