"""Bad arguments: each is refused with its name and value, and the model is as good as before."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localgen import ContextFullError, GenerationConfig, KvBudgetError, LocalModel, ModelConfig

NAN, INF, HUGE = math.nan, math.inf, 10**400
IDS = [[40, 60, 70]]


def reference(model: LocalModel) -> list[list[int]]:
    """Six greedy tokens for each of two rows."""
    output = model.generate([[40, 60, 70], [50, 51, 52]], max_new_tokens=6, min_new_tokens=6)
    return output.tolist()


@contextmanager
def unharmed(model: LocalModel) -> Iterator[None]:
    """What happens inside must not change what the model generates afterwards."""
    before = reference(model)
    yield
    assert reference(model) == before


# --- prompts ---

BAD_IDS: dict[str, tuple[Any, str]] = {
    "no ids": ([], "at least one row"),
    "no rows": (np.zeros((0, 3), np.int64), "at least one row"),
    "empty row": ([[]], "empty"),
    "wide and empty": (np.zeros((2, 0), np.int64), "empty"),
    "ragged": ([[1, 2], [3]], "differ in length"),
    "three dimensions": ([[[1, 2]]], "got shape (1, 1, 2)"),
    "scalar": (5, "got shape ()"),
    "floats": ([[1.0, 2.0]], "must hold integers, got float64"),
    "NaN": ([[NAN]], "must hold integers, got float64"),
    "bools": ([[True, False]], "must hold integers, got bool"),
    "strings": ([["a", "b"]], "must hold integers"),
    "a text": ("hello", "must hold integers"),
    "objects": ([[None, 1]], "must hold integers, got object"),
    "negative": ([[3, -1]], "token id -1 is outside"),
    "out of range": ([[3, 100_000]], "token id 100000 is outside"),
    "above int32": ([[3, 2**32 + 5]], "token id 4294967301 is outside"),
    "above int64": ([[3, 2**63 + 5]], "input_ids"),
    "above any integer": ([[3, 2**70]], "input_ids"),
}


@pytest.mark.parametrize("kind", BAD_IDS)
def test_bad_input_ids(kind: str, tiny: LocalModel) -> None:
    """Ids reach C unchecked nowhere: each kind of wrong input is a ValueError that says why."""
    ids, message = BAD_IDS[kind]
    with unharmed(tiny), pytest.raises(ValueError, match=re.escape(message)):
        tiny.generate(ids)


def test_first_id_outside_is_refused(tiny: LocalModel) -> None:
    """The limit itself: n_vocab - 1 is a token, n_vocab is not."""
    n_vocab = tiny.tokenizer.vocab_size
    assert tiny.generate([[n_vocab - 1]], max_new_tokens=1).shape == (1, 2)
    with pytest.raises(ValueError, match=f"token id {n_vocab} is outside"):
        tiny.generate([[n_vocab]])


BAD_MASKS: dict[str, tuple[Any, str]] = {
    "all zero": ([[0, 0, 0]], "empty"),
    "other shape": ([[1, 1]], "(1, 3)"),
    "more rows": ([[1, 1, 1]] * 2, "(1, 3)"),
    "two": ([[1, 2, 1]], "only 0 and 1"),
    "negative": ([[1, 1, -1]], "only 0 and 1"),
    "half": ([[1, 0.5, 1]], "only 0 and 1"),
    "NaN": ([[1, NAN, 1]], "only 0 and 1"),
    "strings": ([["a", "b", "c"]], "only 0 and 1"),
    "ragged": ([[1], [1, 1]], "attention_mask"),
}


@pytest.mark.parametrize("kind", BAD_MASKS)
def test_bad_attention_mask(kind: str, tiny: LocalModel) -> None:
    """A wrong mask must not silently drop or keep tokens."""
    mask, message = BAD_MASKS[kind]
    with unharmed(tiny), pytest.raises(ValueError, match=re.escape(message)):
        tiny.generate(IDS, mask)


BAD_TEXTS: dict[str, tuple[Any, str]] = {
    "empty": ("", "empty"),
    "no prompts": ([], "at least one prompt"),
    "one empty": (["hello", ""], "prompt 1 is empty"),
    "surrogate": ("a\ud800b", r"'\ud800' at index 1"),
    "surrogate in a list": (["a", "\udfff"], r"'\udfff' at index 0"),
    "empty ids": ([[]], "non-empty list"),
    "float ids": ([[1.5]], "must hold integers"),
    "negative id": ([[-7]], "token id -7 is outside"),
    "bool ids": ([[True]], "must hold integers"),
    "bytes": ([b"hello"], "must hold integers"),
    "a number in a list": ([7], "a text or a non-empty list"),
    "None in a list": ([None], "must hold integers"),
}


@pytest.mark.parametrize("kind", BAD_TEXTS)
def test_bad_texts(kind: str, tiny: LocalModel) -> None:
    """The text API refuses what is not text or ids, and says which prompt it was."""
    prompts, message = BAD_TEXTS[kind]
    with unharmed(tiny), pytest.raises(ValueError, match=re.escape(message)):
        tiny.complete(prompts)


BAD_KINDS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "texts for stream": (lambda m: m.stream(["a"]), "be one text or its token ids, got a list of"),
    "texts for score": (lambda m: m.score(["a", "b"]), "complete() takes several"),
    "a text for generate": (
        lambda m: m.generate("hi"),
        "got text; encode it with model.tokenizer(",
    ),
    "one prompt of ids": (
        lambda m: m.complete([1, 2]),
        "got the number 1; one prompt of token ids",
    ),
    "bytes for complete": (lambda m: m.complete(b"hi"), "got b'hi'; decode them to a str first"),
    "bytes for generate": (lambda m: m.generate([b"hi"]), "got bytes; decode them to a str first"),
    "no event": (lambda m: m.complete("a", cancel=True), "be a threading.Event, which ends the"),
    "no event for ids": (lambda m: m.generate(IDS, cancel=5), "be a threading.Event"),
    "config as a dict": (
        lambda m: m.complete("a", generation_config={"max_new_tokens": 3}),
        "must be a GenerationConfig, or a list of one per prompt, got {'max_new_tokens': 3}",
    ),
    "two configs": (
        lambda m: m.generate(IDS, GenerationConfig(), generation_config=GenerationConfig()),
        "generate() got two generation_configs",
    ),
    "no config": (
        lambda m: m.generate(IDS, generation_config=[]),
        "generation_config is an empty list",
    ),
    "a second segment": (
        lambda m: m.generate(IDS, token_type_ids=[[0, 1, 1]]),
        "token_type_ids must be all 0, or left out",
    ),
    "no streamer": (
        lambda m: m.generate(IDS, streamer=print),
        "streamer must have the methods put(token_ids) and end()",
    ),
    "config as a number": (lambda m: m.generate(IDS, generation_config=3), "got 3"),
    "no text": (lambda m: m.tokenizer(None), "text must be a str or a list of str, got None"),
    "bytes for the tokenizer": (lambda m: m.tokenizer(b"a"), "a list of str, got b'a'"),
    "no source": (lambda m: m.from_pretrained(None), "path of a .gguf file, a name on the Hub"),
    "empty source": (lambda m: m.from_pretrained(""), "or an alias like 'smollm2', got ''"),
}


@pytest.mark.parametrize("kind", BAD_KINDS)
def test_arguments_of_another_kind(kind: str, tiny: LocalModel) -> None:
    """Regression: messages came from NumPy or from deep inside, and did not say what to do."""
    call, message = BAD_KINDS[kind]
    with unharmed(tiny), pytest.raises((TypeError, ValueError), match=re.escape(message)):
        call(tiny)


def test_async_for_over_a_stream(tiny: LocalModel) -> None:
    """Regression: Python's own message did not name the method that is for it."""
    with pytest.raises(TypeError, match=r"use model\.astream"):
        aiter(tiny.stream("a"))


def test_kv_budget_without_room_for_a_token(tiny_bpe_path: Path) -> None:
    """Regression: the model was loaded, and only its first call failed."""
    with pytest.raises(KvBudgetError, match="kv_budget=1000 bytes have no room"):
        LocalModel.from_pretrained(tiny_bpe_path, n_ctx=512, n_threads=1, kv_budget=1000)


@pytest.mark.parametrize("prompts", [None, 5, 1.5])
def test_prompts_of_another_type(prompts: Any, tiny: LocalModel) -> None:
    """What is no list at all is a TypeError or ValueError, never something from deep inside."""
    with unharmed(tiny), pytest.raises((TypeError, ValueError), match="prompt"):
        tiny.complete(prompts)


@pytest.mark.parametrize("extra", [0, 1, 300])
def test_prompt_longer_than_the_context(extra: int, tiny: LocalModel) -> None:
    """Both numbers are in the message: what was asked, and what fits."""
    n_ctx = tiny.config.n_ctx
    ids = np.full((1, n_ctx + extra), 40)
    with unharmed(tiny), pytest.raises(ContextFullError) as caught:
        tiny.generate(ids)
    assert str(n_ctx + extra) in str(caught.value)
    assert f"n_ctx is {n_ctx}" in str(caught.value)
    assert (caught.value.n_prompt, caught.value.n_ctx) == (n_ctx + extra, n_ctx)


def test_prompt_that_leaves_one_place(tiny: LocalModel) -> None:
    """The last token that fits is generated; the context's edge ends the row."""
    output = tiny.generate(np.full((1, tiny.config.n_ctx - 1), 40), max_new_tokens=9)
    assert output.shape == (1, tiny.config.n_ctx)


def test_one_long_prompt_refuses_the_batch(tiny: LocalModel) -> None:
    """A batch either runs or does not: nothing is cut silently."""
    with unharmed(tiny), pytest.raises(ContextFullError):
        tiny.complete(["hello", [40] * 600])


def test_score_of_a_text_longer_than_the_context(tiny: LocalModel) -> None:
    """Scoring has the same limit."""
    with unharmed(tiny), pytest.raises(ContextFullError):
        tiny.score([40] * 513)


# --- options ---

POSITIVE = (0, -1, 1.5, "8", True, NAN, INF)
WHOLE = (-1, 1.5, "8", True, NAN, INF)
NUMBER = (NAN, INF, -INF, "1", True, HUGE, -HUGE)

BAD_OPTIONS: dict[str, tuple[Any, ...]] = {
    "max_new_tokens": POSITIVE,
    "max_length": POSITIVE,
    "min_new_tokens": WHOLE,
    "max_time": (0, -1, NAN, INF, "1", True, HUGE),
    "num_return_sequences": (*POSITIVE, HUGE),
    "do_sample": (2, "yes", 1.0),
    "temperature": (*NUMBER, 0, -1, 1e-9),
    "top_k": (-2, *WHOLE[1:]),
    "top_p": (*NUMBER, -0.5, 1.001),
    "min_p": (NAN, INF, "1", True, HUGE, -0.1, 1.1),
    "typical_p": (*NUMBER, 0, -0.5, 1.001),
    "epsilon_cutoff": (*NUMBER, -0.1, 1.0),
    "eta_cutoff": (*NUMBER, -0.1, 1.0),
    "top_h": (*NUMBER, 0, -0.5, 1.001),
    "top_n_sigma": (*NUMBER, -0.5, -2, 1e7),
    "xtc_probability": (*NUMBER, -0.1, 1.1),
    "xtc_threshold": (*NUMBER, -0.1, 1.1),
    "dynatemp_range": (*NUMBER, -0.1, 1e7),
    "dynatemp_exponent": (*NUMBER, -0.1, 1e4),
    "mirostat": (3, *WHOLE, HUGE),
    "mirostat_tau": (*NUMBER, -0.1, 1e4),
    "mirostat_eta": (*NUMBER, -0.1, 1e4),
    "samplers": (5, b"top_k", True),
    "dry_multiplier": (*NUMBER, -0.1, 1e7),
    "dry_base": (*NUMBER, 0.99, 1e7),
    "dry_allowed_length": WHOLE,
    "dry_penalty_last_n": (-2, *WHOLE[1:]),
    "dry_sequence_breakers": ("", 5, b":"),
    "repetition_penalty": (*NUMBER, 0, -1),
    "frequency_penalty": (*NUMBER, 1e7, -1e7, None),
    "presence_penalty": (*NUMBER, 1e7, -1e7, None),
    "encoder_repetition_penalty": (*NUMBER, 0, -1),
    "no_repeat_ngram_size": WHOLE,
    "encoder_no_repeat_ngram_size": WHOLE,
    "min_length": WHOLE,
    "forced_bos_token_id": (-1, 1.5, "8", True, NAN, 2**31, [8]),
    "forced_eos_token_id": (-1, 1.5, "8", True, NAN, 2**31, [], {}),
    "exponential_decay_length_penalty": (5, 1.5, "ab", True, [], [5], (1, 2, 3), {1: 1.5}),
    "remove_invalid_values": (2, "yes", 0.0),
    "renormalize_logits": (2, "yes", 0.0),
    "prefix_allowed_tokens_fn": (5, "f", True, [1], [len]),
    "logprobs": WHOLE,
    "seed": (-1, 2**64, 1.5, True, NAN),
    "pad_token_id": (-1, 1.5, "8", True, NAN),
    "eos_token_id": (-2, 1.5, "8", True, NAN, 2**31),
    "return_dict_in_generate": (2, "yes", 0.0),
    "output_scores": (2, "yes", 0.0),
    "output_logits": (2, "yes", 0.0),
    "stop_strings": ("", 5),
    "bad_words_ids": (5,),
    "suppress_tokens": (5, "5"),
    "begin_suppress_tokens": (5, "5"),
    "sequence_bias": (5, "5"),
}

# The value inside a list is the one to name.
BAD_ITEMS: dict[str, tuple[tuple[Any, Any], ...]] = {
    "stop_strings": ((["ok", ""], ""), ([5], 5), ([None], None), (["\ud800"], "\ud800")),
    "samplers": ((["top_k", "k"], "k"), ([5], 5), ("top_k;k", "k"), ([["xtc"]], ["xtc"])),
    "dry_sequence_breakers": (([":", ""], ""), ([5], 5), (["\ud800"], "\ud800")),
    "seed": (([1, -1], -1), ([1.5], 1.5), ([2**64], 2**64)),
    "eos_token_id": (([0, -2], -2), ([1.5], 1.5), (["a"], "a"), ([HUGE], HUGE)),
    "bad_words_ids": (([[1], [-1]], -1), ([[1.5]], 1.5), ([5], 5), (["ab"], "ab")),
    "suppress_tokens": (([1, -1], -1), ([NAN], NAN), ([True], True)),
    "begin_suppress_tokens": (([1, -1], -1), ([NAN], NAN), ([True], True)),
    "forced_eos_token_id": (([1, -1], -1), ([1.5], 1.5), ([True], True), ([[1]], [1])),
    "exponential_decay_length_penalty": (
        ((-1, 1.5), -1),
        ((1.5, 1.5), 1.5),
        ((True, 1.5), True),
        ((1, 0), 0),
        ((1, -2.0), -2.0),
        ((1, NAN), NAN),
        ((1, INF), INF),
        ((1, "2"), "2"),
        ((1, None), None),
        ((1, HUGE), HUGE),
    ),
    "sequence_bias": (
        ({(1,): NAN}, NAN),
        ({(1,): "1"}, "1"),
        ({(-1,): 1.0}, -1),
        ([[[1], INF]], INF),
        ([5], 5),
        ({(1,): HUGE}, HUGE),
    ),
}

BAD_LOADING: dict[str, tuple[Any, ...]] = {
    "n_ctx": (*POSITIVE, 1, HUGE, 2**27 + 1, None),
    "device": ("gpu", "CPU", "", None, 0, "cuda:0"),
    "n_gpu_layers": (-1, 1.5, "8", True, NAN, HUGE),
    "n_threads": (0, -1, 1.5, "8", True, NAN, HUGE, 513),
    "n_batch": (*POSITIVE, HUGE, None),
    "n_ubatch": (*POSITIVE, HUGE),
    "max_sequences": (*POSITIVE, HUGE, 257, None),
    "kv_type": ("f64", "", None, 1, "q4_k", "F16"),
    "flash_attention": (True, None, "yes", 1),
}


def short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 30 else f"{text[:10]}…{len(text)} characters"


def rows(table: dict[str, tuple[Any, ...]]) -> list[Any]:
    """(name, value) for each value of a table."""
    return [
        pytest.param(name, value, id=f"{name}={short(value)}")
        for name, values in table.items()
        for value in values
    ]


def refused(make: Callable[[], object], name: str, value: object) -> None:
    """``make()`` is a ValueError that has the option's name and what was given in it."""
    with pytest.raises(ValueError, match=name) as caught:
        make()
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize(("name", "value"), rows(BAD_OPTIONS))
def test_generation_option_out_of_range(name: str, value: Any, tiny: LocalModel) -> None:
    """Nothing is clamped: the option and the value are named, in a config and in a call."""
    refused(lambda: GenerationConfig(**{name: value}), name, value)
    refused(lambda: tiny.generate(IDS, **{name: value}), name, value)


@pytest.mark.parametrize(("name", "pair"), rows(BAD_ITEMS))
def test_item_of_a_generation_option(name: str, pair: tuple[Any, Any]) -> None:
    """In a list, the item that is wrong is named."""
    value, item = pair
    refused(lambda: GenerationConfig(**{name: value}), name, item)


@pytest.mark.parametrize(("name", "value"), rows(BAD_LOADING))
def test_loading_option_out_of_range(name: str, value: Any) -> None:
    """Options are looked at before the file is."""
    refused(lambda: ModelConfig(**{name: value}), name, value)
    refused(lambda: LocalModel.from_pretrained("no-such-file", **{name: value}), name, value)


def test_options_that_exclude_each_other() -> None:
    """What llama.cpp would answer with an abort, or not at all, is refused as a pair."""
    with pytest.raises(ValueError, match=r"max_sequences must be at most n_batch \(16\), got 32"):
        ModelConfig(n_batch=16)
    for n_ubatch in (31, 513):
        with pytest.raises(ValueError, match=rf"max_sequences \(32\) to n_batch.*got {n_ubatch}"):
            ModelConfig(n_ubatch=n_ubatch)
    with pytest.raises(ValueError, match="kv_type='q8_0' needs flash attention"):
        ModelConfig(kv_type="q8_0", flash_attention="off")
    with pytest.raises(ValueError, match="n_gpu_layers=3 needs a GPU"):
        ModelConfig(device="cpu", n_gpu_layers=3)


FORCED: list[dict[str, Any]] = [
    {"forced_bos_token_id": 5, "suppress_tokens": [5]},
    {"forced_eos_token_id": 5, "suppress_tokens": [4, 5]},
    {"forced_eos_token_id": [4, 5], "suppress_tokens": [4, 5, 6]},
]


@pytest.mark.parametrize("options", FORCED)
def test_forced_tokens_that_are_suppressed(options: dict[str, Any], tiny: LocalModel) -> None:
    """Refused before anything runs: at the step that forces them, nothing would be left."""
    message = f"{next(iter(options))} has only tokens of suppress_tokens, .*5.*; remove one of them"
    with unharmed(tiny), pytest.raises(ValueError, match=message):
        tiny.generate(IDS, **options)
    GenerationConfig(forced_eos_token_id=[4, 5], suppress_tokens=[4])


MANY = ("no_repeat_ngram_size", "encoder_no_repeat_ngram_size")


@pytest.mark.parametrize("name", ["max_new_tokens", "max_length", "top_k", *MANY])
def test_huge_number_where_more_means_all(name: str, tiny: LocalModel) -> None:
    """A number beyond any context or vocabulary acts as its largest useful value."""
    options: dict[str, Any] = {"max_new_tokens": 3, "do_sample": True, "seed": 1}
    if name == "max_length":
        del options["max_new_tokens"]
    output = tiny.generate(np.full((1, 508), 40), **{**options, name: HUGE})
    assert output.shape[1] in range(509, 513)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pad_token_id", 10**30),
        ("pad_token_id", 100_000),
        ("eos_token_id", 100_000),
        ("suppress_tokens", [100_000]),
        ("begin_suppress_tokens", [100_000]),
        ("forced_bos_token_id", 100_000),
        ("forced_eos_token_id", 100_000),
        ("forced_eos_token_id", [1, 100_000]),
        ("bad_words_ids", [[1, 100_000]]),
        ("sequence_bias", {(100_000,): 1.0}),
    ],
)
def test_token_id_outside_this_vocabulary(name: str, value: Any, tiny: LocalModel) -> None:
    """An id that only the model can judge is refused before anything is computed."""
    with unharmed(tiny), pytest.raises(ValueError, match=f"{name}.*10000"):
        tiny.generate([[40, 60]], max_new_tokens=2, **{name: value})
    # Regression: the text API, which pads nothing, took any pad_token_id.
    with unharmed(tiny), pytest.raises(ValueError, match=f"{name}.*10000"):
        tiny.complete([[40, 60]], max_new_tokens=2, **{name: value})


CALLS: dict[str, Callable[..., object]] = {
    "generate": lambda model, **options: model.generate(IDS, **options),
    "complete": lambda model, **options: model.complete("hello", **options),
    "stream": lambda model, **options: model.stream("hello", **options),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("wrong", "nearest"), [("max_token", "max_new_tokens"), ("temprature", "temperature")]
)
def test_unknown_option(call: str, wrong: str, nearest: str, tiny: LocalModel) -> None:
    """A typo never passes silently, and the error guesses what was meant."""
    with unharmed(tiny), pytest.raises(TypeError, match=f"'{wrong}'.*'{nearest}'"):
        CALLS[call](tiny, **{wrong: 1})


@pytest.mark.parametrize("source", ["smollm2", Path("model.gguf")])
def test_a_model_is_not_loaded_by_its_class(source: Any) -> None:
    """The message shows the call that loads it."""
    with pytest.raises(TypeError, match=rf"use LocalModel\.from_pretrained\('{source}'\)"):
        LocalModel(source)


def test_unknown_loading_option() -> None:
    """The same for loading, before the file is looked for."""
    with pytest.raises(TypeError, match=r"'nctx'.*'n_ctx'"):
        LocalModel.from_pretrained("no-such-file", nctx=5)
    with pytest.raises(TypeError, match=r"'qqqqqq'$"):
        LocalModel.from_pretrained("no-such-file", qqqqqq=5)


@pytest.mark.parametrize("seed", [[1], [1, 2, 3], []])
def test_seed_list_of_another_length(seed: list[int], tiny: LocalModel) -> None:
    """A list of seeds is one a row."""
    with unharmed(tiny), pytest.raises(ValueError, match=f"{len(seed)} entries for 2 sequences"):
        tiny.generate([[40], [41]], do_sample=True, seed=seed)


@pytest.mark.parametrize("call", CALLS)
def test_several_sequences_without_sampling(call: str, tiny: LocalModel) -> None:
    """Greedy copies would all be the same."""
    with unharmed(tiny), pytest.raises(ValueError, match="num_return_sequences"):
        CALLS[call](tiny, num_return_sequences=2)


@pytest.mark.parametrize("name", ["output_scores", "output_logits"])
def test_scores_without_a_dictionary(name: str, tiny: LocalModel) -> None:
    """What was asked for would have nowhere to go: transformers ignores it, so it is no error."""
    option: dict[str, Any] = {name: True}
    with pytest.warns(UserWarning, match=f"{name} has no effect without return_dict_in_generate"):
        output = tiny.generate(IDS, max_new_tokens=2, **option)
    assert isinstance(output, np.ndarray)
    with pytest.raises(ValueError, match=name):
        tiny.complete("hello", **option)


def test_logprobs_in_generate(tiny: LocalModel) -> None:
    """generate() returns ids, so logprobs would be lost there."""
    with unharmed(tiny), pytest.raises(ValueError, match="output_logits"):
        tiny.generate(IDS, logprobs=1)


# --- the caller's own functions ---


def all_minus_inf(input_ids: Any, scores: Any) -> Any:
    return np.full_like(scores, -np.inf)


def all_nan(input_ids: Any, scores: Any) -> Any:
    return np.full_like(scores, np.nan)


def one_nan(input_ids: Any, scores: Any) -> Any:
    scores[0, 7] = np.nan
    return scores


def too_narrow(input_ids: Any, scores: Any) -> Any:
    return scores[:, :-1]


def nothing(input_ids: Any, scores: Any) -> None:
    return None


def strings(input_ids: Any, scores: Any) -> Any:
    return scores.astype(str)


PROCESSORS = {
    all_minus_inf: "left no token",
    all_nan: "processor",
    one_nan: "processor",
    too_narrow: "shape",
    nothing: "logits processor must return",
    strings: "logits processor must return",
}


@pytest.mark.parametrize("processor", PROCESSORS, ids=lambda function: function.__name__)
@pytest.mark.parametrize("do_sample", [False, True])
def test_bad_processor(processor: Callable[..., Any], do_sample: bool, tiny: LocalModel) -> None:
    """The blame goes to the processor, not to the model's weights; no token is invented."""
    with unharmed(tiny), pytest.raises(ValueError, match=PROCESSORS[processor]):
        tiny.generate(IDS, do_sample=do_sample, logits_processor=[processor])


class Oops(Exception):
    """The caller's own error."""


def raise_at(n_calls: int) -> Callable[..., Any]:
    """A hook that raises at its n-th call, and before that does nothing."""
    calls = []

    def hook(input_ids: Any, scores: Any) -> Any:
        calls.append(1)
        if len(calls) == n_calls:
            raise Oops
        return scores if scores is not None else False

    return hook


@pytest.mark.parametrize("name", ["logits_processor", "stopping_criteria"])
@pytest.mark.parametrize("n_calls", [1, 3, 4])
def test_hook_that_raises(name: str, n_calls: int, tiny: LocalModel) -> None:
    """The caller's error comes through as it is; rows half-way through leave nothing behind."""
    batch = [[40, 60, 70], [50, 51, 52]]
    hooks: dict[str, Any] = {name: [raise_at(n_calls)]}
    with unharmed(tiny), pytest.raises(Oops):
        tiny.generate(batch, max_new_tokens=6, min_new_tokens=6, **hooks)


class BadStreamer:
    """A streamer that raises at its n-th ``put``, or else at ``end``."""

    def __init__(self, n_puts: int) -> None:
        self.n_left = n_puts

    def put(self, value: Any) -> None:
        self.n_left -= 1
        if not self.n_left:
            raise Oops

    def end(self) -> None:
        raise Oops


@pytest.mark.parametrize("n_puts", [1, 2, 3, 100])
def test_streamer_that_raises(n_puts: int, tiny: LocalModel) -> None:
    """At the prompt, at a token, and at the end."""
    with unharmed(tiny), pytest.raises(Oops):
        tiny.generate(IDS, max_new_tokens=6, min_new_tokens=6, streamer=BadStreamer(n_puts))


@pytest.mark.parametrize("name", ["logits_processor", "stopping_criteria"])
@pytest.mark.parametrize("value", [5, [5], "ab", [None]])
def test_hook_that_is_no_function(name: str, value: Any, tiny: LocalModel) -> None:
    """Said before anything is computed."""
    with unharmed(tiny), pytest.raises(ValueError, match=name):
        tiny.generate(IDS, **{name: value})


def test_streamer_for_two_rows(tiny: LocalModel) -> None:
    """A streamer has no idea of rows."""
    with unharmed(tiny), pytest.raises(ValueError, match="one sequence"):
        tiny.generate([[40], [41]], streamer=BadStreamer(1))


@pytest.mark.parametrize("answer", [None, [], 5, "ab", [1.5], [[1]], [-1], [100_000]], ids=repr)
@pytest.mark.parametrize("do_sample", [False, True])
def test_bad_answer_of_prefix_allowed_tokens_fn(
    answer: Any, do_sample: bool, tiny: LocalModel
) -> None:
    """A function that allows nothing, or answers with something else, ends its call only."""

    def allow(batch_id: int, token_ids: Any) -> Any:
        return answer if batch_id and len(token_ids) == 5 else [45, 46]

    batch = [[40, 60, 70], [50, 51, 52]]
    with unharmed(tiny), pytest.raises(ValueError, match="sequence 1: prefix_allowed_tokens_fn "):
        tiny.generate(batch, do_sample=do_sample, prefix_allowed_tokens_fn=allow)


def test_everything_suppressed_at_the_beginning(tiny: LocalModel) -> None:
    """The row is named, and the option that leaves nothing is one of those that removed tokens."""
    everything = list(range(tiny.tokenizer.vocab_size))
    with unharmed(tiny), pytest.raises(ValueError, match=r"sequence 0: .* left no token"):
        tiny.generate(IDS, begin_suppress_tokens=everything)
    with unharmed(tiny), pytest.raises(ValueError, match=r"sequence 0: .* left no token"):
        tiny.generate(IDS, encoder_no_repeat_ngram_size=1, suppress_tokens=everything)


def test_everything_suppressed(tiny: LocalModel) -> None:
    """Options alone can leave no token too."""
    everything = list(range(tiny.tokenizer.vocab_size))
    with unharmed(tiny), pytest.raises(ValueError, match="left no token"):
        tiny.generate(IDS, suppress_tokens=everything)


@pytest.mark.parametrize("kind", [ModelConfig, GenerationConfig])
def test_a_default_is_what_its_check_makes_of_it(kind: type[Any]) -> None:
    """Defaults are not checked again in each call."""
    for each in dataclasses.fields(kind):
        assert each.metadata["check"](each.name, each.default) is each.default
