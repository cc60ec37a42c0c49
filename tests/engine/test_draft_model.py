"""A second model drafts: fewer passes of the first one, and none of its texts changes."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from localgen.config import SamplingOptions
from localgen.engine.draft_gain import DraftGain
from localgen.engine.draft_model import Drafting, DraftModel, ModelDrafter
from localgen.engine.engine import Engine
from localgen.engine.pass_costs import PassCosts
from localgen.engine.request import Request
from localgen.engine.sampling.chain import Sampler
from localgen.engine.sequence import Sequence, Speculation
from localgen.engine.speculation import Draft, SpeculativeStrategy
from localgen.engine.uniforms import UniformStream
from localgen.errors import KvBudgetError
from tests.fakes import (
    EOS,
    N_VOCAB,
    FakeBackend,
    Script,
    hashed_letter,
    hashed_logits,
    reference_greedy,
)

PROMPT = list(b"a prompt of more tokens than one batch")


class Cheap(PassCosts):
    """A pass takes a second, whatever is in it, and however long a test takes."""

    def measured(self, n_tokens: int, seconds: float) -> None: ...

    def seconds(self, n_tokens: int) -> float:
        return 1.0


class AlwaysPays(DraftGain):
    """A draft model that costs nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.costs = Cheap()

    def drafted(self, seconds: float) -> None:
        self.pass_seconds = 0.0

    def spent(self, seconds: float) -> None: ...

    def caught_up(self, n_tokens: int, seconds: float) -> None: ...


def mostly(script: Script, every: int) -> Script:
    """A model that disagrees at each ``every``-th length."""
    return lambda tokens: script(tokens) if len(tokens) % every else 33


def sequence(index: int, n_new: int, prompt: list[int] | None = None, **options: Any) -> Sequence:
    sampler = Sampler(SamplingOptions(**options), N_VOCAB)
    prompt_ids = np.array(prompt or [65 + index, *PROMPT], np.int32)
    return Sequence(
        index=index,
        prompt_ids=prompt_ids,
        max_new_tokens=n_new,
        eos_token_ids=frozenset({EOS}),
        sampler=sampler,
        uniform=UniformStream(7, index),
        trackers=tuple(sampler.new_trackers(prompt_ids, n_new)),
        speculation=Speculation(),
    )


def drafting(is_drawn: bool = False, **options: Any) -> Drafting:
    given = {"most": 5, "schedule": "constant", "threshold": 0.0}
    given.update({name: options.pop(name) for name in tuple(given) if name in options})
    sampler = Sampler(SamplingOptions(**options), N_VOCAB)
    return Drafting(sampler=sampler, seed=3, is_drawn=is_drawn, **given)  # type: ignore[arg-type]


def draft_model(
    script: Script = hashed_letter, *, backend: FakeBackend | None = None, n_ctx: int = 512
) -> DraftModel:
    model = DraftModel(backend or FakeBackend(script), N_VOCAB, n_ctx=n_ctx, max_sequences=8)
    model.gain = AlwaysPays()
    return model


def run(
    sequences: list[Sequence],
    model: DraftModel,
    how: Drafting,
    guarded: Callable[[Callable[[], list[Draft]]], list[Draft]] = lambda call: call(),
    **options: Any,
) -> FakeBackend:
    backend = FakeBackend(**options)
    drafter = ModelDrafter(model, dict.fromkeys(sequences, how), guarded)
    run_request(
        backend, Request(sequences, strategy=SpeculativeStrategy(drafter, model.gain.costs))
    )
    return backend


def run_request(backend: FakeBackend, request: Request) -> None:
    engine = Engine(backend, 8)
    engine.submit(request)
    while not request.done:
        engine.step()
    if request.error is not None:
        raise request.error


@pytest.mark.parametrize("every", [1, 2, 3, 1000])
@pytest.mark.parametrize("n_sequences", [1, 3])
def test_greedy_texts_are_those_of_the_model_alone(every: int, n_sequences: int) -> None:
    sequences = [sequence(index, 20 + index) for index in range(n_sequences)]
    backend = run(sequences, draft_model(mostly(hashed_letter, every)), drafting())
    for index, done in enumerate(sequences):
        assert done.new_token_ids.tolist() == reference_greedy([65 + index, *PROMPT], 20 + index)
    if every == 1000 and n_sequences == 1:
        speculation = sequences[0].speculation
        assert speculation is not None
        assert speculation.n_accepted == speculation.n_drafted > 10
        assert backend.count("decode") < 12


def test_a_draft_pass_serves_all_sequences() -> None:
    """Three sequences that draft five tokens each take no more draft passes than one does."""
    one, three = FakeBackend(n_batch=64), FakeBackend(n_batch=64)
    run([sequence(0, 19)], draft_model(backend=one), drafting(), n_batch=64)
    run([sequence(i, 19) for i in range(3)], draft_model(backend=three), drafting(), n_batch=64)
    assert three.count("decode") < 1.5 * one.count("decode")


def test_passes_of_the_draft_model_are_counted_as_their_own_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They once counted as time for choosing tokens. Nothing but passes takes time here: 1 s one of
    the model, 0.25 s one of the draft model."""
    now = 0.0

    def passes(seconds: float) -> None:
        nonlocal now
        now += seconds

    clock = SimpleNamespace(perf_counter=lambda: now)
    for module in ("engine", "speculation", "draft_model"):
        monkeypatch.setattr(f"localgen.engine.{module}.time", clock)
    target, drafts = FakeBackend(n_batch=64), FakeBackend(n_batch=64)
    target.on_decode = lambda: passes(1.0)
    drafts.on_decode = lambda: passes(0.25)
    only, model = sequence(0, 19), draft_model(backend=drafts)
    drafter = ModelDrafter(model, {only: drafting()})
    request = Request([only], strategy=SpeculativeStrategy(drafter, model.gain.costs))
    run_request(target, request)
    timings = request.timings
    assert timings.prefill == 1.0
    assert timings.decode == target.count("decode") - 1
    assert timings.draft == 0.25 * drafts.count("decode") > 0
    assert timings.total == now


def test_the_draft_model_computes_each_token_once() -> None:
    """Where all is accepted, it computes the prompt, the drafts and the tokens after them."""
    backend = FakeBackend(n_batch=64)
    run([sequence(0, 25)], draft_model(backend=backend), drafting(), n_batch=64)
    assert backend.n_decoded <= len(PROMPT) + 1 + 25 + 4  # 4 of the probe


@pytest.mark.parametrize(
    "options",
    [
        {"do_sample": True, "temperature": 1.5, "top_k": 0},
        {"do_sample": True, "temperature": 1.5, "repetition_penalty": 1.3, "top_p": 0.9},
        {"do_sample": True, "temperature": 1.5, "mirostat": 2},
        {"frequency_penalty": 5.0, "no_repeat_ngram_size": 2},
    ],
)
def test_the_draws_of_a_seed_are_the_same_with_drafts_that_are_not_drawn(
    options: dict[str, Any],
) -> None:
    plain = [sequence(index, 20, **options) for index in range(2)]
    run_request(FakeBackend(), Request(plain))
    drafted = [sequence(index, 20, **options) for index in range(2)]
    run(drafted, draft_model(mostly(hashed_letter, 4)), drafting(**options))
    for one, other in zip(plain, drafted, strict=True):
        assert one.new_token_ids.tolist() == other.new_token_ids.tolist()
    assert sum(each.speculation.n_accepted for each in drafted if each.speculation) > 2


@pytest.mark.slow
@pytest.mark.parametrize("threshold", [0.0, 0.4])
def test_drawn_texts_are_distributed_as_those_of_the_model_alone(threshold: float) -> None:
    """Of 800 texts of four tokens with two choices each, all are as frequent as they are likely,
    within four standard deviations. The models disagree about every second token."""
    options: dict[str, Any] = {"do_sample": True, "temperature": 5.0, "top_k": 2}
    found: Counter[tuple[int, ...]] = Counter()
    for n in range(20):
        sequences = [sequence(index, 4, [65], **options) for index in range(40)]
        for each in sequences:
            each.uniform = UniformStream(1000 + n, each.index)
        how = replace(drafting(is_drawn=True, threshold=threshold, **options), seed=n)
        run(sequences, draft_model(mostly(hashed_letter, 2)), how)
        assert sum(each.speculation.n_drafted for each in sequences if each.speculation) > 20
        found.update(tuple(each.new_token_ids.tolist()) for each in sequences)
    expected = probabilities_of_texts([65], 4, options)
    assert set(found) <= set(expected)
    for text, probability in expected.items():
        deviation = (800 * probability * (1 - probability)) ** 0.5
        assert abs(found[text] - 800 * probability) < 4 * deviation + 1, text


def probabilities_of_texts(
    prompt: list[int], n: int, options: dict[str, Any]
) -> dict[tuple[int, ...], float]:
    """The probability of each text of ``n`` tokens that can follow, by the sampler's own chain."""
    sampler = Sampler(SamplingOptions(**options), N_VOCAB)
    texts: dict[tuple[int, ...], float] = {(): 1.0}
    for _ in range(n):
        longer = {}
        for text, probability in texts.items():
            tokens = [*prompt, *text]
            logits = hashed_logits(tokens, hashed_letter(tokens))
            p = sampler.distribution(logits, sequence(0, n, **options))
            for token_id, share in zip(p.ids.tolist(), p.probabilities.tolist(), strict=True):
                next_text = (*text, token_id)
                longer[next_text] = probability * share
        texts = longer
    return texts


def test_a_draft_ends_with_a_token_below_the_threshold() -> None:
    """The fake's best token has a probability of about 0.9."""
    done = sequence(0, 10)
    run([done], draft_model(backend=FakeBackend(n_batch=64)), drafting(threshold=0.99))
    assert done.speculation is not None
    assert 3 <= done.speculation.n_drafted < done.speculation.n_passes


def test_the_heuristic_lengthens_drafts_that_are_accepted_and_shortens_others() -> None:
    model = draft_model()
    how = drafting(most=2, schedule="heuristic")
    follower = model.follower(sequence(0, 50), how)
    assert follower is not None
    follower.verified(2, 2)
    assert follower.most == 4
    for expected in (3, 2, 1, 1):
        follower.verified(3, 1)
        assert follower.most == expected


class NeverPays(AlwaysPays):
    """A draft model that is slower than its target."""

    def drafted(self, seconds: float) -> None:
        self.pass_seconds = 2.0


def test_a_draft_model_that_never_drafts_has_a_reason() -> None:
    """Users once saw that nothing was drafted, and not why."""
    model = draft_model()
    model.gain = NeverPays()
    done = sequence(0, 20)
    run([done], model, drafting())
    assert done.speculation is not None
    assert done.speculation.none_because == (
        "drafts would take more time than they save: a pass of the draft model takes 2000.0 ms, "
        "one of this model 1000.0 ms, and 90% of the drafted tokens are expected to be accepted"
    )


def test_a_text_that_the_draft_model_never_read_has_a_reason() -> None:
    class ReadsNothing(AlwaysPays):
        def is_worth_starting(self, n_missing: int, n_left: int, n_sequences: int) -> bool:
            return False

    model = draft_model()
    model.gain = ReadsNothing()
    short, done = sequence(0, 2), sequence(0, 20)
    run([short], model, drafting())
    run([done], model, drafting())
    for each, reason in ((short, "the text ended before"), (done, "reading the text would take")):
        assert each.speculation is not None
        assert each.speculation.n_drafted == 0
        assert (each.speculation.none_because or "").startswith(reason)


def test_a_text_longer_than_the_draft_models_context_goes_on_without_drafts() -> None:
    done = sequence(0, 40)
    run([done], draft_model(n_ctx=len(PROMPT) + 20), drafting())
    assert done.new_token_ids.tolist() == reference_greedy([65, *PROMPT], 40)
    assert done.speculation is not None
    assert 0 < done.speculation.n_drafted < 25
    reason = f"the draft model's n_ctx={len(PROMPT) + 20} is too small for a text of"
    assert (done.speculation.off_because or "").startswith(reason)


def test_an_error_of_the_draft_model_ends_the_drafts_and_is_named() -> None:
    class Broken(FakeBackend):
        def reserve(self, *args: Any, **kwargs: Any) -> None:
            if args[1] > 20:  # not the probe's
                raise KvBudgetError("a sequence of 21 tokens does not fit")
            super().reserve(*args, **kwargs)

    done = sequence(0, 20)
    run([done], draft_model(backend=Broken()), drafting())
    assert done.new_token_ids.tolist() == reference_greedy([65, *PROMPT], 20)
    assert done.speculation is not None
    assert done.speculation.off_because == (
        "the draft model's KV cache has no room: a sequence of 21 tokens does not fit"
    )


def test_a_draft_model_that_is_gone_ends_the_call_with_its_error() -> None:
    def gone(call: Callable[[], list[Draft]]) -> list[Draft]:
        raise ValueError("gone")

    with pytest.raises(ValueError, match="gone"):
        run([sequence(0, 20)], draft_model(), drafting(), gone)


def test_a_cancelled_call_waits_for_no_further_pass_of_the_draft_model() -> None:
    """Regression: it went on to the end of the draft, or of the text that it caught up with."""
    backend, cancel, n_late = FakeBackend(), threading.Event(), 0

    def on_decode() -> None:
        nonlocal n_late
        n_late += cancel.is_set()
        if backend.count("decode") == 12:
            cancel.set()

    backend.on_decode = on_decode
    done = sequence(0, 40)
    engine = Engine(FakeBackend(), 8)
    model = draft_model(backend=backend)
    drafter = ModelDrafter(model, {done: drafting()})
    strategy = SpeculativeStrategy(drafter, model.gain.costs)
    engine.submit(request := Request([done], cancel, strategy))
    while not request.done:
        engine.step()
    assert (done.finish_reason, n_late) == ("cancelled", 0)


def test_later_calls_reuse_what_the_draft_model_computed() -> None:
    backend = FakeBackend(n_batch=64)
    model = draft_model(backend=backend)
    run([sequence(0, 10)], model, drafting(), n_batch=64)
    before = backend.n_decoded
    run([sequence(0, 10)], model, drafting(), n_batch=64)
    assert backend.n_decoded - before < len(PROMPT)
