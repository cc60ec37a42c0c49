"""Any options on any row give what transformers' own processors give; runs where it is installed.

``test_processors`` compares recorded cases everywhere.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localgen.engine.recorders import StepRecorder
from tests.engine.sampling.sequences import sequence_after

pytest.importorskip("torch")
pytest.importorskip("transformers")

N_VOCAB, EOS = 32, [2, 7]
IDS = st.one_of(st.integers(0, N_VOCAB - 1), st.sampled_from([2, 3, 5, 7]))
WORDS = st.lists(IDS, min_size=1, max_size=3)
FEW = st.lists(IDS, min_size=1, max_size=3)
# Each in transformers' type; ``allowed`` is what prefix_allowed_tokens_fn returns.
OPTIONS: dict[str, st.SearchStrategy[Any]] = {
    "sequence_bias": st.lists(st.tuples(WORDS, st.floats(-9, 9)).map(list), min_size=1, max_size=3),
    "encoder_repetition_penalty": st.floats(0.1, 5),
    "repetition_penalty": st.floats(0.1, 5),
    "no_repeat_ngram_size": st.integers(1, 3),
    "encoder_no_repeat_ngram_size": st.integers(1, 3),
    "bad_words_ids": st.lists(WORDS, min_size=1, max_size=3).filter(lambda words: words != [[2]]),
    "min_length": st.integers(0, 12),
    "min_new_tokens": st.integers(0, 6),
    "allowed": st.lists(IDS, min_size=1, max_size=5),
    "forced_bos_token_id": IDS,
    "forced_eos_token_id": st.one_of(IDS, FEW),
    "remove_invalid_values": st.booleans(),
    "exponential_decay_length_penalty": st.tuples(st.integers(0, 4), st.floats(0.5, 4)),
    "suppress_tokens": FEW,
    "begin_suppress_tokens": FEW,
    "renormalize_logits": st.booleans(),
}
HISTORIES = st.tuples(
    st.lists(IDS, min_size=1, max_size=6), st.lists(IDS, max_size=6), st.integers(1, 3)
)
ODD = st.dictionaries(IDS, st.sampled_from([0.0, -np.inf, 1e20, -1e20, np.nan, np.inf]), max_size=4)


@cache
def reference() -> Any:
    """make_processors.py and the model that it makes its processors with."""
    from tests.real import make_processors

    make_processors.logging.set_verbosity_error()
    return make_processors, make_processors.make_model()


def theirs(row: Any, history: Any, options: dict[str, Any]) -> Any:
    module, model = reference()
    given_options = {name: value for name, value in options.items() if name != "allowed"}
    try:
        return module.processed(model, row, history, given_options, options.get("allowed"))
    except ValueError:  # options that it refuses, such as a bad word that is all there are
        hypothesis.reject()


def ours(row: Any, history: Any, options: dict[str, Any]) -> Any:
    """What ``output_scores`` shows; None where nothing is left to choose."""
    prompt, new, n_most = history
    allowed = options.get("allowed")
    names = [name for name in options if name != "allowed"]
    more: dict[str, Any] = {name: options[name] for name in names}
    if allowed is not None:
        more["prefix_allowed_tokens_fn"] = lambda _batch_id, _ids: allowed
    recorder = StepRecorder(keep_logits=False, keep_scores=True)
    try:
        sequence = sequence_after(
            prompt, new, n_most=n_most, eos=EOS, n_vocab=N_VOCAB, do_sample=False, **more
        )
        sequence.recorders = (recorder,)
        sequence.sampler.sample(row, sequence)
    except ValueError as error:
        if "left no token" not in str(error) and "tokens of suppress_tokens" not in str(error):
            raise
        return None
    return recorder.scores[0]


@hypothesis.settings(max_examples=300, deadline=None)
@given(st.fixed_dictionaries({}, optional=OPTIONS), HISTORIES, st.integers(0, 2**16), ODD)
def test_any_options(options: Any, history: Any, seed: int, odd: dict[int, float]) -> None:
    """Values, places in the order, and what each is told of prompt and lengths."""
    prompt, new, n_left = history
    row = (np.random.RandomState(seed).standard_normal(N_VOCAB) * 4).astype(np.float32)
    for token_id, value in odd.items():
        row[token_id] = value
    is_invalid = bool(np.isnan(row).any() or row.max() == np.inf)
    # Where transformers adds -inf to what is no number, remove_invalid_values lets a removed token
    # come back; here it stays removed.
    bans = options.keys() & {"allowed", "bad_words_ids"}
    hypothesis.assume(not is_invalid or (options.get("remove_invalid_values") and not bans))
    expected = theirs(row, (prompt, new, len(new) + n_left), options)
    scores = ours(row.copy(), (prompt, new, len(new) + n_left), options)
    if scores is None:
        assert not expected.max() > -np.inf
        return
    if np.isnan(expected).any():  # of +inf in a softmax
        assert options["renormalize_logits"]
        return
    np.testing.assert_allclose(scores, expected, rtol=3e-6, atol=1e-6)


def test_the_order_of_all_processors() -> None:
    """The list of makers is transformers' list of classes, but for what it does not have."""
    from transformers.generation import logits_process

    from localgen.engine.sampling.processors import _MAKERS

    module, model = reference()
    generation, _ = model._prepare_generation_config(
        None,
        sequence_bias=[[[1], 1.0]],
        encoder_repetition_penalty=2.0,
        repetition_penalty=2.0,
        no_repeat_ngram_size=2,
        encoder_no_repeat_ngram_size=2,
        bad_words_ids=[[1]],
        min_length=3,
        min_new_tokens=3,
        forced_bos_token_id=1,
        forced_eos_token_id=1,
        remove_invalid_values=True,
        exponential_decay_length_penalty=(1, 1.5),
        suppress_tokens=[3],
        begin_suppress_tokens=[1],
        eos_token_id=EOS,
        max_length=9,
    )
    model._prepare_special_tokens(generation, device="cpu")
    made = model._get_logits_processor(
        generation,
        input_ids_seq_length=2,
        encoder_input_ids=module.torch.tensor([[1, 2]]),
        prefix_allowed_tokens_fn=lambda *_: [1],
        device="cpu",
    )
    classes = {
        "sequence_bias": logits_process.SequenceBiasLogitsProcessor,
        "encoder_repetition_penalty": logits_process.EncoderRepetitionPenaltyLogitsProcessor,
        "token_penalties": logits_process.RepetitionPenaltyLogitsProcessor,
        "no_repeat_ngram_size": logits_process.NoRepeatNGramLogitsProcessor,
        "encoder_no_repeat_ngram_size": logits_process.EncoderNoRepeatNGramLogitsProcessor,
        "bad_words_ids": logits_process.NoBadWordsLogitsProcessor,
        "min_length": logits_process.MinLengthLogitsProcessor,
        "min_new_tokens": logits_process.MinNewTokensLengthLogitsProcessor,
        "prefix_allowed_tokens_fn": logits_process.PrefixConstrainedLogitsProcessor,
        "forced_bos_token_id": logits_process.ForcedBOSTokenLogitsProcessor,
        "forced_eos_token_id": logits_process.ForcedEOSTokenLogitsProcessor,
        "remove_invalid_values": logits_process.InfNanRemoveLogitsProcessor,
        "exponential_decay_length_penalty": logits_process.ExponentialDecayLengthPenalty,
        "suppress_tokens": logits_process.SuppressTokensLogitsProcessor,
        "begin_suppress_tokens": logits_process.SuppressTokensAtBeginLogitsProcessor,
    }
    names = [make.__name__.lstrip("_") for make in _MAKERS]
    ours_in_order = [classes[name] for name in names if name in classes]
    assert ours_in_order == [type(each) for each in made]
    assert len(ours_in_order) == len(classes)
