"""transformers' own processors and criteria as ``logits_processor`` and ``stopping_criteria``.

Each does what the option of the same meaning does. Runs where torch and transformers are installed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.fakes import END_OF_TURN, EOS, N_VOCAB, FakeBackend, fake_model

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from transformers.generation import logits_process, stopping_criteria  # noqa: E402

ENDS = [EOS, END_OF_TURN]
PROMPT = list(b"aba")
N_NEW = 6


def repeats(tokens: list[int]) -> int:
    """The last token again, and EOS where there are eight."""
    return EOS if len(tokens) >= 8 else tokens[-1]


def prompt_ids() -> Any:
    return torch.tensor([PROMPT])


def only_b(_batch_id: int, _token_ids: Any) -> list[int]:
    return [ord("b")]


# The class, its arguments, and the options that mean the same.
SAME: list[tuple[Any, Callable[[], tuple[Any, ...]], dict[str, Any]]] = [
    (logits_process.MinLengthLogitsProcessor, lambda: (9, ENDS), {"min_length": 9}),
    (
        logits_process.MinNewTokensLengthLogitsProcessor,
        lambda: (len(PROMPT), N_NEW, ENDS),
        {"min_new_tokens": N_NEW},
    ),
    (
        logits_process.RepetitionPenaltyLogitsProcessor,
        lambda: (9.0,),
        {"repetition_penalty": 9.0},
    ),
    (
        logits_process.EncoderRepetitionPenaltyLogitsProcessor,
        lambda: (0.01, prompt_ids()),
        {"encoder_repetition_penalty": 0.01},
    ),
    (logits_process.NoRepeatNGramLogitsProcessor, lambda: (2,), {"no_repeat_ngram_size": 2}),
    (
        logits_process.EncoderNoRepeatNGramLogitsProcessor,
        lambda: (1, prompt_ids()),
        {"encoder_no_repeat_ngram_size": 1},
    ),
    (
        logits_process.SequenceBiasLogitsProcessor,
        lambda: ({(97, 97): -20.0, (98,): 0.5},),
        {"sequence_bias": {(97, 97): -20.0, (98,): 0.5}},
    ),
    (
        logits_process.NoBadWordsLogitsProcessor,
        lambda: ([[97, 97]], ENDS),
        {"bad_words_ids": [[97, 97]]},
    ),
    (
        logits_process.PrefixConstrainedLogitsProcessor,
        lambda: (only_b, 1),
        {"prefix_allowed_tokens_fn": only_b},
    ),
    (
        logits_process.ForcedEOSTokenLogitsProcessor,
        lambda: (len(PROMPT) + 4, 33),
        {"forced_eos_token_id": 33, "max_new_tokens": 4},
    ),
    (
        logits_process.ExponentialDecayLengthPenalty,
        lambda: ((1, 3.0), ENDS, len(PROMPT)),
        {"exponential_decay_length_penalty": (1, 3.0)},
    ),
    (
        logits_process.SuppressTokensLogitsProcessor,
        lambda: ([97],),
        {"suppress_tokens": [97]},
    ),
    (
        logits_process.SuppressTokensAtBeginLogitsProcessor,
        lambda: ([97], len(PROMPT)),
        {"begin_suppress_tokens": [97]},
    ),
]
# The likeliest token alone stays: sampling is greedy.
NARROW: list[tuple[Any, dict[str, Any]]] = [
    (logits_process.TemperatureLogitsWarper, {"temperature": 1e-4}),
    (logits_process.TopKLogitsWarper, {"top_k": 1}),
    (logits_process.TopPLogitsWarper, {"top_p": 1e-3}),
    (logits_process.MinPLogitsWarper, {"min_p": 1.0}),
    (logits_process.EpsilonLogitsWarper, {"epsilon": 0.999}),
    (logits_process.EtaLogitsWarper, {"epsilon": 0.999}),
    (logits_process.TopHLogitsWarper, {"top_h": 0.01}),
]


def name_of(value: Any) -> str | None:
    return value.__name__ if isinstance(value, type) else None


@pytest.mark.parametrize(("kind", "arguments", "options"), SAME, ids=name_of)
def test_a_class_does_what_its_option_does(
    kind: Any, arguments: Callable[[], tuple[Any, ...]], options: dict[str, Any]
) -> None:
    """In generate(), where it gets the batch, and in complete(), where it gets each sequence; alone
    or in transformers' list."""
    model = fake_model(repeats)
    options = {"max_new_tokens": N_NEW, **options}
    n_most = {"max_new_tokens": options["max_new_tokens"]}
    (expected,) = model.complete([PROMPT], **options)
    plain = model.complete([PROMPT], **n_most)[0].token_ids
    assert expected.token_ids != plain
    several = transformers.LogitsProcessorList([kind(*arguments())])
    for processors in (kind(*arguments()), several):
        (done,) = model.complete([PROMPT], logits_processor=processors, **n_most)
        assert done.token_ids == expected.token_ids
        for ids in ([PROMPT], torch.tensor([PROMPT])):
            out = model.generate(ids, logits_processor=processors, **n_most)
            assert out[0, len(PROMPT) :].tolist() == expected.token_ids


@pytest.mark.parametrize(("kind", "arguments", "options"), SAME, ids=name_of)
def test_a_class_does_what_its_option_does_to_beams(
    kind: Any, arguments: Callable[[], tuple[Any, ...]], options: dict[str, Any]
) -> None:
    """The class sees all beams as one batch, the option one beam after another."""
    more: dict[str, Any] = {"num_beams": 3, "num_return_sequences": 3, "max_new_tokens": N_NEW}
    more |= {"return_dict_in_generate": True, "output_scores": True}
    more |= {name: value for name, value in options.items() if name == "max_new_tokens"}
    model = fake_model(repeats)
    expected = model.generate([PROMPT], **{**more, **options})
    out = model.generate([PROMPT], logits_processor=[kind(*arguments())], **more)
    assert out.sequences.tolist() == expected.sequences.tolist()
    np.testing.assert_allclose(out.sequences_scores, expected.sequences_scores, rtol=1e-5)


@pytest.mark.parametrize("n_most", [5, 3])
def test_beams_of_which_nothing_allowed_is_left(n_most: int) -> None:
    """A beam dies, or all are forced: as the class has it, which knows which rows are one prompt's
    beams."""

    def allow(batch_id: int, token_ids: Any) -> list[int]:
        banned = [98 + batch_id, EOS]
        return banned if len(token_ids) > n_most or int(token_ids[-1]) == 120 else [120, 121]

    constrain = logits_process.PrefixConstrainedLogitsProcessor(allow, 2)
    more: dict[str, Any] = {"num_beams": 2, "max_new_tokens": 4, "min_new_tokens": 4}
    more |= {"suppress_tokens": [98, 99], "return_dict_in_generate": True, "output_scores": True}
    ids, mask = [PROMPT, PROMPT], [[1] * len(PROMPT)] * 2
    out = fake_model(repeats).generate(ids, mask, logits_processor=[constrain], **more)
    # suppress_tokens comes after the function in transformers' order, so bad words stand in for it.
    more["bad_words_ids"] = [[token_id] for token_id in more.pop("suppress_tokens")]
    expected = fake_model(repeats).generate(ids, mask, prefix_allowed_tokens_fn=allow, **more)
    assert out.sequences.tolist() == expected.sequences.tolist()
    np.testing.assert_allclose(out.sequences_scores, expected.sequences_scores, rtol=1e-5)


def test_a_forced_beginning() -> None:
    forced = logits_process.ForcedBOSTokenLogitsProcessor(33)
    out = fake_model(repeats).generate([[97]], max_new_tokens=2, logits_processor=[forced])
    expected = fake_model(repeats).generate([[97]], max_new_tokens=2, forced_bos_token_id=33)
    assert out.tolist() == expected.tolist() == [[97, 33, 33]]


class DamagedBackend(FakeBackend):
    """Gives rows with NaN and infinity in them."""

    def decode(self, batch: Any, *args: Any) -> Any:
        logits = super().decode(batch, *args)
        logits[:, :3] = np.nan, np.inf, -np.inf
        return logits


def test_invalid_values_are_removed() -> None:
    clean = logits_process.InfNanRemoveLogitsProcessor()
    model = fake_model(backend=DamagedBackend())
    out = model.generate([PROMPT], max_new_tokens=3, logits_processor=[clean])
    expected = model.generate([PROMPT], max_new_tokens=3, remove_invalid_values=True)
    assert out.tolist() == expected.tolist()


def test_scores_are_normalized() -> None:
    """Normalized before the temperature, since the caller's processors come before it."""
    normalize = logits_process.LogitNormalization()
    more: dict[str, Any] = {"return_dict_in_generate": True, "output_scores": True}
    model = fake_model(repeats)
    out = model.generate([PROMPT], max_new_tokens=3, logits_processor=[normalize], **more)
    expected = model.generate([PROMPT], max_new_tokens=3, renormalize_logits=True, **more)
    assert out.sequences.tolist() == expected.sequences.tolist()
    np.testing.assert_allclose(out.scores, expected.scores, rtol=1e-5)


@pytest.mark.parametrize(("kind", "options"), NARROW, ids=name_of)
def test_a_filter_as_a_processor(kind: Any, options: dict[str, Any]) -> None:
    """transformers' filters are processors, too."""
    model = fake_model(repeats)
    greedy = model.generate([PROMPT], max_new_tokens=N_NEW).tolist()
    sampled = model.generate(
        [PROMPT],
        max_new_tokens=N_NEW,
        do_sample=True,
        seed=1,
        top_k=0,
        logits_processor=[kind(**options)],
    )
    assert sampled.tolist() == greedy


def test_a_watermark_as_a_processor() -> None:
    """Green tokens of each step get a bias: nearly all of what is generated then is green."""
    watermark = logits_process.WatermarkLogitsProcessor(N_VOCAB, "cpu", 0.5, bias=50.0)
    out = fake_model(repeats).generate([PROMPT], max_new_tokens=20, logits_processor=[watermark])
    ids = out[0].tolist()
    for position in range(len(PROMPT), len(ids)):
        green = watermark._get_greenlist_ids(torch.tensor(ids[:position]))
        assert ids[position] in green.tolist()


def test_a_list_of_several() -> None:
    """They run in the order of the list, after those of options."""
    processors = transformers.LogitsProcessorList(
        [
            logits_process.SuppressTokensLogitsProcessor([97]),
            logits_process.TopKLogitsWarper(2),
            logits_process.SequenceBiasLogitsProcessor({(98,): 100.0}),
        ]
    )
    out = fake_model(repeats).generate([PROMPT], max_new_tokens=2, logits_processor=processors)
    assert 97 not in out[0, len(PROMPT) :].tolist()


# --- criteria ---


TOKENIZER = fake_model().tokenizer
CRITERIA: list[tuple[Any, Callable[[], tuple[Any, ...]], int]] = [
    (stopping_criteria.MaxLengthCriteria, lambda: (len(PROMPT) + 2,), 2),
    (stopping_criteria.MaxTimeCriteria, lambda: (-1.0,), 1),
    (stopping_criteria.EosTokenCriteria, lambda: (ord("e"),), 5),
    (stopping_criteria.EosTokenCriteria, lambda: ([ord("c"), ord("e")],), 3),
    (stopping_criteria.StopStringCriteria, lambda: (TOKENIZER, ["cd", "xy"]), 4),
]


def alphabet(tokens: list[int]) -> int:
    """The letters from a on, after the prompt."""
    return ord("a") + len(tokens) - len(PROMPT)


@pytest.mark.parametrize(("kind", "arguments", "n_new"), CRITERIA, ids=name_of)
def test_a_criterion_ends_the_text(
    kind: Any, arguments: Callable[[], tuple[Any, ...]], n_new: int
) -> None:
    """After the token that it is there for, in either API, alone or in transformers' list."""
    model = fake_model(alphabet)
    several = transformers.StoppingCriteriaList([kind(*arguments())])
    for criteria in (kind(*arguments()), several):
        (done,) = model.complete([PROMPT], max_new_tokens=9, stopping_criteria=criteria)
        assert (len(done.token_ids), done.finish_reason) == (n_new, "stop")
        out = model.generate([PROMPT, PROMPT], max_new_tokens=9, stopping_criteria=criteria)
        assert out.shape == (2, len(PROMPT) + n_new)


def test_a_criterion_that_reads_scores() -> None:
    """ConfidenceCriteria gets the scores of all steps, where generate() keeps them."""
    likely = lambda tokens: ord("a") if len(tokens) < 5 else ord("b")  # noqa: E731
    more: dict[str, Any] = {"return_dict_in_generate": True, "output_scores": True}
    for threshold, n_new in ((0.0, 6), (1.1, 1)):
        out = fake_model(likely).generate(
            [PROMPT],
            max_new_tokens=6,
            stopping_criteria=[stopping_criteria.ConfidenceCriteria(threshold)],
            **more,
        )
        assert out.sequences.shape[1] == len(PROMPT) + n_new
