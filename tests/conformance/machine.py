"""A state machine over a model's calls, whose failures shrink to the few calls that matter."""

from __future__ import annotations

import random

from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from localgen.generation.prefix import Prefix
from tests.conformance.calls import Calls, OpenStream, Prompt
from tests.conformance.invariants import (
    check_contents,
    check_idle,
    check_pinned,
    check_slots,
    is_idle,
    n_cache_resets,
)

LETTERS = range(97, 123)
_LONGEST = 540
TEXTS = [random.Random(seed).choices(LETTERS, k=_LONGEST) for seed in range(4)]
_MOST_STREAMS = 3
_MOST_SCORED = 80  # each token of the oracle is a forward pass


def _prompt(text: int, length: int, end: Prompt) -> Prompt:
    return TEXTS[text][:length] + end


# The first tokens of one of a few texts, often with an end of its own: prompts share beginnings.
ENDS = st.lists(st.sampled_from(LETTERS), max_size=5)
PROMPT = st.builds(
    _prompt,
    st.integers(0, len(TEXTS) - 1),
    st.one_of(*(st.integers(1, most) for most in (3, 20, 60, 200, _LONGEST))),
    ENDS,
)
PROMPTS = st.lists(PROMPT, min_size=1, max_size=5)
N_NEW = st.sampled_from([1, 2, 5, 12])
N_BEAMS = st.sampled_from([2, 3, 4])
N_PIECES = st.sampled_from([1, 3, 100])
PASS_NUMBER = st.integers(1, 6)


def _scored(prompts: list[Prompt]) -> list[Prompt]:
    """Prompts so short that all of their tokens may be scored."""
    return [prompt[:_MOST_SCORED] for prompt in prompts]


class CallMachine(RuleBasedStateMachine):
    """One model; after each call the invariants hold.

    longest: the most tokens that a prompt keeps.
    """

    streams = Bundle("streams")
    prefixes = Bundle("prefixes")
    dialogs = Bundle("dialogs")

    def __init__(self, calls: Calls, longest: int) -> None:
        super().__init__()
        self.calls, self.model, self.longest = calls, calls.model, longest
        self.n_resets = n_cache_resets(self.model)

    def cut(self, prompts: list[Prompt]) -> list[Prompt]:
        return [prompt[: self.longest] for prompt in prompts]

    # --- rules ---

    @initialize(target=dialogs)
    def nothing_said(self) -> Prompt:
        return [LETTERS[0]]

    @rule(target=dialogs, prompts=PROMPTS, n_new=N_NEW)
    def complete(self, prompts: list[Prompt], n_new: int) -> Prompt:
        prompts = self.cut(prompts)
        done = self.calls.complete(prompts, n_new)
        return [*prompts[0], *(done[0].token_ids if done else ())]

    @rule(target=dialogs, dialog=dialogs, more=ENDS, n_new=N_NEW)
    def reply(self, dialog: Prompt, more: Prompt, n_new: int) -> Prompt:
        """A prompt that goes on from an earlier prompt and its answer, as a chat does."""
        (prompt,) = self.cut([[*dialog, *more]])
        done = self.calls.complete([prompt], n_new)
        return [*prompt, *(done[0].token_ids if done else ())]

    @rule(prefix=prefixes, ends=st.lists(ENDS, min_size=1, max_size=3), n_new=N_NEW)
    def follow_a_prefix(self, prefix: Prefix, ends: list[Prompt], n_new: int) -> None:
        self.calls.complete(self.cut([[*prefix.token_ids.tolist(), *end] for end in ends]), n_new)

    @rule(prompts=st.lists(PROMPT, min_size=1, max_size=3), n_new=N_NEW)
    def complete_several_each(self, prompts: list[Prompt], n_new: int) -> None:
        self.calls.complete_several_each(self.cut(prompts), n_new)

    @rule(prompts=PROMPTS, n_new=N_NEW, seed=st.integers(0, 100))
    def complete_sampled(self, prompts: list[Prompt], n_new: int, seed: int) -> None:
        self.calls.complete_sampled(self.cut(prompts), n_new, seed)

    @rule(prompts=PROMPTS, n_new=N_NEW, n_beams=N_BEAMS, samples=st.booleans())
    def complete_beams(
        self, prompts: list[Prompt], n_new: int, n_beams: int, samples: bool
    ) -> None:
        self.calls.complete_beams(_scored(prompts), n_new, n_beams, samples)

    @rule(prompts=PROMPTS, n_new=N_NEW, n_beams=N_BEAMS, number=PASS_NUMBER)
    def beams_that_end(self, prompts: list[Prompt], n_new: int, n_beams: int, number: int) -> None:
        self.calls.beams_that_end(_scored(prompts), n_new, n_beams, number)

    @rule(prompts=PROMPTS, n_new=N_NEW, n_beams=N_BEAMS, number=PASS_NUMBER)
    def beams_that_are_lost(
        self, prompts: list[Prompt], n_new: int, n_beams: int, number: int
    ) -> None:
        self.calls.beams_that_are_lost(_scored(prompts), n_new, n_beams, number)

    @rule(prompts=PROMPTS, n_new=N_NEW, n_wanted=st.integers(1, 5))
    def complete_some(self, prompts: list[Prompt], n_new: int, n_wanted: int) -> None:
        self.calls.complete_some(self.cut(prompts), n_new, n_wanted)

    @rule(prompts=PROMPTS, n_new=N_NEW)
    def generate_padded(self, prompts: list[Prompt], n_new: int) -> None:
        self.calls.generate_padded(self.cut(prompts), n_new)

    @rule(prompt=PROMPT)
    def score(self, prompt: Prompt) -> None:
        self.calls.score(prompt[:_MOST_SCORED])

    @rule(target=streams, prompt=PROMPT, n_new=st.sampled_from([3, 12, 30]))
    def open_stream(self, prompt: Prompt, n_new: int) -> object:
        if len(self.calls.streams) == _MOST_STREAMS:
            return multiple()
        opened = self.calls.open_stream(prompt[: self.longest], n_new)
        return multiple() if opened is None else opened

    @rule(opened=streams, n_pieces=N_PIECES)
    def read_stream(self, opened: OpenStream, n_pieces: int) -> None:
        if opened.stream is not None:
            self.calls.read_stream(opened, n_pieces)

    @rule(opened=consumes(streams))
    def close_stream(self, opened: OpenStream) -> None:
        self.calls.close_stream(opened)

    @rule(opened=consumes(streams))
    def drop_stream(self, opened: OpenStream) -> None:
        self.calls.drop_stream(opened)

    @rule(target=prefixes, prompt=PROMPT)
    def prefill(self, prompt: Prompt) -> object:
        prefix = self.calls.prefill(prompt[: self.longest])
        return multiple() if prefix is None else prefix

    @rule(target=prefixes, prefix=prefixes)
    def extend(self, prefix: Prefix) -> object:
        longer = self.calls.extend(prefix, "and more")
        return multiple() if longer is None else longer

    @rule(prefix=consumes(prefixes))
    def release(self, prefix: Prefix) -> None:
        self.calls.release(prefix)

    @rule(prompts=PROMPTS, n_new=N_NEW, number=PASS_NUMBER)
    def cancelled(self, prompts: list[Prompt], n_new: int, number: int) -> None:
        self.calls.cancelled(self.cut(prompts), n_new, number)

    @rule(prompts=PROMPTS, n_new=N_NEW, number=PASS_NUMBER, loses=st.booleans())
    def stopped_pass(self, prompts: list[Prompt], n_new: int, number: int, loses: bool) -> None:
        self.calls.stopped_pass(self.cut(prompts), n_new, number, loses=loses)

    @rule(prompts=PROMPTS, n_new=N_NEW, number=PASS_NUMBER)
    def failed_pass(self, prompts: list[Prompt], n_new: int, number: int) -> None:
        self.calls.failed_pass(self.cut(prompts), n_new, number)

    @rule(prompts=PROMPTS, n_new=N_NEW, number=PASS_NUMBER)
    def broken_pass(self, prompts: list[Prompt], n_new: int, number: int) -> None:
        self.calls.broken_pass(self.cut(prompts), n_new, number)

    @rule(prompt=PROMPT, n_steps=st.integers(0, 4), makes_nan=st.booleans())
    def bad_processor(self, prompt: Prompt, n_steps: int, makes_nan: bool) -> None:
        self.calls.bad_processor(prompt[: self.longest], n_steps, makes_nan)

    @precondition(lambda self: bool(self.calls.streams or self.calls.prefixes))
    @rule()
    def end_all(self) -> None:
        """Once streams are closed and prefixes released, a call leaves an idle engine."""
        for opened in list(self.calls.streams):
            self.calls.close_stream(opened)
        for prefix in list(self.calls.prefixes):
            self.calls.release(prefix)
        self.calls.complete([[LETTERS[0]]], 1)
        check_idle(self.model)

    # --- invariants ---

    @invariant()
    def holds(self) -> None:
        check_slots(self.model)
        check_contents(self.model)
        if n_cache_resets(self.model) != self.n_resets:
            self.n_resets = n_cache_resets(self.model)
            self.calls.forget_lost_prefixes()
        check_pinned(self.model, self.calls.prefixes)
        assert all(prefix.is_cached for prefix in self.calls.prefixes)
        if not self.calls.streams and is_idle(self.model):
            check_idle(self.model)

    def teardown(self) -> None:
        self.model.close()
