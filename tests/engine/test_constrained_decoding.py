"""Sequences with a constraint in the engine: forced tokens, masks, drafts, beams' copies."""

from __future__ import annotations

import threading
from collections.abc import Callable
from collections.abc import Sequence as Items
from typing import Any

import numpy as np
import pytest

from localgen.config import SamplingOptions
from localgen.engine.constraint import (
    ConstraintTracker,
    MaskWorker,
    Matcher,
    PackedMask,
    masks_one_by_one,
)
from localgen.engine.decoding import DecodingStrategy, Output, SamplingStrategy, Step
from localgen.engine.pass_costs import PassCosts
from localgen.engine.recorders import LogprobRecorder
from localgen.engine.sampling.chain import Sampler
from localgen.engine.sequence import Sequence, Speculation
from localgen.engine.speculation import NO_DRAFT, Draft, SpeculativeStrategy
from localgen.engine.uniforms import UniformStream
from tests.fakes import EOS, N_VOCAB, ChoiceMatcher, FakeBackend, constraint, run_request

PROMPT = list(b"a prompt longer than the sixteen tokens of one batch")
RECORDS = [b'{"name": "%c", "size": %d}' % (letter, n) for letter in b"abc" for n in range(1, 5)]


def sequence(
    choices: list[bytes] | None = None,
    *,
    index: int = 0,
    n_new: int = 40,
    forces: bool = True,
    recorders: tuple[Any, ...] = (),
    **options: Any,
) -> Sequence:
    sampler = Sampler(SamplingOptions(**options), N_VOCAB)
    trackers: list[Any] = sampler.new_trackers(np.array(PROMPT, np.int32), n_new)
    if choices is not None:
        trackers.append(constraint(choices, forces=forces))
    return Sequence(
        index=index,
        prompt_ids=np.array([65 + index, *PROMPT], np.int32),
        max_new_tokens=n_new,
        eos_token_ids=frozenset({EOS}),
        sampler=sampler,
        uniform=UniformStream(7, index),
        trackers=tuple(trackers),
        recorders=recorders,
        speculation=Speculation(),
    )


def text(of: Sequence) -> bytes:
    return bytes(token for token in of.new_token_ids.tolist() if token != EOS)


def decode_passes(backend: FakeBackend, seq_id: int = 0) -> list[int]:
    """How many tokens of a sequence each pass after its prompt had."""
    passes = [slots for name, slots in backend.calls if name == "decode"]
    sizes = [slots.count(seq_id) for slots in passes if seq_id in slots]
    n_prompt = len(PROMPT) + 1
    while n_prompt > 0:
        n_prompt -= sizes.pop(0)
    return sizes


SAMPLERS: list[dict[str, Any]] = [
    {},
    {"do_sample": True, "top_p": 0.01, "top_k": 0},
    {"do_sample": True, "top_k": 1, "temperature": 5.0},
    {"do_sample": True, "min_p": 1.0, "top_k": 0},
    {"do_sample": True, "typical_p": 0.1},
    {"do_sample": True, "xtc_probability": 1.0, "xtc_threshold": 0.0},
    {"do_sample": True, "mirostat": 2},
    {"do_sample": True, "top_n_sigma": 0.1, "top_h": 0.1},
    {"repetition_penalty": 3.0, "presence_penalty": 2.0},
    {"do_sample": True, "watermarking_config": {}},
    {"remove_invalid_values": True, "no_repeat_ngram_size": 12},
    {"exponential_decay_length_penalty": (0, 3.0), "min_new_tokens": 30},
]


@pytest.mark.parametrize("options", SAMPLERS, ids="-".join)
def test_every_text_fits_whatever_else_chooses_tokens(options: dict[str, Any]) -> None:
    """The likeliest tokens of the fake model are never allowed ones, so that a filter that came
    before the mask would leave nothing."""
    n_passes = {}
    for forces in (True, False):
        sequences = [sequence(RECORDS, index=i, forces=forces, **options) for i in range(3)]
        backend = run_request(sequences, SamplingStrategy(), FakeBackend(lambda _: 254))
        assert all(text(each) in RECORDS for each in sequences)
        assert {each.finish_reason for each in sequences} == {"stop"}
        n_passes[forces] = len(decode_passes(backend))
    assert n_passes[True] < n_passes[False] / 3


def test_forced_tokens_go_through_one_pass_with_the_token_before_them() -> None:
    """What comes first is forced as well, and the end needs no pass."""
    only = sequence(RECORDS)
    backend = run_request([only], SamplingStrategy())
    head, middle = len(b'{"name": "'), len(b'", "size": ')
    assert decode_passes(backend) == [head, 1 + middle]
    assert only.constraint is not None
    assert only.constraint.n_passes == 3
    assert only.constraint.n_forced == only.n_new - 2


@pytest.mark.parametrize("runs_ahead", [True, False])
def test_masks_of_all_sequences_are_made_together_during_a_pass_or_after_it(
    runs_ahead: bool,
) -> None:
    """Nothing comes before the first of each, so there is no pass to make them in."""
    makers = []

    def masks_of(matchers: list[Matcher]) -> list[PackedMask]:
        makers.append((len(matchers), threading.current_thread() is threading.main_thread()))
        return masks_one_by_one(matchers)

    worker = MaskWorker(masks_of, runs_ahead=runs_ahead)
    sequences = [sequence(None, index=i, do_sample=True) for i in range(3)]
    for each in sequences:
        each.constraint = ConstraintTracker(
            ChoiceMatcher([b"one", b"two"]), "choices", ends={EOS}, worker=worker, forces=False
        )
        each.trackers += (each.constraint,)
    run_request(sequences, SamplingStrategy(), FakeBackend(n_batch=256))
    is_after = not runs_ahead
    assert makers == [(3, True), (3, is_after), (3, is_after)]


def test_no_mask_is_made_for_a_text_that_must_come_first() -> None:
    makers = []

    def masks_of(matchers: list[Matcher]) -> list[PackedMask]:
        makers.append(len(matchers))
        return masks_one_by_one(matchers)

    worker = MaskWorker(masks_of, runs_ahead=False)
    each = sequence(None, do_sample=True)
    each.constraint = constraint([b"name: x", b"name: y"], worker=worker)
    each.trackers += (each.constraint,)
    run_request([each], SamplingStrategy())
    assert makers == [1]


class MasksCounted(ChoiceMatcher):
    """Makes a mask only when it is asked for one; nothing is forced."""

    n_masks = 0

    def mask(self) -> PackedMask:
        self.n_masks += 1
        return super().mask()

    def accept(self, token_id: int) -> None:
        self.token_ids.append(token_id)

    def n_allowed(self, token_ids: Items[int]) -> int:
        return int(any(each.startswith(self.text + bytes(token_ids)) for each in self.choices))

    def forced_tokens(self) -> list[int]:
        return []


def test_greedy_decoding_makes_a_mask_only_where_the_best_token_is_not_allowed() -> None:
    free = sequence(n_new=8)
    run_request([free], SamplingStrategy())
    wanted = text(free)
    elsewhere = wanted[:5] + bytes([wanted[5] ^ 1])
    for choice, n_masks in ((wanted, 0), (elsewhere, 1)):
        each, matcher = sequence(None, n_new=8), MasksCounted([choice])
        each.constraint = ConstraintTracker(matcher, "choices", ends={EOS})
        each.trackers += (each.constraint,)
        run_request([each], SamplingStrategy())
        assert text(each) == choice
        assert matcher.n_masks == n_masks


def test_rows_keep_their_own_constraints_and_free_ones_stay_as_they_are() -> None:
    """Also beside a sequence that has none: its tokens are those that it has alone."""
    alone = [sequence(None, index=i, n_new=30) for i in (1, 3)]
    for each in alone:
        run_request([each], SamplingStrategy())
    mixed = [sequence([b"yes", b"no"]), sequence(None, index=1, n_new=30)]
    mixed += [sequence(RECORDS, index=2), sequence(None, index=3, n_new=30)]
    run_request(mixed, SamplingStrategy())
    assert text(mixed[0]) in {b"yes", b"no"}
    assert text(mixed[2]) in RECORDS
    assert [each.new_token_ids.tolist() for each in (mixed[1], mixed[3])] == [
        each.new_token_ids.tolist() for each in alone
    ]


def test_a_model_that_wants_to_end_early_cannot() -> None:
    only = sequence([b"yes", b"yesterday"])
    run_request([only], SamplingStrategy(), FakeBackend(lambda _: EOS))
    assert (text(only), only.finish_reason) == (b"yes", "eos")


def test_a_limit_is_a_limit() -> None:
    only = sequence(RECORDS, n_new=15)
    run_request([only], SamplingStrategy())
    assert only.finish_reason == "length"
    assert any(each.startswith(text(only)) for each in RECORDS)
    exact = sequence([b"yes"], n_new=3)
    run_request([exact], SamplingStrategy())
    assert exact.finish_reason == "stop"


@pytest.mark.parametrize("options", [{}, {"do_sample": True, "temperature": 3.0}], ids=str)
def test_recorded_logprobs_are_the_models_own_also_of_forced_tokens(
    options: dict[str, Any],
) -> None:
    """Recording changes no text, and the logits are those of a pass for each token."""
    plain = sequence(RECORDS, **options)
    run_request([plain], SamplingStrategy())
    recorded = []
    for forces in (True, False):
        recorder = LogprobRecorder(2)
        given = plain.new_token_ids.tolist()
        only = sequence(
            RECORDS if forces else [bytes(given)], forces=forces, recorders=(recorder,), **options
        )
        backend = run_request([only], SamplingStrategy(), FakeBackend(n_batch=8))
        assert only.new_token_ids.tolist() == given
        assert len(recorder.steps) == len(given)
        recorded.append(recorder.steps)
        assert (len(decode_passes(backend)) < len(given) / 2) == forces
    assert recorded[0] == recorded[1]


@pytest.mark.parametrize(
    "options",
    [{"suppress_tokens": [ord("a")]}, {"bad_words_ids": [[*b'"a']]}, {"sequence_bias": [[[1], 5]]}],
    ids=lambda each: next(iter(each)),
)
def test_an_option_that_removes_tokens_is_asked_about_each(options: dict[str, Any]) -> None:
    """So nothing is forced there. Penalties remove nothing."""
    assert not Sampler(SamplingOptions(**options), N_VOCAB).may_force
    penalized = SamplingOptions(frequency_penalty=1.0, dry_multiplier=1.0, min_new_tokens=3)
    assert Sampler(penalized, N_VOCAB).may_force


def test_tokens_that_must_and_must_not_come_are_an_error_that_names_the_constraint() -> None:
    only = sequence([b"yes"], forces=False, suppress_tokens=[ord("e")])
    only.accept(ord("y"))
    row = np.zeros(N_VOCAB, np.float32)
    with pytest.raises(ValueError, match=r"left no token to choose .*choices allows only some"):
        only.sampler.sample(row, only)


class Guess:
    """Drafts what ``guess(sequence)`` returns."""

    def __init__(self, guess: Callable[[Sequence], list[int]]) -> None:
        self.guess = guess
        self.verdicts: list[tuple[int, int]] = []

    def propose(
        self, sequences: list[Sequence], costs: PassCosts, should_stop: Callable[[], bool]
    ) -> list[Draft]:
        return [self._draft(each) for each in sequences]

    def _draft(self, of: Sequence) -> Draft:
        tokens = tuple(self.guess(of)[: len(of.tokens) - of.n_tokens - 1])
        return Draft(tokens, (0.9,) * len(tokens)) if tokens else NO_DRAFT

    def verified(self, sequence: Sequence, draft: Draft, n_accepted: int) -> None:
        self.verdicts.append((len(draft.token_ids), n_accepted))


WORDS = [bytes([a, b, c, d]) + b"ish" for a in b"ab" for b in b"cde" for c in b"fg" for d in b"hi"]


def right_or_wrong(given: list[int], right: int) -> Callable[[Sequence], list[int]]:
    """Drafts of three tokens of which the first ``right`` come, and then one that may not."""
    return lambda of: [*given[of.n_new : of.n_new + right], 255, 255][:3]


@pytest.mark.parametrize("right", [0, 1, 3])
@pytest.mark.parametrize("recorded", [False, True], ids=["plain", "recorded"])
@pytest.mark.parametrize("options", [{}, {"do_sample": True, "temperature": 3.0}], ids=str)
def test_drafts_change_no_text(right: int, recorded: bool, options: dict[str, Any]) -> None:
    """Masks and forced tokens are taken back with what is rejected."""
    plain = sequence(WORDS, **options)
    run_request([plain], SamplingStrategy())
    recorder = LogprobRecorder(0)
    only = sequence(WORDS, recorders=(recorder,) if recorded else (), **options)
    drafter = Guess(right_or_wrong(plain.new_token_ids.tolist(), right))
    run_request([only], SpeculativeStrategy(drafter))
    assert only.new_token_ids.tolist() == plain.new_token_ids.tolist()
    assert bool(drafter.verdicts) == bool(right)
    # What may not come was left out of the draft.
    assert all(n_accepted == n_drafted for n_drafted, n_accepted in drafter.verdicts)
    assert len(recorder.steps) == (only.n_new if recorded else 0)


class ForkAt:
    """Samples, and forks the first sequence once it has ``n`` new tokens."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.inner: DecodingStrategy = SamplingStrategy()

    def advance(self, outputs: list[Output], step: Step) -> None:
        self.inner.advance(outputs, step)
        own = outputs[0].sequence if outputs else None
        if own is not None and own.index == 0 and own.n_new >= self.n and not own.finish_reason:
            step.fork(own)
            self.n = 1000


def test_a_fork_goes_its_own_way() -> None:
    """A mask that was being made when the sequence forked is both of theirs."""
    only = sequence(WORDS, do_sample=True, temperature=9.0)
    requests: list[Sequence] = [only]
    run_request(requests, ForkAt(2))
    assert len(requests) == 2
    assert text(requests[0]) == text(requests[1])  # same numbers: an exact copy
    assert text(requests[0]) in WORDS
    probe = requests[0].probe(EOS) if requests[0].n_new < len(requests[0].tokens) else None
    assert probe is None or probe.constraint is not requests[0].constraint
