"""What is left to compute, and a KV cache that is made anew for it between two passes."""

from __future__ import annotations

import numpy as np
import pytest

from localgen import Completion, KvBudgetError
from localgen.engine.backend import Work
from localgen.engine.sequence import Sequence
from localgen.engine.uniforms import UniformStream
from localgen.engine.work import work_of
from tests.fakes import FakeBackend, FakeModel, fake_model, reference_greedy


class NoSampler:
    """No test here samples."""

    needs_mask = False

    def sample(self, logits, sequence):
        raise AssertionError

    scores = distribution = sample


def sequence(n_prompt: int, n_new: int) -> Sequence:
    return Sequence(
        index=0,
        prompt_ids=np.zeros(n_prompt, np.int32),
        max_new_tokens=n_new,
        eos_token_ids=frozenset(),
        sampler=NoSampler(),
        uniform=UniformStream(0, 0),
    )


def test_work_by_hand() -> None:
    """One sequence waits with 10 of 30 tokens cached, one decodes: 20 tokens, then 60 steps."""
    waiting, running = sequence(30, 100), sequence(50, 22)
    running.accept(1)
    running.accept(2)
    assert work_of([(waiting, 10), (running, 51)], 16) == Work(20, 2, depth=41, n_steps=60)
    assert work_of([(running, 51)], 16) == Work(0, 1, depth=52, n_steps=20)
    assert work_of([(sequence(5, 7), 0)] * 8, 4) == Work(40, 4, depth=5, n_steps=14)


def test_deadlines_are_known() -> None:
    """What has a deadline must not wait for a measurement."""
    timed = sequence(5, 7)
    timed.deadline = 1.0
    assert work_of([(sequence(5, 7), 0), (timed, 0)], 16) == Work(10, 2, 5, 7, has_deadline=True)


def test_what_is_evaluated_has_no_work() -> None:
    """Its results are compared with others, so no measurement may decide about it."""
    assert work_of([(sequence(30, 10), 0), (sequence(30, 0), 0)], 16) is None


def adapting(**options) -> FakeModel:
    """A model that is faster with flash attention until a sequence has 30 tokens."""
    model = fake_model(**options)
    model.backend.adapts = True
    model.backend.wants = lambda work: "on" if work.depth < 30 else "off"
    return model


def complete(model: FakeModel, prompts: list[list[int]], n_new: int) -> list[Completion]:
    return model.complete(prompts, max_new_tokens=n_new, do_sample=False, eos_token_id=[])


def test_switch_while_sequences_run() -> None:
    """Tokens go on as they would have; stats name both settings."""
    model = adapting()
    prompts = [[*range(97, 97 + n)] for n in (5, 9)]
    done = complete(model, prompts, 120)
    assert [each.token_ids for each in done] == [reference_greedy(p, 120) for p in prompts]
    assert [each.stats.flash_attention for each in done] == ["on, then off"] * 2
    assert model.backend.count("reserve") == 2
    later = complete(model, [[*prompts[0], *done[0].token_ids]], 4)[0]
    assert later.stats.n_cached == len(prompts[0]) + 119
    assert later.stats.flash_attention == "off"


def test_switch_after_a_prompt() -> None:
    """A prompt is computed in one setting and continued in the other."""
    model = adapting()
    model.backend.wants = lambda work: "on" if work.n_prompt > 20 else "off"
    prompt = [*range(97, 122)]
    done = complete(model, [prompt], 5)[0]
    assert done.token_ids == reference_greedy(prompt, 5)
    assert done.stats.flash_attention == "on, then off"


def test_cached_tokens_are_no_work() -> None:
    """A chat's turn is a short prompt, however long the chat is."""
    model = adapting()
    prompt = [*range(97, 122)]
    done = complete(model, [prompt], 5)[0]
    model.backend.calls.clear()
    complete(model, [[*prompt, *done.token_ids, 99, 99]], 5)
    asked = [work for name, work in model.backend.calls if name == "suits"]
    assert asked[0] == Work(n_prompt=3, n_rows=1, depth=32, n_steps=5)


def test_switch_with_others_that_wait() -> None:
    """More sequences than places: all get their tokens, whenever the KV cache is made anew."""
    model = adapting(max_sequences=2)
    prompts = [[*range(97, 97 + n)] for n in (3, 28, 7, 35, 5)]
    done = complete(model, prompts, 40)
    assert [each.token_ids for each in done] == [reference_greedy(p, 40) for p in prompts]


def test_switch_back_and_forth_at_every_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects everything that a sequence has when the KV cache is made anew before each pass."""
    monkeypatch.setattr("localgen.engine.scheduler._PASSES_BETWEEN_LOOKS", 0)
    model = adapting()
    settings = iter(["on", "off"] * 1000)
    model.backend.wants = lambda _: next(settings)
    prompts = [[*range(97, 97 + n)] for n in (3, 20, 7)]
    done = complete(model, prompts, 20)
    assert [each.token_ids for each in done] == [reference_greedy(p, 20) for p in prompts]
    assert model.backend.count("reserve") > 15


def test_sequences_that_share_cells_stay() -> None:
    """What they share would be stored for each of them if it was moved."""
    model = adapting()
    prefix = [*range(97, 122)] * 12
    model.backend.wants = lambda work: "on" if work.depth < 310 else "off"
    done = complete(model, [[*prefix, 97 + i] for i in range(4)], 30)
    assert all(each.stats.kv_unified for each in done)
    assert {each.stats.flash_attention for each in done} == {"on"}
    assert model.backend.count("reserve") == 1


def test_score_is_without_flash_attention() -> None:
    """Scores are comparable, whatever ran before."""
    model = adapting()
    complete(model, [[97, 98]], 4)
    assert model.backend.flash_attention == "on"
    model.score([97, 98, 99])
    assert model.backend.flash_attention == "off"


def test_a_backend_that_does_not_adapt_is_not_asked() -> None:
    model = fake_model()
    done = complete(model, [[97, 98]], 40)[0]
    assert not model.backend.count("suits")
    assert done.stats.flash_attention == "off"


def test_budget_holds_while_switching() -> None:
    """A KV cache is made anew in its own size, not a larger one."""
    model = adapting(backend=FakeBackend(budget=200))
    assert complete(model, [[97] * 9], 120)[0].stats.flash_attention == "on, then off"
    with pytest.raises(KvBudgetError):
        complete(model, [[97] * 9], 220)
