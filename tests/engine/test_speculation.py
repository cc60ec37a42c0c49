"""Drafts change how many passes a text takes, and nothing of the text."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localgen.config import SamplingOptions
from localgen.engine.decoding import SamplingStrategy
from localgen.engine.engine import Engine
from localgen.engine.pass_costs import PassCosts
from localgen.engine.recorders import LogprobRecorder, StepRecorder
from localgen.engine.request import Request
from localgen.engine.sampling.chain import Sampler
from localgen.engine.sequence import Sequence, Speculation
from localgen.engine.speculation import Draft, Drafter, SpeculativeStrategy
from localgen.engine.uniforms import UniformStream
from tests.fakes import EOS, N_VOCAB, FakeBackend, reference_greedy, run_request

PROMPT = list(b"a prompt")


def sequence(index: int, n_new: int, **options: Any) -> Sequence:
    sampler = Sampler(SamplingOptions(**options), N_VOCAB)
    prompt = np.array([65 + index, *PROMPT], np.int32)
    return Sequence(
        index=index,
        prompt_ids=prompt,
        max_new_tokens=n_new,
        eos_token_ids=frozenset({EOS, *range(97, 99)}),
        sampler=sampler,
        uniform=UniformStream(7, index),
        trackers=tuple(sampler.new_trackers(prompt, n_new)),
        recorders=(LogprobRecorder(2), StepRecorder(keep_logits=True, keep_scores=True)),
        speculation=Speculation(),
    )


class AlwaysWorthIt(PassCosts):
    """Costs that do not depend on the time that a test takes."""

    def measured(self, n_tokens: int, seconds: float) -> None:
        assert seconds > 0

    def seconds(self, n_tokens: int) -> float:
        return 1.0


def speculative(drafter: Drafter) -> SpeculativeStrategy:
    return SpeculativeStrategy(drafter, AlwaysWorthIt())


class Guesses:
    """Drafts the tokens of ``texts``, of which some are changed, whatever they cost.

    lengths, wrong: for the number of a draft, how long it is, and where it is wrong.
    """

    def __init__(self, texts: list[list[int]], lengths: list[int], wrong: list[int]) -> None:
        self.texts, self.lengths, self.wrong = texts, lengths, wrong
        self.n = 0
        self.seen: list[tuple[int, int]] = []

    def propose(
        self, sequences: list[Sequence], costs: PassCosts, should_stop: Callable[[], bool]
    ) -> list[Draft]:
        return [self._draft(each) for each in sequences]

    def verified(self, sequence: Sequence, draft: Draft, n_accepted: int) -> None:
        self.seen.append((len(draft.token_ids), n_accepted))

    def _draft(self, sequence: Sequence) -> Draft:
        self.n += 1
        length = self.lengths[self.n % len(self.lengths)]
        text = self.texts[sequence.index]
        ids = text[sequence.n_new : sequence.n_new + length]
        where = self.wrong[self.n % len(self.wrong)]
        ids[where : where + 1] = [255] * len(ids[where : where + 1])
        return Draft(tuple(ids), (1.0,) * len(ids))


def outcome(sequence: Sequence) -> tuple[Any, ...]:
    logprobs, steps = sequence.recorders
    assert isinstance(logprobs, LogprobRecorder)
    assert isinstance(steps, StepRecorder)
    rows = [zlib.crc32(each.tobytes()) for each in (*steps.logits, *steps.scores)]
    next_uniform = sequence.uniform()
    return (
        sequence.new_token_ids.tolist(), sequence.finish_reason, logprobs.steps, rows, next_uniform,
    )  # fmt: skip


OPTIONS: list[dict[str, Any]] = [
    {},
    {"do_sample": True, "temperature": 3.0, "top_k": 0},
    {"do_sample": True, "temperature": 4.0, "repetition_penalty": 1.5, "top_p": 0.9},
    {"do_sample": True, "mirostat": 2, "temperature": 3.0},
    {"frequency_penalty": 5.0, "no_repeat_ngram_size": 2},
    {"do_sample": True, "temperature": 4.0, "dry_multiplier": 1.0, "xtc_probability": 0.5},
    {"min_new_tokens": 5, "exponential_decay_length_penalty": (2, 1.4)},
]  # fmt: skip


@settings(max_examples=40)
@given(
    options=st.sampled_from(OPTIONS),
    n_sequences=st.integers(1, 3),
    n_new=st.integers(1, 12),
    lengths=st.lists(st.integers(0, 20), min_size=1, max_size=5),
    wrong=st.lists(st.integers(0, 8), min_size=1, max_size=5),
    can_truncate=st.booleans(),
)
def test_whatever_is_drafted_a_sequence_is_the_same(
    options: dict[str, Any],
    n_sequences: int,
    n_new: int,
    lengths: list[int],
    wrong: list[int],
    can_truncate: bool,
) -> None:
    """Tokens, log-probabilities, scores, reasons, and the random numbers that are left."""
    plain = [sequence(index, n_new, **options) for index in range(n_sequences)]
    run_request(plain, SamplingStrategy())
    drafted = [sequence(index, n_new, **options) for index in range(n_sequences)]
    texts = [each.new_token_ids.tolist() for each in plain]
    strategy = speculative(Guesses(texts, lengths, wrong))
    run_request(drafted, strategy, FakeBackend(can_truncate=can_truncate))
    assert [outcome(each) for each in drafted] == [outcome(each) for each in plain]


def test_right_drafts_save_passes_and_are_counted() -> None:
    only = sequence(0, 12)
    only.eos_token_ids = frozenset()
    text = reference_greedy([65, *PROMPT], 12)
    backend = run_request([only], speculative(Guesses([text], [3], [99])))
    assert only.new_token_ids.tolist() == text
    assert backend.count("decode") == 1 + 3  # 1 token, 4, 4, 3
    assert only.speculation == Speculation(n_drafted=8, n_accepted=8, n_passes=4)


def test_wrong_drafts_are_counted_and_their_drafter_learns_it() -> None:
    only = sequence(0, 6)
    only.eos_token_ids = frozenset()
    guesses = Guesses([reference_greedy([65, *PROMPT], 6)], [3], [1])
    run_request([only], SpeculativeStrategy(guesses))
    assert only.speculation == Speculation(n_drafted=5, n_accepted=2, n_passes=4)
    assert guesses.seen == [(3, 1), (2, 1)]


def test_a_sequence_without_a_draft_goes_as_without_speculation() -> None:
    plain, drafted = FakeBackend(), FakeBackend()
    run_request([sequence(i, 6) for i in range(3)], SamplingStrategy(), plain)
    strategy = speculative(Guesses([[], [], []], [4], [0]))
    run_request([sequence(i, 6) for i in range(3)], strategy, drafted)
    assert drafted.calls == plain.calls


def test_drafts_of_a_pass_have_one_length_and_what_fills_them_is_not_counted() -> None:
    """Sequences with cells of their own would be computed in parts otherwise."""
    both = [sequence(index, 12) for index in range(2)]
    for each in both:
        each.eos_token_ids = frozenset()
    texts = [reference_greedy([65 + index, *PROMPT], 12) for index in range(2)]
    backend = FakeBackend(n_batch=64)
    run_request(both, speculative(Guesses([texts[0], []], [3], [99])), backend)
    assert [each.new_token_ids.tolist() for each in both] == texts
    assert [each.speculation.n_drafted for each in both if each.speculation] == [8, 0]
    passes = [seq_ids for name, seq_ids in backend.calls if name == "decode"]
    assert passes[1:3] == [[0, 0, 0, 0, 1, 1, 1, 1]] * 2


def test_sequences_draft_beside_prompts_and_other_requests() -> None:
    engine = Engine(FakeBackend(), 8)
    texts = [reference_greedy([65 + i, *PROMPT], 12) for i in range(2)]
    requests = []
    for index in range(2):
        only = sequence(index, 12)
        only.eos_token_ids = frozenset()
        strategy = speculative(Guesses(texts, [5], [3]))
        requests.append(Request([only], strategy=strategy))
        engine.submit(requests[-1])
        engine.step()
        engine.step()
    while not engine.idle:
        engine.step()
    assert [each.sequences[0].new_token_ids.tolist() for each in requests] == texts


@pytest.mark.parametrize("at", [0, 3, 6])
def test_an_interrupt_between_two_tokens_of_a_pass_loses_none(at: int) -> None:
    """The engine starts over, and continues from the tokens that were accepted."""
    only = sequence(0, 12)
    only.eos_token_ids = frozenset()
    calls = iter(range(100))

    def interrupts(_: Sequence) -> bool:
        if next(calls) == at:
            raise KeyboardInterrupt
        return False

    only.stop_checks = (interrupts,)
    text = reference_greedy([65, *PROMPT], 12)
    engine = Engine(FakeBackend(), 2)
    request = Request([only], strategy=speculative(Guesses([text], [4], [9])))
    engine.submit(request)
    n_interrupts = 0
    while not request.done:
        try:
            engine.step()
        except KeyboardInterrupt:
            n_interrupts += 1
    assert n_interrupts == 1
    assert only.new_token_ids.tolist() == text
