"""generate(), complete() and stream() on a fake backend: shapes, padding, options, results."""

from __future__ import annotations

import pickle
import sys
from typing import Any

import numpy as np
import pytest

import localgen
from localgen import ContextFullError, GenerationConfig
from tests.fakes import BOS, END_OF_TURN, EOS, fake_model, hashed_letter, reference_greedy, spelling

GREEDY = {"do_sample": False}


def padded(*rows: bytes, side: str = "left", width: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """input_ids and attention_mask of byte rows, padded with EOS."""
    ids = np.full((len(rows), width), EOS)
    mask = np.zeros((len(rows), width), int)
    for i, row in enumerate(rows):
        place = slice(width - len(row), width) if side == "left" else slice(0, len(row))
        ids[i, place] = list(row)
        mask[i, place] = 1
    return ids, mask


def test_the_whole_sequence_comes_back():
    """[batch, prompt + new] int64, the prompt first."""
    ids = np.array([list(b"abc")])
    out = fake_model().generate(ids, max_new_tokens=4)
    assert out.dtype == np.int64
    assert out.tolist() == [[*b"abc", *reference_greedy(list(b"abc"), 4)]]


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_no_row(side):
    """Left- or right-padded, a row's new tokens are those of its real tokens alone."""
    ids, mask = padded(b"abc", b"longer", side=side)
    out = fake_model().generate(ids, mask, max_new_tokens=5)
    assert out[:, :8].tolist() == ids.tolist()
    assert out[0, 8:].tolist() == reference_greedy(list(b"abc"), 5)
    assert out[1, 8:].tolist() == reference_greedy(list(b"longer"), 5)


def test_a_hole_in_the_mask():
    """Regression: refused. The token there is left out, as transformers attends to none of it."""
    out = fake_model().generate([list(b"abXc")], [[1, 1, 0, 1]], max_new_tokens=3)
    assert out[0].tolist() == [*b"abXc", *reference_greedy(list(b"abc"), 3)]


def test_padding_that_counts_as_text():
    """Pad tokens that end sequences are read as part of a prompt without a mask: a warning, where
    some rows begin or end with them and others do not."""
    model = fake_model()
    for side in ("left", "right"):
        ids, mask = padded(b"abc", b"longerrr", side=side)
        with pytest.warns(UserWarning, match=f"padded with token {EOS}, which also ends .*mask"):
            model.generate(ids, max_new_tokens=1)
        model.generate(ids, mask, max_new_tokens=1)
        model.generate(ids, max_new_tokens=1, pad_token_id=0)
    model.generate([[EOS, 97], [EOS, 98]], max_new_tokens=1)  # each begins so


def test_token_type_ids():
    """Regression: what a tokenizer returns besides was an unknown option."""
    ids, mask = padded(b"abc", b"longer")
    out = fake_model().generate(ids, mask, token_type_ids=np.zeros_like(ids), max_new_tokens=1)
    assert out.shape == (2, 9)


class FakeTorch:
    """Of torch, what a call needs: tensors that are arrays, and a generator with a seed."""

    class Tensor(np.ndarray):
        def detach(self):
            return self

        cpu = detach

        def numpy(self):
            return np.asarray(self)

    def __init__(self):
        self.manual_seed(0)

    def manual_seed(self, seed):
        self.random = np.random.RandomState(seed)

    def from_numpy(self, array):
        return array.view(self.Tensor)

    def randint(self, high, size):
        return self.random.randint(high, size=size)


def test_torch_s_seed(monkeypatch):
    """Regression: each call drew a seed of its own. With torch input it comes from torch's
    generator, which greedy calls leave alone; without, torch is not asked."""
    torch = FakeTorch()
    monkeypatch.setitem(sys.modules, "torch", torch)
    model, ids = fake_model(), torch.from_numpy(np.array([[65, 66]]))
    options: dict[str, Any] = {"max_new_tokens": 8, "top_k": 0, "temperature": 50.0}

    def seeds(prompt, **more):
        calls = {"return_dict_in_generate": True, "do_sample": True, **options, **more}
        return [model.generate(prompt, **calls).stats[0].seed for _ in range(2)]

    torch.manual_seed(5)
    first = seeds(ids)
    assert first[0] != first[1]
    torch.manual_seed(5)
    assert model.generate(ids, max_new_tokens=2).shape == (1, 4)
    assert seeds([[65, 66]]) != first
    assert seeds(ids, seed=1) == [1, 1]
    assert seeds(ids) == first
    torch.manual_seed(6)
    assert seeds(ids) != first


def test_lengths_that_exclude_each_other():
    """Regression: refused. The longer one wins, with a warning, as in transformers."""
    model = fake_model(lambda tokens: EOS)
    with pytest.warns(UserWarning, match=r"min_new_tokens \(=5\) is above max_new_tokens \(=3\)"):
        out = model.generate([[65]], min_new_tokens=5, max_new_tokens=3)
    assert out.shape == (1, 4)
    assert EOS not in out


def test_values_that_mean_greedy_or_nothing(recwarn):
    """Regression: refused. Programs pass them to be sure."""
    model = fake_model(lambda tokens: EOS)
    model.backend.script = lambda t: EOS if len(t) == 3 else hashed_letter(t)
    out = model.generate([[65]], do_sample=False, temperature=0.0, max_new_tokens=4, top_k=-1)
    assert out.shape == (1, 4)
    assert [str(w.message) for w in recwarn] == [
        "top_k has no effect without do_sample=True: decoding is greedy"
    ]
    assert model.generate([[65]], eos_token_id=-1, max_new_tokens=4).shape == (1, 5)
    with pytest.raises(ValueError, match="temperature must be above 0, got 0; for greedy"):
        model.generate([[65]], temperature=0.0, do_sample=True)
    config = GenerationConfig(do_sample=False, temperature=0.0)
    with pytest.raises(ValueError, match="temperature must be above 0"):
        model.generate([[65]], generation_config=config, do_sample=True)


def test_numbers_in_arrays():
    """Regression: an array without dimensions, as an element of a tensor is, was no number."""
    model = fake_model()
    plain = model.generate([[65]], max_new_tokens=3, do_sample=True, seed=2, top_p=0.5)
    out = model.generate(
        [[65]],
        max_new_tokens=np.array(3),
        do_sample=np.bool_(True),
        seed=np.int64(2),
        top_p=np.array(0.5, np.float32),
        eos_token_id=np.array([EOS, END_OF_TURN]),
        suppress_tokens=[np.array(5)],
    )
    assert out.tolist() == plain.tolist()


def test_top_p_of_zero_is_the_best_token():
    """Regression: refused. One token is always kept, as in transformers."""
    model = fake_model()
    out = model.generate([list(b"abc")], do_sample=True, top_p=0.0, top_k=0, max_new_tokens=4)
    assert out[0, 3:].tolist() == reference_greedy(list(b"abc"), 4)


def test_finished_rows_are_padded_on_the_right():
    """A row that ended early is filled with pad_token_id up to the longest row."""
    model = fake_model(spelling("hi"))
    ids, mask = padded(b"a?", b"bb?")
    model.backend.script = lambda t: EOS if t[-1] == ord("?") and len(t) == 2 else ord("z")
    out = model.generate(ids, mask, max_new_tokens=3, pad_token_id=7)
    assert out[0, 8:].tolist() == [EOS, 7, 7]
    assert out[1, 8:].tolist() == [ord("z")] * 3


def test_eos_may_be_a_list_or_nothing():
    """Any id of the list ends a row and is kept; an empty list ends none."""
    model = fake_model(lambda tokens: END_OF_TURN)
    ids = np.array([[65]])
    assert model.generate(ids, max_new_tokens=3).tolist() == [[65, END_OF_TURN]]
    assert model.generate(ids, max_new_tokens=3, eos_token_id=EOS).shape == (1, 4)
    assert model.generate(ids, max_new_tokens=3, eos_token_id=[]).shape == (1, 4)
    assert model.generate(ids, max_new_tokens=3, eos_token_id=[1, END_OF_TURN]).shape == (1, 2)


def test_pad_tokens_are_padding_only_where_they_are_not_eos():
    """Without a mask, transformers' rule: ids equal to pad are left out unless pad is an EOS."""
    model = fake_model()
    ids = np.array([[1, 1, *b"abc"]])
    out = model.generate(ids, max_new_tokens=3, pad_token_id=1)
    assert out[0, 5:].tolist() == reference_greedy(list(b"abc"), 3)
    out = model.generate(ids, max_new_tokens=3, pad_token_id=1, eos_token_id=[1])
    assert out[0, 5:].tolist() == reference_greedy([1, 1, *b"abc"], 3)


def test_min_new_tokens_holds_eos_back():
    """EOS cannot be chosen before min_new_tokens tokens."""
    model = fake_model(lambda tokens: EOS)
    out = model.generate([[65]], min_new_tokens=3, max_new_tokens=9)
    assert out.shape == (1, 1 + 4)
    assert out[0, -1] == EOS
    assert EOS not in out[0, :-1]


def test_max_length_counts_the_padded_prompt():
    """max_length is prompt width plus new tokens, as in transformers; max_new_tokens wins."""
    ids, mask = padded(b"abc", b"longer")
    model = fake_model()
    assert model.generate(ids, mask, max_length=11).shape == (2, 11)
    with pytest.warns(UserWarning, match="max_new_tokens wins"):
        assert model.generate(ids, mask, max_length=11, max_new_tokens=5).shape == (2, 13)
    with pytest.raises(ValueError, match=r"8 tokens and max_length is 8"):
        model.generate(ids, mask, max_length=8)


def test_default_length_is_256():
    """With no length given, 256 new tokens."""
    assert fake_model().generate([[65]]).shape == (1, 257)


def test_num_return_sequences_follow_each_prompt():
    """Rows come as prompt 0 twice, then prompt 1 twice."""
    ids, mask = padded(b"abc", b"longer")
    out = fake_model().generate(
        ids, mask, num_return_sequences=2, do_sample=True, seed=1, max_new_tokens=2
    )
    assert out[:, :8].tolist() == [ids[0].tolist()] * 2 + [ids[1].tolist()] * 2


def test_stop_strings_end_a_row():
    """The tokens that complete the stop string stay, as in transformers."""
    model = fake_model(spelling("one two three"))
    out = model.generate([list(b"?")], max_new_tokens=20, stop_strings="two")
    assert bytes(out[0].tolist()) == b"?one two"


def test_the_tokenizer_of_stop_strings():
    """Regression: transformers wants it there, so programs give it; another one's is refused."""
    model = fake_model(spelling("one two three"))
    for tokenizer in (model.tokenizer, None):
        out = model.generate([list(b"?")], stop_strings=["two"], tokenizer=tokenizer)
        assert bytes(out[0].tolist()) == b"?one two"
    with pytest.raises(
        ValueError, match=r"must be this model's own, model\.tokenizer, or left out"
    ):
        model.generate([list(b"?")], stop_strings=["two"], tokenizer=fake_model().tokenizer)


def test_inputs_is_another_name_of_input_ids():
    """Regression: transformers' own name of its first parameter was unknown."""
    model = fake_model()
    expected = model.generate([[65]], max_new_tokens=2).tolist()
    assert model.generate(inputs=[[65]], max_new_tokens=2).tolist() == expected
    with pytest.raises(TypeError, match="input_ids, or inputs, which means the same; got both"):
        model.generate([[65]], inputs=[[65]])
    with pytest.raises(TypeError, match="got neither of them"):
        model.generate(max_new_tokens=2)
    embeddings = np.zeros((1, 2, 3))
    with pytest.raises(TypeError, match="'inputs_embeds': a prompt is token ids or text"):
        model.generate(inputs_embeds=embeddings, max_new_tokens=2)


def test_eval_and_to():
    """Regression: the two calls that follow a load in most programs; nothing is moved here."""
    model = fake_model()
    assert model.eval() is model
    assert model.to("cpu") is model.to(model.device) is model
    for elsewhere in ("cuda", "cuda:0", 0, None):
        with pytest.raises(ValueError, match=r"choose the device with from_pretrained\("):
            model.to(elsewhere)


def test_streamer_protocol():
    """put(prompt (1, n)), then put((1,)) for each token, EOS included, then end()."""

    class Streamer:
        def __init__(self):
            self.got = []

        def put(self, value):
            self.got.append(value.tolist())

        def end(self):
            self.got.append("end")

    streamer = Streamer()
    fake_model(spelling("hi")).generate([list(b"?")], streamer=streamer, max_new_tokens=9)
    assert streamer.got == [[[ord("?")]], [ord("h")], [ord("i")], [EOS], "end"]


def test_scores_and_logits_by_step():
    """One (rows, n_vocab) array a step; NaN after a row's end; scores show what was filtered."""
    model = fake_model()
    model.backend.script = lambda t: EOS if t[0] == ord("b") else hashed_letter(t)
    out = model.generate(
        [list(b"aaa"), list(b"bbb")], max_new_tokens=2, do_sample=True, top_k=3, seed=1,
        return_dict_in_generate=True, output_scores=True, output_logits=True,
    )  # fmt: skip
    assert [step.shape for step in out.scores] == [(2, 259)] * len(out.scores)
    assert np.isfinite(out.scores[0][0]).sum() == 3
    assert np.isfinite(out.logits[0]).all()
    if out.finish_reasons[1] == "eos":
        assert np.isnan(out.logits[-1][1]).all()
    assert [s.n_prompt for s in out.stats] == [3, 3]


def test_complete_returns_what_was_asked():
    """One Completion for a text, a list for a list; order and prompts kept."""
    model = fake_model(spelling("hi"))
    one = model.complete("a?")
    assert (one.text, one.finish_reason, one.token_ids) == ("hi", "eos", [*b"hi", EOS])
    assert one.prompt_token_ids == list(b"a?")
    assert [done.text for done in model.complete(["a?", list(b"b?")])] == ["hi", "hi"]
    many: Any = model.complete("a?", num_return_sequences=2, do_sample=True, seed=1)
    assert len(many) == 2


def test_logprobs_are_of_the_models_own_distribution():
    """By hand: log softmax of the raw logits, whatever temperature and penalties do."""
    model = fake_model()
    done = model.complete("abc", max_new_tokens=2, logprobs=2, temperature=0.5, seed=1)
    raw = model.generate([list(b"abc")], max_new_tokens=1, return_dict_in_generate=True,
                         output_logits=True).logits[0][0].astype(float)  # fmt: skip
    expected = raw - np.log(np.exp(raw).sum())
    assert done.logprobs is not None
    step = done.logprobs[0]
    assert step.logprob == pytest.approx(expected[step.token_id], abs=1e-5)
    best = np.argsort(-expected)[:2]
    assert [token for token, _ in step.top] == best.tolist()
    assert [value for _, value in step.top] == pytest.approx(expected[best].tolist(), abs=1e-5)


def test_score_is_the_log_probability_of_each_token():
    """By hand over the fake's logits, also where the text is longer than one batch."""
    model = fake_model()
    text = "a text longer than sixteen tokens"
    from tests.fakes import hashed_logits

    tokens = list(text.encode())
    expected = []
    for n in range(1, len(tokens)):
        logits = hashed_logits(tokens[:n], hashed_letter(tokens[:n])).astype(float)
        expected.append(logits[tokens[n]] - np.log(np.exp(logits).sum()))
    assert model.score(text) == pytest.approx(expected, abs=1e-4)
    assert model.score("a").shape == (0,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (["a", "b"], r"got a list of texts; .*\[model\.score\(text\) for text in texts\]"),
        ([[1, 2]], r"one list of token ids, such as input_ids\[0\] .*, got shape \(1, 2\)"),
        ([[1, 2], [1]], "one list of token ids, .*, got rows that differ in length"),
        ([{"role": "user", "content": "a"}], r"model\.chat_prompt\(messages\) makes a prompt"),
        ({"input_ids": [1]}, "of what a tokenizer returned for one text, pass its input_ids"),
    ],
)
def test_score_takes_one_text(text, message):
    """The message of several texts or rows says what to pass, and nothing of a mask."""
    with pytest.raises(ValueError, match=f"^text must be .*{message}"):
        fake_model().score(text)


def test_do_sample_is_inferred_by_the_text_api_only():
    """complete() samples when a sampling option is set; generate() warns that it has no effect."""
    model = fake_model()
    options: dict[str, Any] = {"temperature": 50.0, "top_k": 0, "max_new_tokens": 8}
    assert model.complete("abc", seed=1, **options).token_ids != reference_greedy(list(b"abc"), 8)
    with pytest.warns(UserWarning, match="temperature, top_k has no effect"):
        out = model.generate([list(b"abc")], **options)
    assert out[0, 3:].tolist() == reference_greedy(list(b"abc"), 8)


@pytest.mark.parametrize(
    "call",
    [
        lambda model, options: model.generate([list(b"abc")], **options),
        lambda model, options: model.complete("abc", **options),
        lambda model, options: model.stream("abc", **options),
        lambda model, options: model.prefill("abc").complete("d", **options),
    ],
)
def test_a_warning_names_the_caller_s_line(call):
    """However many of localgen's functions lie between: Python shows a warning once a line."""
    options: dict[str, Any] = {"max_new_tokens": 2, "max_length": 9, "top_k": 5, "do_sample": False}
    with pytest.warns(UserWarning, match="top_k has no effect|max_new_tokens wins") as caught:
        call(fake_model(), options)
    assert [warning.filename for warning in caught] == [__file__] * 2


def test_a_config_object_and_overrides():
    """Options given by name win over those of the object."""
    config = GenerationConfig(max_new_tokens=3, do_sample=False)
    model = fake_model()
    assert model.generate([[65]], generation_config=config).shape == (1, 4)
    assert model.generate([[65]], generation_config=config, max_new_tokens=5).shape == (1, 6)


def test_special_tokens_in_a_prompt_are_parsed_or_literal():
    """The caller chooses; the default is what transformers does."""
    tokenizer = fake_model().tokenizer
    assert tokenizer.encode("a<eos>") == [97, EOS]
    assert EOS not in tokenizer.encode("a<eos>", split_special_tokens=True)
    assert tokenizer.decode([BOS, 97, EOS], skip_special_tokens=True) == "a"


def test_closing_a_stream_keeps_its_text():
    """close() ends the row as "cancelled" with what was generated."""
    stream = fake_model().stream("abc", max_new_tokens=10)
    head = next(stream) + next(stream)
    stream.close()
    assert list(stream) == []
    assert stream.completion.text == head
    assert stream.completion.finish_reason == "cancelled"


def test_public_names_are_sorted_and_exist():
    """__all__ is what a reader may use: sorted, and nothing in it is missing."""
    names = localgen.__all__
    assert names == sorted(names)
    assert all(hasattr(localgen, name) for name in names)


def test_a_flat_prompt_is_a_batch_of_one():
    """The attention mask may be flat as well; a 0 in it is padding."""
    model = fake_model()
    expected = reference_greedy(list(b"abc"), 3)
    assert model.generate(list(b"abc"), max_new_tokens=3).tolist() == [[*b"abc", *expected]]
    ids = np.array([EOS, *b"abc"])
    out = model.generate(ids, np.array([0, 1, 1, 1]), max_new_tokens=3)
    assert out[0, 4:].tolist() == expected


def test_what_a_tokenizer_returned_as_input_ids():
    """The error says how it is passed."""
    model = fake_model()
    with pytest.raises(TypeError, match=r"pass \*\*inputs"):
        model.generate(model.tokenizer("abc"))


def test_number_of_configs():
    """There is one for all prompts, or one for each; and each is a GenerationConfig."""
    model, prompts = fake_model(), [[97], [98]]
    configs = [GenerationConfig(max_new_tokens=n) for n in (1, 2, 3)]
    done = model.complete(prompts, generation_config=configs[:2])
    assert [len(each.token_ids) for each in done] == [1, 2]
    with pytest.raises(ValueError, match="has 3 entries for 2 prompts"):
        model.complete(prompts, generation_config=configs)
    with pytest.raises(TypeError, match="must hold GenerationConfigs, got 9"):
        model.complete(prompts, generation_config=[configs[0], 9])  # type: ignore[list-item]


def test_options_that_are_the_same_for_all_prompts():
    """Prompts of one generate() cannot have different results."""
    configs = [GenerationConfig(max_new_tokens=1, pad_token_id=n) for n in (1, 2)]
    with pytest.raises(ValueError, match="pad_token_id must be the same for all prompts"):
        fake_model().generate([[97], [98]], generation_config=configs)


def test_stream_gives_one_text():
    """Several sequences are for complete()."""
    with pytest.raises(ValueError, match=r"stream\(\) gives one text; num_return_sequences is 2"):
        fake_model().stream("a", do_sample=True, num_return_sequences=2)


def test_bad_words_and_biased_sequences_without_a_token():
    """They would forbid, or favour, anything."""
    with pytest.raises(ValueError, match="bad_words_ids must hold non-empty lists"):
        GenerationConfig(bad_words_ids=[[1], []])
    with pytest.raises(ValueError, match="sequence_bias must hold non-empty token id tuples"):
        GenerationConfig(sequence_bias={(): 1.0})


def test_context_full_error_can_be_pickled():
    """As a child process sends it: with its numbers and its message."""
    error = ContextFullError(9, 8)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is ContextFullError
    assert (again.n_prompt, again.n_ctx, str(again)) == (9, 8, str(error))
