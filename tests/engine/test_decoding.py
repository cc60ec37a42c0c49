"""The seams of a step, each used by a small strategy: several tokens a pass, several accepted, KV
returned, sequences forked and looked at together, masks. The features built on them come later."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Items
from typing import Any

import numpy as np
import pytest

from localgen.config import SamplingOptions
from localgen.engine.decoding import Output, SamplingStrategy, Step
from localgen.engine.engine import Engine
from localgen.engine.recorders import LogprobRecorder
from localgen.engine.request import Request
from localgen.engine.sampling.chain import Sampler
from localgen.engine.sequence import Sequence
from localgen.engine.trackers import Mask, TokenCounts, Tracker
from localgen.engine.uniforms import UniformStream
from localgen.errors import KvBudgetError
from tests.fakes import EOS, N_VOCAB, FakeBackend, hashed_letter, reference_greedy, run_request

PROMPT = list(b"a prompt longer than the sixteen tokens of one batch")


def sequence(
    prompt: Items[int] = PROMPT, *, n_new: int = 8, index: int = 0, **options: Any
) -> Sequence:
    given: dict[str, Any] = {
        key: options.pop(key) for key in ("trackers", "recorders") if key in options
    }
    return Sequence(
        index=index,
        prompt_ids=np.array(prompt, np.int32),
        max_new_tokens=n_new,
        eos_token_ids=frozenset({EOS}),
        sampler=Sampler(SamplingOptions(**options), N_VOCAB),
        uniform=UniformStream(7, index),
        **given,
    )


# --- (a) and (b): a draft goes through the pass, a part of it is accepted, the rest is returned ---


class Speculation:
    """Verifies drafts of ``propose(sequence)`` by greedy choice."""

    def __init__(self, propose: Callable[[Sequence], Items[int]]) -> None:
        self.propose = propose
        self.n_accepted: list[int] = []

    def advance(self, outputs: list[Output], step: Step) -> None:
        for output in outputs:
            self._verify(output, step)

    def _verify(self, output: Output, step: Step) -> None:
        for number, row in enumerate(output.logits):
            token_id = int(row.argmax())
            goes_on = step.accept(output.sequence, token_id)
            if not goes_on or number == len(output.draft) or token_id != output.draft[number]:
                break
        self.n_accepted.append(number + 1)
        output.sequence.draft = tuple(self.propose(output.sequence))


def truth(sequence_: Sequence, n: int) -> list[int]:
    """The next ``n`` tokens that greedy decoding will choose."""
    return reference_greedy(sequence_.tokens[: sequence_.n_tokens].tolist(), n)


PROPOSALS: dict[str, Callable[[Sequence], list[int]]] = {
    "all right": lambda s: truth(s, 3),
    "the second wrong": lambda s: [truth(s, 1)[0], 0, 0],
    "all wrong": lambda _: [0, 0, 0],
    "none": lambda _: [],
    "longer than a batch": lambda s: truth(s, 40),
}


@pytest.mark.parametrize("proposal", PROPOSALS)
@pytest.mark.parametrize("can_truncate", [True, False], ids=["KV cache", "recurrent"])
@pytest.mark.parametrize("n_sequences", [1, 3])
def test_drafts_change_no_token(proposal: str, can_truncate: bool, n_sequences: int) -> None:
    """Whatever is drafted, accepted and returned, the tokens are those of plain greedy decoding."""
    prompts = [[65 + i, *PROMPT] for i in range(n_sequences)]
    sequences = [sequence(prompt, n_new=20, index=i) for i, prompt in enumerate(prompts)]
    strategy = Speculation(PROPOSALS[proposal])
    run_request(sequences, strategy, FakeBackend(can_truncate=can_truncate))
    for prompt, done in zip(prompts, sequences, strict=True):
        assert done.new_token_ids.tolist() == reference_greedy(prompt, 20)


def test_right_drafts_save_passes() -> None:
    """With three right tokens drafted, each pass gives four: 20 tokens take 1 + 5 decode passes."""
    plain, drafted = FakeBackend(n_batch=64), FakeBackend(n_batch=64)
    run_request([sequence(n_new=20)], SamplingStrategy(), plain)
    strategy = Speculation(PROPOSALS["all right"])
    run_request([sequence(n_new=20)], strategy, drafted)
    assert plain.count("decode") == 20
    assert drafted.count("decode") == 6
    assert strategy.n_accepted == [1, 4, 4, 4, 4, 3]


def test_rejected_tokens_leave_the_cache() -> None:
    """After a wrong draft the cache holds the sequence's own tokens, and no more."""
    backend = FakeBackend(n_batch=64)
    engine = Engine(backend, 2)
    only = sequence(n_new=4)
    engine.submit(Request([only], strategy=Speculation(PROPOSALS["all wrong"])))
    for _ in range(3):
        engine.step()
    assert backend.kv[only.held_seq_id] == only.tokens[: only.n_tokens - 1].tolist()


def test_a_sequence_that_ends_inside_its_draft_leaves_only_its_own_tokens() -> None:
    """EOS in the middle of a draft: what comes after it is not cached for others."""
    ends_soon = lambda tokens: EOS if len(tokens) == len(PROMPT) + 2 else hashed_letter(tokens)  # noqa: E731
    backend = FakeBackend(ends_soon, n_batch=64)
    drafts = lambda s: [*reference_greedy(s.tokens[: s.n_tokens].tolist(), 4, ends_soon), 9, 9]  # noqa: E731
    only = sequence(n_new=9)
    run_request([only], Speculation(drafts), backend)
    assert only.finish_reason == "eos"
    assert only.cached is not None
    assert only.cached.token_ids.tolist() == only.tokens[: len(only.cached.token_ids)].tolist()
    assert backend.kv[0] == only.cached.token_ids.tolist()


def test_logits_of_the_whole_prompt() -> None:
    """A sequence may ask for logits from any of its tokens on, in however many passes."""

    class Collect(SamplingStrategy):
        def __init__(self) -> None:
            self.rows: list[np.ndarray] = []

        def advance(self, outputs: list[Output], step: Step) -> None:
            self.rows += [row.copy() for output in outputs for row in output.logits]
            super().advance(outputs, step)

    only = sequence(n_new=2)
    only.output_from = 5
    strategy = Collect()
    run_request([only], strategy)
    assert len(strategy.rows) == len(PROMPT) - 5 + 1
    for index, row in enumerate(strategy.rows):
        assert row.argmax() == hashed_letter(only.tokens[: 5 + index + 1].tolist())


def test_several_accepted_tokens_go_through_one_pass_together() -> None:
    """Tokens that are certain (a grammar's forced ones) need no pass each."""

    class Forced:
        def advance(self, outputs: list[Output], step: Step) -> None:
            for output in outputs:
                for token_id in b"yes":
                    if not step.accept(output.sequence, token_id):
                        break

    only = sequence(n_new=9)
    backend = run_request([only], Forced(), FakeBackend(n_batch=64))
    assert bytes(only.new_token_ids.tolist()) == b"yesyesyes"
    assert [slots for name, slots in backend.calls if name == "decode"][1:] == [[0] * 3] * 2


# --- (c): a sequence forks at any time ---


class ForkAt:
    """Samples, and forks the first sequence after ``n`` new tokens."""

    def __init__(self, n: int) -> None:
        self.n = n

    def advance(self, outputs: list[Output], step: Step) -> None:
        for output in outputs:
            own = output.sequence
            step.accept(own, own.sampler.sample(output.logits[-1], own))
            if own.index == 0 and own.n_new == self.n:
                step.fork(own)


@pytest.mark.parametrize("can_truncate", [True, False], ids=["KV cache", "recurrent"])
@pytest.mark.parametrize("n", [1, 5])
def test_a_fork_draws_what_its_original_draws(n: int, can_truncate: bool) -> None:
    """Tokens, counts, recorders and random stream are copied exactly, at any time."""
    options: dict[str, Any] = {"do_sample": True, "temperature": 3.0, "repetition_penalty": 1.3}
    prompt = np.array(PROMPT, np.int32)
    only = sequence(
        n_new=12, trackers=(TokenCounts(prompt, 12),), recorders=(LogprobRecorder(2),), **options
    )
    request_sequences = [only]
    run_request(request_sequences, ForkAt(n), FakeBackend(n_batch=64, can_truncate=can_truncate))
    twin = request_sequences[1]
    assert twin.new_token_ids.tolist() == only.new_token_ids.tolist()
    assert twin.index == 1
    assert [r.steps for r in twin.recorders] == [r.steps for r in only.recorders]  # type: ignore[attr-defined]
    assert twin.counts is not only.counts
    assert twin.counts is not None
    assert only.counts is not None
    assert twin.counts.generated.tolist() == only.counts.generated.tolist()


def test_a_fork_computes_nothing_again() -> None:
    """Its KV is copied: the pass after a fork has one token of each."""
    sequences = [sequence(n_new=6)]
    backend = run_request(sequences, ForkAt(3), FakeBackend(n_batch=64))
    assert backend.n_decoded == len(PROMPT) + 2 + 2 * 3


def test_forks_without_a_free_seq_id_wait_and_compute_their_own() -> None:
    backend = FakeBackend(n_batch=64, budget=2 * 80)
    sequences = [sequence(n_new=6), sequence([66, *PROMPT], n_new=6, index=1)]
    run_request(sequences, ForkAt(3), backend)
    assert sequences[2].new_token_ids.tolist() == sequences[0].new_token_ids.tolist()


# --- (e): a strategy sees all sequences of its request together ---


class Lockstep:
    """Gives each sequence the letter that the *others* would choose, all at once."""

    def __init__(self, sequences: list[Sequence]) -> None:
        self.waiting: dict[Sequence, int] = {}
        self.sequences = sequences

    def advance(self, outputs: list[Output], step: Step) -> None:
        for output in outputs:
            self.waiting[output.sequence] = int(output.logits[-1].argmax())
        if len(self.waiting) == len(self.sequences):
            choices = [self.waiting[each] for each in self.sequences]
            for each, token_id in zip(self.sequences, [*choices[1:], choices[0]], strict=True):
                step.accept(each, token_id)
            self.waiting.clear()


def test_sequences_without_a_new_token_rest_until_they_get_one() -> None:
    """A short prompt waits for the long one of its request, whose prefill takes passes more."""
    prompts = [list(b"short"), PROMPT]
    sequences = [sequence(prompt, n_new=4, index=i) for i, prompt in enumerate(prompts)]
    run_request(sequences, Lockstep(sequences))
    own = [list(prompt) for prompt in prompts]
    for _ in range(4):
        letters = [hashed_letter(tokens) for tokens in own]
        for tokens, letter in zip(own, letters[::-1], strict=True):
            tokens.append(letter)
    assert [each.tokens.tolist() for each in sequences] == own


def test_an_error_of_a_strategy_ends_its_own_request_only() -> None:
    class Broken:
        def advance(self, outputs: list[Output], step: Step) -> None:
            raise RuntimeError("no")

    engine = Engine(FakeBackend(n_batch=64), 4)
    bad, good = Request([sequence()], strategy=Broken()), Request([sequence([65, *PROMPT])])
    engine.submit(bad)
    engine.submit(good)
    while not good.done:
        engine.step()
    assert isinstance(bad.error, RuntimeError)
    assert good.error is None
    assert good.sequences[0].new_token_ids.tolist() == reference_greedy([65, *PROMPT], 8)


def test_an_error_after_a_draft_leaves_no_foreign_kv() -> None:
    """What is cached of a sequence whose strategy fails holds its own tokens, not the draft's."""

    class FailsLater:
        def advance(self, outputs: list[Output], step: Step) -> None:
            for output in outputs:
                if output.draft:
                    raise RuntimeError("no")
                step.accept(output.sequence, int(output.logits[-1].argmax()))
                output.sequence.draft = (1, 2, 3)

    backend = FakeBackend(n_batch=64)
    engine = Engine(backend, 2)
    bad = Request([sequence(n_new=9)], strategy=FailsLater())
    engine.submit(bad)
    while not bad.done:
        engine.step()
    cached = bad.sequences[0].cached
    assert cached is not None
    assert cached.token_ids.tolist() == [*PROMPT, hashed_letter(PROMPT)]
    after = Request([sequence([*PROMPT, hashed_letter(PROMPT), 5], n_new=5)])
    engine.submit(after)
    while not after.done:
        engine.step()
    expected = reference_greedy([*PROMPT, hashed_letter(PROMPT), 5], 5)
    assert after.sequences[0].new_token_ids.tolist() == expected


class Rewrites(SamplingStrategy):
    """Takes the last ``n`` tokens back once, when there are six, and samples them again."""

    def __init__(self, n: int) -> None:
        self.n, self.done = n, False

    def advance(self, outputs: list[Output], step: Step) -> None:
        super().advance(outputs, step)
        only = outputs[0].sequence
        if only.n_new == 6 and not self.done:
            self.done = True
            step.rollback(only, self.n)


@pytest.mark.parametrize("can_truncate", [True, False], ids=["KV cache", "recurrent"])
@pytest.mark.parametrize("n", [1, 2, 6])
def test_tokens_that_are_taken_back_come_again(n: int, can_truncate: bool) -> None:
    only = sequence(n_new=9, trackers=(TokenCounts(np.array(PROMPT, np.int32), 9),))
    run_request([only], Rewrites(n), FakeBackend(can_truncate=can_truncate))
    assert only.new_token_ids.tolist() == reference_greedy(PROMPT, 9)
    assert only.counts is not None
    assert only.counts.generated.sum() == 9


def test_sequences_that_rest_for_one_without_room_end_with_an_error() -> None:
    """A strategy that waits for all of its sequences gets an answer where only some fit."""

    class ForkThenWait:
        def __init__(self) -> None:
            self.n = 0

        def advance(self, outputs: list[Output], step: Step) -> None:
            if not self.n:
                step.fork(outputs[0].sequence)
            self.n += 1

    backend = FakeBackend(n_batch=64, budget=len(PROMPT) + 8)
    engine = Engine(backend, 4)
    request = Request([sequence()], strategy=ForkThenWait())
    engine.submit(request)
    for _ in range(10):
        engine.step()
    assert isinstance(request.error, KvBudgetError)
    assert engine.idle


# --- (d): a tracker with a mask ---


class OnlyOf:
    """Allows the given letters in turn."""

    stops = False

    def __init__(self, letters: bytes) -> None:
        self.letters, self.n = letters, 0

    def accept(self, token_id: int) -> None:
        assert token_id == self.letters[self.n % len(self.letters)]
        self.n += 1

    def rollback(self, n_tokens: int) -> None:
        self.n -= n_tokens

    def mask(self) -> Mask:
        allowed = np.zeros(N_VOCAB, np.bool_)
        allowed[self.letters[self.n % len(self.letters)]] = True
        return allowed

    def copy(self) -> Tracker:
        twin = OnlyOf(self.letters)
        twin.n = self.n
        return twin


@pytest.mark.parametrize(
    "options",
    [{}, {"do_sample": True, "top_p": 0.5}, {"repetition_penalty": 2.0}, {"do_sample": True}],
    ids=str,
)
def test_a_mask_comes_before_every_filter(options: dict[str, Any]) -> None:
    """What a tracker forbids is never chosen, however unlikely what it allows."""
    prompt = np.array(PROMPT, np.int32)
    trackers = (OnlyOf(b"xyz"), TokenCounts(prompt, 6))
    only = sequence(n_new=6, trackers=trackers, **options)
    run_request([only], SamplingStrategy())
    assert bytes(only.new_token_ids.tolist()) == b"xyzxyz"
