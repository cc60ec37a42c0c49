"""generate() on real weights: shapes, padding, seeds, limits, hooks, and the KV cache's honesty.

Two ways to compute one row (alone or in a batch, from the cache or anew) differ by rounding, and a
step whose two best logits are close may then go either way. Such tests use the F16 weights, where
rounding stays below ``SURE``, and compare tokens up to the first close step.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from localgen import ContextFullError, LocalModel
from localgen.engine.uniforms import UniformStream

pytestmark = pytest.mark.real

SURE = 0.05  # logits
SURE_DRAW = 0.01  # probability
SURE_ORDER = 0.03  # logits
FACT, STORY, CHAT = "fact", "story", "chat_short"
Prompts = dict[str, list[int]]
Array = npt.NDArray[Any]


def n_sure(logits: tuple[Array, ...], row: int = 0) -> int:
    """How many steps of a row come before the first whose two best logits are close."""
    for step, matrix in enumerate(logits):
        second, best = np.partition(matrix[row], -2)[-2:]
        if not best - second > SURE:  # also for NaN, where the row has ended
            return step
    return len(logits)


def greedy(model: LocalModel, prompt: list[int], n_new: int, **options: Any) -> Any:
    """A greedy row that no EOS ends, with its logits."""
    return model.generate(
        [prompt],
        max_new_tokens=n_new,
        eos_token_id=[],
        return_dict_in_generate=True,
        output_logits=True,
        **options,
    )


def padded(rows: list[list[int]], side: str) -> tuple[Array, Array]:
    """Rows as one matrix and its mask, padded on ``side`` with token 0."""
    width = max(map(len, rows))
    ids, mask = np.zeros((len(rows), width), np.int64), np.zeros((len(rows), width), np.int64)
    for index, row in enumerate(rows):
        place = slice(0, len(row)) if side == "right" else slice(width - len(row), width)
        ids[index, place], mask[index, place] = row, 1
    return ids, mask


# --- shape and padding ---


def test_shape(smollm2: LocalModel, prompts: Prompts) -> None:
    """(batch * num_return_sequences, prompt + new), the prompts as given, a row's copies together;
    a row that ended early is filled up with the pad token."""
    ids, mask = padded([prompts[FACT], prompts[STORY]], "left")
    out = smollm2.generate(
        ids,
        mask,
        max_new_tokens=5,
        num_return_sequences=3,
        do_sample=True,
        seed=1,
        eos_token_id=[],
    )
    assert out.shape == (6, ids.shape[1] + 5)
    assert out.dtype == np.int64
    np.testing.assert_array_equal(out[:, : ids.shape[1]], np.repeat(ids, 3, axis=0))


def test_short_rows_are_padded(f16: LocalModel, prompts: Prompts) -> None:
    """A row that meets EOS is filled with pad_token_id, the EOS itself kept."""
    ids, mask = padded([prompts[CHAT], prompts[STORY]], "left")
    out = f16.generate(ids, mask, max_new_tokens=6, eos_token_id=[2], pad_token_id=0)
    new = out[:, ids.shape[1] :].tolist()
    assert new[0] == [5230, 30, 2, 0, 0, 0]  # "No.", EOS, padding
    assert 0 not in new[1]


def test_left_and_right_padding(exact: LocalModel, prompts: Prompts) -> None:
    """The side of the padding changes nothing: no pad token is ever computed."""
    rows = [prompts[FACT], prompts[STORY]]
    left, right = padded(rows, "left"), padded(rows, "right")
    options: dict[str, Any] = {"max_new_tokens": 8, "eos_token_id": []}
    width = left[0].shape[1]
    np.testing.assert_array_equal(
        exact.generate(*left, **options)[:, width:],
        exact.generate(*right, **options)[:, width:],
    )


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ([0, 0, 0], "every position is 0"),
        ([1, 1], "shape"),
        ([1, 2, 1], "only 0 and 1"),
    ],
)
def test_bad_masks(smollm2: LocalModel, mask: list[int], message: str) -> None:
    """A mask that is no prompt is refused before anything is computed."""
    with pytest.raises(ValueError, match=message):
        smollm2.generate([[504, 3575, 282]], [mask], max_new_tokens=1)


@pytest.mark.parametrize("bad", [49152, -1])
def test_bad_ids(smollm2: LocalModel, bad: int) -> None:
    """An id outside the vocabulary would make C read memory that is not ours."""
    with pytest.raises(ValueError, match="outside the vocabulary"):
        smollm2.generate([[504, bad]], max_new_tokens=1)


# --- batches, forks and the KV cache ---


def test_ragged_batch_equals_single_rows(f16: LocalModel, prompts: Prompts) -> None:
    """A row's tokens don't depend on its neighbours, nor on those that end before it."""
    rows = [prompts[name] for name in (FACT, CHAT, "one_token", "html")]
    options: dict[str, Any] = {"max_new_tokens": 10, "eos_token_id": [2]}
    ids, mask = padded(rows, "left")
    batch = f16.generate(ids, mask, **options)[:, ids.shape[1] :]
    for row, new in zip(rows, batch, strict=True):
        alone = f16.generate([row], return_dict_in_generate=True, output_logits=True, **options)
        n = n_sure(alone.logits)
        assert n >= 2
        assert new[:n].tolist() == alone.sequences[0, len(row) :][:n].tolist()


def test_cache_equals_no_cache(f16: LocalModel, prompts: Prompts) -> None:
    """The slow loop, the whole sequence anew for each token, gives what the KV cache gives."""
    prompt = prompts["chat"]
    cached = greedy(f16, prompt, 10)
    tokens = list(prompt)
    for _ in range(n_sure(cached.logits)):
        f16.score([504, 3575])  # whatever the cache held is gone
        tokens = f16.generate([tokens], max_new_tokens=1, eos_token_id=[])[0].tolist()
    assert len(tokens) > len(prompt) + 6
    assert tokens == cached.sequences[0, : len(tokens)].tolist()


def test_more_rows_than_places(f16_path: Path, prompts: Prompts) -> None:
    """Rows that wait for a place, and prompts cut into chunks, change no row's result."""
    rows = [prompts[name] for name in ("html", "chat", "numbers", CHAT, "html")]
    ids, mask = padded(rows, "left")
    options: dict[str, Any] = {"max_new_tokens": 4, "eos_token_id": [2]}
    with LocalModel.from_pretrained(f16_path, device="cpu", max_sequences=2, n_batch=4) as narrow:
        out = narrow.generate(
            ids, mask, return_dict_in_generate=True, output_logits=True, **options
        )
        alone = [narrow.generate([row], **options)[0, len(row) :].tolist() for row in rows]
    assert all(n_sure(out.logits, row) >= len(each) for row, each in enumerate(alone))
    width = ids.shape[1]
    for new, single in zip(out.sequences[:, width:].tolist(), alone, strict=True):
        assert new[: len(single)] == single
    assert out.finish_reasons == ["length", "length", "length", "eos", "length"]


def test_forks_share_the_prefill(f16: LocalModel, prompts: Prompts) -> None:
    """Only the first of a prompt's sequences computes it; a seed a row makes each row the row of
    a separate call."""
    prompt, seeds = prompts[STORY], list(range(7, 15))
    options: dict[str, Any] = {
        "max_new_tokens": 8,
        "do_sample": True,
        "top_k": 5,
        "eos_token_id": [],
        "return_dict_in_generate": True,
        "output_scores": True,
    }
    forked = f16.generate([prompt], num_return_sequences=8, seed=seeds, **options)
    assert forked.stats[0].n_cached < len(prompt)  # what other calls have left
    assert [stats.n_cached for stats in forked.stats[1:]] == 7 * [len(prompt)]
    assert [stats.seed for stats in forked.stats] == seeds
    n_compared = 0
    for row, seed in enumerate(seeds):
        alone = f16.generate([prompt], seed=seed, **options)
        n = _n_sure_draws(alone.scores, seed)
        n_compared += n
        new = slice(len(prompt), len(prompt) + n)
        assert forked.sequences[row, new].tolist() == alone.sequences[0, new].tolist()
    assert n_compared >= 6


def _n_sure_draws(scores: tuple[Array, ...], seed: int) -> int:
    """How many steps come before the first uniform that falls near the edge of a token's share, or
    among tokens so close that they may come in another order."""
    uniform = UniformStream(seed, 0)
    for step, matrix in enumerate(scores):
        kept = np.sort(matrix[0][np.isfinite(matrix[0])].astype(float))[::-1]
        edges = np.exp(kept - kept[0]).cumsum()
        drawn = uniform()
        n_passed = int((edges / edges[-1] <= drawn).sum())
        gaps = -np.diff(kept[: n_passed + 2])
        if np.abs(edges[:-1] / edges[-1] - drawn).min() < SURE_DRAW or gaps.min() < SURE_ORDER:
            return step
    return len(scores)


def test_draws_follow_the_stream(smollm2: LocalModel, prompts: Prompts) -> None:
    """Each token is the inverse transform of the row's uniform: the first of the candidates,
    likeliest first, whose running sum passes it."""
    prompt, seed = prompts[FACT], 5
    out = smollm2.generate(
        [prompt],
        max_new_tokens=8,
        do_sample=True,
        top_k=4,
        temperature=1.5,
        seed=seed,
        eos_token_id=[],
        return_dict_in_generate=True,
        output_scores=True,
    )
    uniform = UniformStream(seed, 0)
    for token, scores in zip(out.sequences[0, len(prompt) :], out.scores, strict=True):
        order = np.argsort(-scores[0])[:4]
        weights = np.exp(scores[0][order].astype(float))
        position = int((weights.cumsum() / weights.sum() <= uniform()).sum())
        assert token == order[position]


def test_seeds(exact: LocalModel, prompts: Prompts) -> None:
    """The same seed gives the same tokens, another seed others, and a seed that was drawn is
    reported so that the call can be repeated."""
    options: dict[str, Any] = {
        "max_new_tokens": 6,
        "do_sample": True,
        "eos_token_id": [],
        "return_dict_in_generate": True,
    }

    def run(seed: Any) -> tuple[list[int], Any]:
        out = exact.generate([prompts[STORY]], seed=seed, **options)
        return out.sequences[0].tolist(), out.stats[0]

    first, _ = run(11)
    assert run(11)[0] == first
    assert run(12)[0] != first
    fresh, stats = run(None)
    assert run(stats.seed)[0] == fresh


# --- scores and logits ---


def test_logits(f16: LocalModel, prompts: Prompts) -> None:
    """One (rows, n_vocab) float32 array a step, the model's own: greedy is their argmax; a row that
    has ended is NaN."""
    ids, mask = padded([prompts[CHAT], prompts[STORY]], "left")
    out = f16.generate(
        ids,
        mask,
        max_new_tokens=5,
        eos_token_id=[2],
        return_dict_in_generate=True,
        output_logits=True,
        output_scores=True,
    )
    assert len(out.logits) == len(out.scores) == 5
    assert {step.shape for step in (*out.logits, *out.scores)} == {(2, 49152)}
    assert {step.dtype for step in (*out.logits, *out.scores)} == {np.dtype(np.float32)}
    new = out.sequences[:, ids.shape[1] :]
    assert [int(step[1].argmax()) for step in out.logits] == new[1].tolist()
    assert [bool(np.isnan(step[0]).all()) for step in out.logits] == [False] * 3 + [True] * 2
    np.testing.assert_array_equal(out.scores, out.logits)  # nothing was asked that changes them
    assert out.finish_reasons == ["eos", "length"]


def test_greedy_scores_show_what_was_suppressed(smollm2: LocalModel, prompts: Prompts) -> None:
    """Scores are after the processors, logits before them."""
    best = int(greedy(smollm2, prompts[FACT], 1).sequences[0, -1])
    out = greedy(smollm2, prompts[FACT], 2, suppress_tokens=[best], output_scores=True)
    assert best not in out.sequences[0, -2:]
    for scores, logits in zip(out.scores, out.logits, strict=True):
        assert scores[0, best] == -np.inf
        assert np.isfinite(logits).all()
        np.testing.assert_array_equal(np.delete(scores, best, 1), np.delete(logits, best, 1))


def test_sampling_scores_show_what_was_filtered(smollm2: LocalModel, prompts: Prompts) -> None:
    """Sampling's scores are logits / temperature for the top_k tokens and -inf for all others."""
    out = greedy(
        smollm2,
        prompts[STORY],
        4,
        do_sample=True,
        top_k=5,
        temperature=2.0,
        seed=3,
        output_scores=True,
    )
    new = out.sequences[0, -4:]
    for token, scores, logits in zip(new, out.scores, out.logits, strict=True):
        kept = np.flatnonzero(np.isfinite(scores[0]))
        assert set(kept) == set(np.argsort(-logits[0])[:5])
        assert token in kept
        np.testing.assert_allclose(scores[0][kept], logits[0][kept] / 2.0, rtol=1e-6)


# --- limits ---


def test_max_new_tokens_wins(smollm2: LocalModel, prompts: Prompts) -> None:
    """Given both lengths, max_new_tokens decides, with a warning, as in transformers."""
    prompt = prompts[FACT]
    with pytest.warns(UserWarning, match="max_new_tokens wins"):
        out = smollm2.generate([prompt], max_new_tokens=3, max_length=20, eos_token_id=[])
    assert out.shape == (1, len(prompt) + 3)


def test_max_length_counts_the_padded_prompt(smollm2: LocalModel, prompts: Prompts) -> None:
    """max_length is the width of the result, padding included, as in transformers."""
    ids, mask = padded([prompts[FACT], prompts[STORY]], "left")
    width = ids.shape[1]
    out = smollm2.generate(ids, mask, max_length=width + 2, eos_token_id=[])
    assert out.shape == (2, width + 2)
    with pytest.raises(ValueError, match="max_length"):
        smollm2.generate(ids, mask, max_length=width)


def test_context_edge(smollm2_path: Path, prompts: Prompts) -> None:
    """A row ends exactly when the context is full; a prompt that fills it is refused by name."""
    prompt = prompts[FACT] * 3
    with LocalModel.from_pretrained(smollm2_path, device="cpu", n_ctx=16) as model:
        options: dict[str, Any] = {"eos_token_id": [], "return_dict_in_generate": True}
        for n_prompt in (5, 15):
            out = model.generate([prompt[:n_prompt]], max_new_tokens=100, **options)
            assert out.sequences.shape == (1, 16)
            assert out.finish_reasons == ["length"]
        with pytest.raises(ContextFullError, match=r"16 tokens and n_ctx is 16") as caught:
            model.generate([[*prompt, 504]], max_new_tokens=1)
        assert (caught.value.n_prompt, caught.value.n_ctx) == (16, 16)
        assert len(model.score([*prompt, 504])) == 15
        with pytest.raises(ContextFullError):
            model.score([*prompt, 504, 504])


def test_max_time(exact: LocalModel, prompts: Prompts, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the time is over the row ends with "time" and keeps its tokens; the clock is set
    forward here, so the test does not depend on how fast the machine is."""
    real_clock, ahead = time.perf_counter, [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: real_clock() + ahead[0])
    prompt = prompts[FACT]

    def skip_an_hour_after_three_tokens(input_ids: Array, scores: None) -> bool:
        if input_ids.shape[1] == len(prompt) + 3:
            ahead[0] = 3600.0
        return False

    out = exact.generate(
        [prompt],
        max_time=1800.0,
        max_new_tokens=10,
        eos_token_id=[],
        stopping_criteria=[skip_an_hour_after_three_tokens],
        return_dict_in_generate=True,
    )
    assert out.finish_reasons == ["time"]
    assert out.sequences.shape == (1, len(prompt) + 3)
    monkeypatch.undo()
    plain = exact.generate([prompt], max_new_tokens=3, eos_token_id=[])
    np.testing.assert_array_equal(out.sequences, plain)


# --- the caller's functions ---


def test_stopping_criteria(smollm2: LocalModel, prompts: Prompts) -> None:
    """Called after each step with the whole batch, padded as given; each row's own flag ends it."""
    rows = [prompts[FACT], prompts[STORY]]
    ids, mask = padded(rows, "left")
    width = ids.shape[1]
    seen: list[list[list[int]]] = []

    def stop_story_after_two(input_ids: Array, scores: None) -> Array:
        assert input_ids.dtype == np.int64
        seen.append(input_ids.tolist())
        return np.array([False, input_ids.shape[1] == width + 2])

    out = smollm2.generate(
        ids,
        mask,
        max_new_tokens=4,
        eos_token_id=[],
        pad_token_id=0,
        stopping_criteria=[lambda input_ids, scores: False, stop_story_after_two],
        return_dict_in_generate=True,
    )
    assert out.finish_reasons == ["length", "stop"]
    assert out.sequences[1, width + 2 :].tolist() == [0, 0]
    assert seen == [out.sequences[:, : width + n].tolist() for n in range(1, 5)]


def test_logits_processor(smollm2: LocalModel, prompts: Prompts) -> None:
    """Called before each token with (rows, length) ids, padded as given, and (rows, n_vocab)
    scores; what it returns decides."""
    rows = [prompts[FACT], prompts[STORY]]
    ids, mask = padded(rows, "left")
    width = ids.shape[1]

    def force_row_and_length(input_ids: Array, scores: Array) -> Array:
        assert input_ids.dtype == np.int64
        assert scores.shape == (2, 49152)
        assert scores.dtype == np.float32
        forced = np.full_like(scores, -np.inf)
        for row in range(2):
            forced[row, 1000 * (row + 1) + input_ids.shape[1]] = 0.0
        return forced

    out = smollm2.generate(
        ids, mask, max_new_tokens=2, eos_token_id=[], logits_processor=force_row_and_length
    )
    assert out[:, :width].tolist() == ids.tolist()
    assert out[:, width:].tolist() == [[n + width, n + 1 + width] for n in (1000, 2000)]


def test_a_processor_may_not_call_the_model(smollm2: LocalModel) -> None:
    """A call from inside a call would overwrite the KV cache under it; the model stays usable."""

    def call_again(input_ids: Array, scores: Array) -> Array:
        smollm2.generate(input_ids, max_new_tokens=1)
        return scores

    with pytest.raises(RuntimeError, match="its own callback"):
        smollm2.generate([[504, 3575]], max_new_tokens=1, logits_processor=[call_again])
    assert smollm2.generate([[504, 3575]], max_new_tokens=1).shape == (1, 3)


class Recorder:
    """A streamer that writes down what it is given."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def put(self, value: Any) -> None:
        assert "end" not in self.calls
        self.calls.append(value.tolist())

    def end(self) -> None:
        self.calls.append("end")


def test_streamer(f16: LocalModel, prompts: Prompts) -> None:
    """transformers' protocol: put the (1, n) prompt, put each token as (1,), end."""
    streamer = Recorder()
    prompt = prompts[CHAT]
    out = f16.generate([prompt], max_new_tokens=8, eos_token_id=[2], streamer=streamer)
    assert streamer.calls == [[prompt], [5230], [30], [2], "end"]  # "No.", EOS
    assert out[0].tolist() == [*prompt, 5230, 30, 2]
    with pytest.raises(ValueError, match="takes one sequence"):
        f16.generate([prompt, prompt], max_new_tokens=1, streamer=Recorder())


# --- programs written for transformers ---


def test_torch_program(exact: LocalModel) -> None:
    """Tensors in, tensors out, and the same tokens as without torch."""
    torch = pytest.importorskip("torch")
    tokenizer = exact.tokenizer
    texts = ["The capital of France is", "2, 4, 8,"]
    inputs = tokenizer(texts, padding=True, return_tensors="pt").to(exact.device)
    outputs = exact.generate(**inputs, max_new_tokens=4, do_sample=False)
    assert isinstance(outputs, torch.Tensor)
    assert outputs.dtype == torch.int64
    new = outputs[:, inputs["input_ids"].shape[1] :]
    arrays = tokenizer(texts, padding=True)
    plain = exact.generate(**arrays, max_new_tokens=4)
    np.testing.assert_array_equal(outputs.numpy(), plain)
    assert len(tokenizer.batch_decode(new, skip_special_tokens=True)) == 2


def test_torch_dictionary(smollm2: LocalModel, prompts: Prompts) -> None:
    """Scores and logits come as tensors too, and the caller's functions get tensors."""
    torch = pytest.importorskip("torch")
    seen: list[Any] = []

    def look(input_ids: Any, scores: Any) -> Any:
        seen.append((type(input_ids), type(scores), tuple(input_ids.shape), tuple(scores.shape)))
        return scores

    out = smollm2.generate(
        torch.tensor([prompts[FACT]]),
        max_new_tokens=2,
        eos_token_id=[],
        logits_processor=[look],
        return_dict_in_generate=True,
        output_logits=True,
    )
    width = len(prompts[FACT])
    tensor = torch.Tensor
    assert seen == [(tensor, tensor, (1, width + i), (1, 49152)) for i in range(2)]
    assert [int(step[0].argmax()) for step in out.logits] == out.sequences[0, width:].tolist()


def test_torch_seeds(exact: LocalModel) -> None:
    """Regression: the same seed of torch gave other tokens each time."""
    torch = pytest.importorskip("torch")
    inputs = exact.tokenizer(["The sun is", "One"], padding=True, return_tensors="pt")
    options: dict[str, Any] = {"do_sample": True, "max_new_tokens": 6}
    torch.manual_seed(0)
    first, second = (exact.generate(**inputs, **options) for _ in range(2))
    torch.manual_seed(0)
    assert exact.generate(**inputs, max_new_tokens=2).shape[0] == 2  # greedy: draws nothing
    assert torch.equal(exact.generate(**inputs, **options), first)
    assert not torch.equal(first, second)


def test_torch_forward_pass(f16: LocalModel) -> None:
    """The last row of logits gives the next token; scores of transitions come as tensors."""
    torch = pytest.importorskip("torch")
    inputs = f16.tokenizer(["The capital of France is", "2, 4,"], padding=True, return_tensors="pt")
    logits = f16(**inputs).logits
    assert logits.shape == (*inputs.input_ids.shape, 49152)
    options: dict[str, Any] = {"return_dict_in_generate": True, "output_scores": True}
    out = f16.generate(**inputs, max_new_tokens=2, **options)
    width = inputs.input_ids.shape[1]
    assert torch.equal(logits[:, -1].argmax(-1), out.sequences[:, width])
    found = f16.compute_transition_scores(out.sequences, out.scores, normalize_logits=True)
    expected = torch.stack(out.scores, 1).log_softmax(-1)
    chosen = out.sequences[:, width:, None]
    torch.testing.assert_close(found, expected.gather(-1, chosen)[..., 0], rtol=0, atol=1e-4)


def test_transformers_parts(exact: LocalModel, capsys: pytest.CaptureFixture[str]) -> None:
    """transformers' own streamer, logits processor and stopping criteria work unchanged."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    inputs = exact.tokenizer("The old sailor looked at the sky", return_tensors="pt")
    streamer = transformers.TextStreamer(exact.tokenizer, skip_prompt=True)
    width = inputs.input_ids.shape[1]
    penalty = transformers.RepetitionPenaltyLogitsProcessor(1.3)
    outputs = exact.generate(
        **inputs,
        streamer=streamer,
        eos_token_id=[],
        logits_processor=transformers.LogitsProcessorList([penalty]),
        stopping_criteria=transformers.StoppingCriteriaList(
            [transformers.MaxLengthCriteria(width + 10)]
        ),
    )
    assert outputs.shape == (1, width + 10)
    assert capsys.readouterr().out == exact.tokenizer.decode(outputs[0, width:]) + "\n"
    own = exact.generate(**inputs, max_new_tokens=10, eos_token_id=[], repetition_penalty=1.3)
    assert torch.equal(outputs, own)


def test_transformers_parts_of_a_batch(exact: LocalModel) -> None:
    """Regression: rows were given alone and without padding, so that all of these went wrong."""
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    texts = ["Hi", "The capital of France is"]
    inputs = exact.tokenizer(texts, return_tensors="pt", padding=True)
    width = inputs.input_ids.shape[1]
    options: dict[str, Any] = {"eos_token_id": [], "pad_token_id": 0, "max_new_tokens": 5}
    by_row = transformers.PrefixConstrainedLogitsProcessor(lambda row, _: [1000 + row], 1)
    out = exact.generate(**inputs, **options, logits_processor=[by_row])
    assert out[:, width:].tolist() == [[1000] * 5, [1001] * 5]
    longest = transformers.MaxLengthCriteria(width + 2)
    out = exact.generate(**inputs, **options, stopping_criteria=[longest])
    assert out.shape == (2, width + 2)
    first = exact.generate(**inputs, max_new_tokens=1)[:, -1].tolist()
    least = transformers.MinNewTokensLengthLogitsProcessor(width, 3, first)
    out = exact.generate(**inputs, **{**options, "eos_token_id": first}, logits_processor=[least])
    assert not set(out[:, width : width + 3].flatten().tolist()) & set(first)
    ended = transformers.EosTokenCriteria(eos_token_id=first)
    criteria = transformers.StoppingCriteriaList([ended])
    out = exact.generate(**inputs, **options, stopping_criteria=criteria)
    assert out.shape == (2, width + 1)


def test_transformers_parts_of_every_kind(exact: LocalModel) -> None:
    """transformers' processors give what localgen's own options give, a padded batch together."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    inputs = exact.tokenizer(["Hi", "One two one two one"], return_tensors="pt", padding=True)
    padding = (inputs.attention_mask != 0).int().argmax(dim=1)
    cases: dict[Any, dict[str, Any]] = {
        transformers.RepetitionPenaltyLogitsProcessor(1.3, prompt_ignore_length=padding): {
            "repetition_penalty": 1.3
        },
        transformers.NoBadWordsLogitsProcessor([[28], [30]]): {"bad_words_ids": [[28], [30]]},
        transformers.SuppressTokensLogitsProcessor([28, 30]): {"suppress_tokens": [28, 30]},
        transformers.SequenceBiasLogitsProcessor([[[28], -9.0]]): {"sequence_bias": {(28,): -9.0}},
        transformers.TemperatureLogitsWarper(0.5): {"temperature": 0.5},
        transformers.TopKLogitsWarper(3): {"top_k": 3},
    }
    for processor, named in cases.items():
        options: dict[str, Any] = {"max_new_tokens": 8, "seed": 1, "do_sample": True, "top_k": 5}
        theirs = exact.generate(**inputs, **options, logits_processor=[processor])
        assert torch.equal(theirs, exact.generate(**inputs, **{**options, **named}))


def test_transformers_parts_as_configs(exact: LocalModel) -> None:
    """Regression: "must be a GenerationConfig, got GenerationConfig"."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    inputs = exact.tokenizer("Once upon a time", return_tensors="pt")
    config = transformers.GenerationConfig(max_new_tokens=4, do_sample=True, top_k=5)
    ways: list[dict[str, Any]] = [{"generation_config": config}, config.to_dict()]
    for given in ways:
        transformers.set_seed(3)
        out = exact.generate(**inputs, **given)
        transformers.set_seed(3)
        named = exact.generate(**inputs, max_new_tokens=4, do_sample=True, top_k=5)
        assert torch.equal(out, named)
    assert exact.generate(inputs.input_ids, config).shape == out.shape
    config = transformers.GenerationConfig(num_beams=2, max_new_tokens=4)
    assert exact.generate(**inputs, generation_config=config).shape == out.shape


@pytest.mark.parametrize("fails", [False, True])
def test_transformers_parts_that_read_in_a_thread(smollm2: LocalModel, fails: bool) -> None:
    """Regression: the reader of a call that failed waited for ever."""
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    inputs = smollm2.tokenizer("Once upon a time", return_tensors="pt")
    streamer = transformers.TextIteratorStreamer(smollm2.tokenizer, skip_prompt=True, timeout=60)

    def process(input_ids: Any, scores: Any) -> Any:
        if fails:
            raise RuntimeError("planned")
        return scores

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(
            lambda: smollm2.generate(
                **inputs, streamer=streamer, max_new_tokens=5, logits_processor=[process]
            )
        )
        text = "".join(streamer)
    if fails:
        assert not text
        assert isinstance(future.exception(), RuntimeError)
    else:
        assert text == smollm2.tokenizer.decode(future.result()[0, inputs.input_ids.shape[1] :])


def test_transformers_parts_as_a_pipeline(exact: LocalModel) -> None:
    """A text-generation pipeline: texts, a batch of them, and chats."""
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    pipe = transformers.pipeline(
        "text-generation", model=exact, tokenizer=exact.tokenizer, do_sample=False
    )
    texts = ["The capital of France is", "One two"]
    answers = pipe(texts, max_new_tokens=4, batch_size=2)
    for text, answer in zip(texts, answers, strict=True):
        expected = exact.complete(text, max_new_tokens=4, do_sample=False).text
        assert answer[0]["generated_text"] == text + expected
    messages = [{"role": "user", "content": "Say hi"}]
    answer = pipe(messages, max_new_tokens=4)[0]["generated_text"]
    expected = exact.chat(messages, max_new_tokens=4, do_sample=False).text
    assert answer == [*messages, {"role": "assistant", "content": expected}]
