"""What a text repeats costs few passes; where it repeats nothing, each pass is as without."""

from __future__ import annotations

import numpy as np

from localgen.config import SamplingOptions
from localgen.engine.decoding import SamplingStrategy
from localgen.engine.pass_costs import PassCosts
from localgen.engine.prompt_lookup import LookupDrafter, LookupTracker
from localgen.engine.sampling.chain import Sampler
from localgen.engine.sequence import Sequence, Speculation
from localgen.engine.uniforms import UniformStream
from tests.engine.test_speculation import speculative
from tests.fakes import EOS, N_VOCAB, FakeBackend, hashed_letter, run_request

QUOTED = list(b"the quick brown fox jumps over a lazy dog.")


def copies(tokens: list[int]) -> int:
    """Repeats the text from its beginning."""
    return tokens[len(tokens) % len(QUOTED)]


def sequence(n_drafted: int, index: int = 0, n_new: int = 40) -> Sequence:
    prompt = np.array(QUOTED, np.int32)
    return Sequence(
        index=index,
        prompt_ids=prompt,
        max_new_tokens=n_new,
        eos_token_ids=frozenset({EOS}),
        sampler=Sampler(SamplingOptions(), N_VOCAB),
        uniform=UniformStream(7, index),
        trackers=(LookupTracker(prompt, 2, n_drafted),) if n_drafted else (),
        speculation=Speculation(),
    )


def test_a_copied_text_takes_few_passes() -> None:
    backend = FakeBackend(copies, n_batch=64)
    only = sequence(8)
    run_request([only], speculative(LookupDrafter()), backend)
    assert only.new_token_ids.tolist() == QUOTED[:40]
    assert only.speculation is not None
    assert only.speculation.n_accepted >= 10
    assert only.speculation.n_passes == backend.count("decode") < 30


def test_a_new_text_takes_the_same_passes() -> None:
    new, plain = FakeBackend(lambda t: 128 + len(t)), FakeBackend(lambda t: 128 + len(t))
    run_request([sequence(8)], speculative(LookupDrafter()), new)
    run_request([sequence(0)], SamplingStrategy(), plain)
    assert new.calls == plain.calls


def test_a_draft_is_no_longer_than_asked_nor_than_the_text_may_be() -> None:
    for n_drafted, n_new in ((1, 40), (3, 40), (20, 6)):
        only = sequence(n_drafted, n_new=n_new)
        only.accept(QUOTED[0])
        only.accept(QUOTED[1])
        only.accept(QUOTED[2])
        (draft,) = LookupDrafter().propose([only], PassCosts(), lambda: False)
        assert draft.token_ids == tuple(QUOTED[3 : 3 + min(n_drafted, n_new - 4)])


def test_a_draft_ends_before_an_end() -> None:
    """What follows it in the prompt, as in a chat, cannot follow in the text."""
    only = sequence(20)
    only.eos_token_ids = frozenset({QUOTED[7]})
    for token_id in QUOTED[:3]:
        only.accept(token_id)
    (draft,) = LookupDrafter().propose([only], PassCosts(), lambda: False)
    assert draft.token_ids == tuple(QUOTED[3:7])
    assert len(draft.chances) == 4


def test_only_those_that_asked_have_drafts() -> None:
    backend = FakeBackend(copies, n_batch=64)
    with_drafts, without = sequence(8), sequence(0, index=1)
    run_request([with_drafts, without], speculative(LookupDrafter()), backend)
    assert without.speculation is not None
    assert without.speculation.n_drafted == 0
    assert with_drafts.speculation is not None
    assert with_drafts.speculation.n_drafted > 0
    assert with_drafts.new_token_ids.tolist() == without.new_token_ids.tolist()


def test_a_tracker_is_copied_with_its_limit() -> None:
    tracker = LookupTracker(np.array(QUOTED, np.int32), 2, 5)
    twin = tracker.copy()
    twin.accept(QUOTED[0])
    assert twin.n_drafted == 5
    assert twin.match != tracker.match


def test_letters_by_chance_change_nothing() -> None:
    """Twenty-six letters repeat often, and mean nothing."""
    backend, plain = FakeBackend(), FakeBackend()
    drafted, sampled = sequence(8, n_new=100), sequence(0, n_new=100)
    run_request([drafted], speculative(LookupDrafter()), backend)
    run_request([sampled], SamplingStrategy(), plain)
    assert drafted.new_token_ids.tolist() == sampled.new_token_ids.tolist()
    assert hashed_letter(QUOTED) == drafted.new_token_ids[0]
