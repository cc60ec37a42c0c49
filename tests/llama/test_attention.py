"""Which setting of flash attention is chosen by measured seconds; all numbers are made up."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from localgen import BackendError, LocalModel, ModelConfig
from localgen.engine.backend import PassStopped, Work
from localgen.llama.attention import AttentionTimes, PassSeconds, choose
from localgen.llama.attention_choice import AttentionChoice
from localgen.llama.attention_probe import Measured, depths_within
from localgen.llama.backend import FLASH_ATTENTION_TYPES, LlamaBackend
from localgen.llama.library import llama

# A step takes 10 ms at depth 0 without and 8 ms with flash attention, and rises by 2 and 6 ms per
# 1,000 tokens: both are equal at depth 500. A token of a prompt takes 1.2 and 1 ms.
TIMES = AttentionTimes(
    off=PassSeconds((0, 1000), (0.010, 0.012), 0.0012),
    on=PassSeconds((0, 1000), (0.008, 0.014), 0.0010),
)
SWITCH = 0.05


def chosen(work: Work, current: str | None = None, switch: float = SWITCH) -> tuple[str, bool]:
    choice = choose(TIMES, work, current, switch)
    return choice.setting, choice.keeps


@pytest.mark.parametrize(
    ("depth", "setting"), [(0, "on"), (400, "on"), (600, "off"), (1500, "off"), (9000, "off")]
)
def test_short_contexts_with_it_and_long_ones_without(depth: int, setting: str) -> None:
    """The crossing is where the measured lines cross, also beyond the deepest measurement."""
    assert chosen(Work(0, 1, depth, 10)) == (setting, True)


def test_seconds_between_and_beyond_the_measured_depths() -> None:
    """Between two depths and after the last the seconds rise evenly; 16 shares make the sum."""
    assert TIMES.off.of_steps(500, 1).sum() == pytest.approx(0.011, rel=1e-3)
    assert TIMES.off.of_steps(3000, 1).sum() == pytest.approx(0.016, rel=1e-3)
    assert TIMES.on.of_steps(0, 1000).sum() == pytest.approx(1000 * 0.011, rel=1e-3)


def test_a_prompt_may_be_computed_in_the_other_setting() -> None:
    """1,500 tokens are 0.3 s faster with it; then 1,000 steps without it pay for the switch."""
    prompt = Work(1500, 1, 1500, 1000)
    assert chosen(prompt) == ("on", True)
    assert chosen(Work(0, 1, 1500, 1000), "on") == ("off", False)


def test_a_switch_must_pay_twice_for_itself() -> None:
    """At depth 1,000 a step gains 2 ms and more: 25 pay 50 ms; twice that must be left."""
    assert chosen(Work(0, 1, 1000, 40), "on")[1]
    assert not chosen(Work(0, 1, 1000, 60), "on")[1]
    assert not chosen(Work(0, 4, 1000, 20), "on")[1]


def test_many_short_calls_end_in_the_faster_setting() -> None:
    """At depth 1,000 a step loses 2 ms: 10 steps a call never repay a switch, the tenth call's
    loss does. A pass of a prompt, which gained, is counted as well."""
    choice = AttentionChoice("off", adapts=True)
    choice.measure(lambda: TIMES)
    call = Work(0, 1, 1000, 10)
    n_calls = 0
    while choice.suits(call, "on", SWITCH):
        n_calls += 1
        for _ in range(10):
            choice.ran(0, 1, 1000)
    assert n_calls == 4  # 4 x 20 ms, and 20 ms to gain, are twice the 50 ms
    choice.made()
    assert choice.suits(call, "on", SWITCH)
    for _ in range(100):
        choice.ran(500, 1, 1000)
    assert choice.suits(call, "on", SWITCH)


def test_no_switch_before_it_is_faster() -> None:
    """Work that will be long starts with what is faster now."""
    assert chosen(Work(0, 1, 10, 5000), "on") == ("on", True)
    assert chosen(Work(0, 1, 600, 5000), "on") == ("off", False)


def test_nothing_left_keeps_everything() -> None:
    for current in ("on", "off", None):
        assert chosen(Work(0, 1, 0, 0), current)[1]


@pytest.mark.parametrize("number", [math.nan, math.inf, 0.0, -1.0, 1e9])
def test_absurd_seconds_are_refused(number: float) -> None:
    """A clock that stood still, or a machine that slept, must decide nothing."""
    for step, prefill in (((number, 0.01), 0.001), ((0.01, number), 0.001), ((0.01, 0.01), number)):
        with pytest.raises(ValueError, match=r"seconds|differ"):
            AttentionTimes(off=PassSeconds((0, 1000), step, prefill), on=TIMES.on)
    with pytest.raises(ValueError, match="rise"):
        PassSeconds((9, 9), (0.1, 0.1), 0.1)
    with pytest.raises(ValueError, match="measured"):
        PassSeconds((), (), 0.1)


def test_data_of_times() -> None:
    """What is stored comes back; anything else is refused, whatever is wrong with it."""
    assert AttentionTimes.from_data(TIMES.as_data()) == TIMES
    good: dict[str, Any] = TIMES.as_data()
    for bad in (
        {},
        {**good, "depths": "x"},
        {**good, "off": None},
        {**good, "on": {"step": [1, 2], "prefill": "1"}},
        {**good, "on": {"step": [0.01, math.nan], "prefill": 0.001}},
        {**good, "on": {"step": [True, 0.01], "prefill": 0.001}},
        {**good, "on": {"step": [10**400, 0.01], "prefill": 0.001}},
        {**good, "depths": [0, 10**400]},
    ):
        with pytest.raises(ValueError, match=r"attention|seconds|depths"):
            AttentionTimes.from_data(bad)


def test_depths_fit_the_context() -> None:
    assert depths_within(64) == ()
    assert depths_within(128) == (64,)
    assert depths_within(256) == (128,)
    assert depths_within(1024) == (128, 384)
    assert depths_within(32768) == (128, 384, 1408)


WORTH = Work(200, 1, 200, 100)


def test_work_that_is_short_is_not_measured_for() -> None:
    choice = AttentionChoice("off", adapts=True)
    assert not choice.is_unmeasured_for(Work(8, 1, 8, 16))
    assert not choice.is_unmeasured_for(None)
    assert not choice.is_unmeasured_for(replace(WORTH, has_deadline=True))
    assert choice.is_unmeasured_for(WORTH)
    assert not AttentionChoice("off", adapts=False).is_unmeasured_for(WORTH)


def test_many_short_calls_are_measured_for_in_the_end() -> None:
    choice = AttentionChoice("off", adapts=True)
    short = Work(8, 1, 8, 16)
    for _ in range(12):
        choice.ran(7, 1, 8)
    assert not choice.is_unmeasured_for(short)
    choice.ran(7, 1, 8)
    assert choice.is_unmeasured_for(short)


@pytest.mark.parametrize("error", [BackendError("no"), ValueError("absurd")])
def test_a_failed_measurement_leaves_it_off(error: Exception) -> None:
    choice = AttentionChoice("off", adapts=True)

    def fail() -> AttentionTimes | None:
        raise error

    choice.measure(fail)
    assert not choice.is_unmeasured_for(WORTH)
    assert choice.suits(WORTH, None, SWITCH)
    assert choice.next == "off"


@pytest.mark.parametrize("error", [PassStopped, KeyboardInterrupt])
def test_a_stopped_measurement_is_made_again(error: type[BaseException]) -> None:
    choice = AttentionChoice("off", adapts=True)

    def stop() -> AttentionTimes | None:
        raise error

    with pytest.raises(error):
        choice.measure(stop)
    assert choice.is_unmeasured_for(WORTH)


def test_a_context_of_its_own_has_a_choice_of_its_own_from_the_same_measurement() -> None:
    """A draft model's calls once chose for the contexts of all others that share its weights."""
    choice = AttentionChoice("off", adapts=True)
    choice.measure(lambda: TIMES)
    other = choice.for_own_context()
    assert other.suits(WORTH, None, SWITCH)
    assert (other.next, choice.next) == ("on", "off")
    other.stay("off", BackendError("no"))
    assert choice.adapts
    assert choice.obstacle is None
    assert other.for_own_context().obstacle is not None


def test_what_is_compared_does_not_depend_on_measurements() -> None:
    choice = AttentionChoice("off", adapts=True)
    choice.measure(lambda: TIMES)
    assert choice.suits(WORTH, None, SWITCH)
    assert choice.next == "on"
    assert not choice.suits(None, "on", SWITCH)
    assert choice.next == "off"
    assert choice.suits(None, "off", SWITCH)


@pytest.mark.slow
def test_measured_times_are_kept(
    tiny_bpe_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model is measured once; a call follows what was kept, and may change in its middle."""
    monkeypatch.setenv("LOCALGEN_PROFILES", str(tmp_path))
    monkeypatch.setattr("localgen.llama.backend.LEAST_WEIGHTS", 0)
    n_measured = 0

    def measured(self: LlamaBackend, should_stop: object) -> Measured:
        nonlocal n_measured
        n_measured += 1
        return Measured(CROSSING, is_steady=True)

    monkeypatch.setattr(LlamaBackend, "_measured_attention", measured)
    options: dict[str, Any] = {"max_new_tokens": 200, "do_sample": False, "eos_token_id": []}
    for _ in range(2):
        with LocalModel.from_pretrained(tiny_bpe_path, n_ctx=512, n_threads=1) as model:
            done = model.complete([[40, 60, 70]], **options)[0]
        assert done.stats.flash_attention == "on, then off"
    assert n_measured == 1


# Faster with it by 1 s a step until depth 100, then slower: more than making a context takes.
CROSSING = AttentionTimes(
    off=PassSeconds((0, 200), (2.0, 2.0), 0.1), on=PassSeconds((0, 200), (1.0, 3.0), 0.1)
)


@pytest.mark.slow
@pytest.mark.parametrize("refused", ["on", "off"])
def test_a_call_goes_on_where_no_context_can_be_made_with_the_faster_setting(
    refused: str, tiny_bpe_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a call once ended with an error. What it had computed is kept, and its text goes on."""
    monkeypatch.setattr("localgen.llama.backend.LEAST_WEIGHTS", 0)
    options: dict[str, Any] = {"max_new_tokens": 150, "do_sample": False, "eos_token_id": []}
    kept = "off" if refused == "on" else "on"
    config: dict[str, Any] = {"n_ctx": 512, "n_threads": 1}
    with LocalModel.from_pretrained(tiny_bpe_path, **config, flash_attention=kept) as model:
        expected = model.complete([[40, 60, 70]], **options)[0]
        assert expected.stats.attention_kept_because is None
    make, n_asked = llama().llama_init_from_model, 0

    def make_or_refuse(handle: Any, params: Any) -> Any:
        nonlocal n_asked
        if params.flash_attn_type != FLASH_ATTENTION_TYPES[refused]:
            return make(handle, params)
        n_asked += 1
        return None

    with LocalModel.from_pretrained(tiny_bpe_path, **config) as model:
        model._backend._attention.times = CROSSING  # type: ignore[attr-defined]
        monkeypatch.setattr(llama(), "llama_init_from_model", make_or_refuse)
        done, later = (model.complete([[40, 60, 70]], **options)[0] for _ in range(2))
    assert done.token_ids == expected.token_ids
    reason = f"no context could be made with flash attention {refused}: llama.cpp cannot make a"
    for each in (done, later):
        assert each.stats.flash_attention == kept
        assert (each.stats.attention_kept_because or "").startswith(reason)
    assert n_asked == 1


@pytest.mark.slow
def test_passes_are_measured_or_refused(tiny_bpe_path: Path) -> None:
    """A model's passes are measured in small contexts, which are gone afterwards."""
    with closing(LlamaBackend(tiny_bpe_path, ModelConfig(n_ctx=512, n_threads=1))) as backend:
        # On a busy machine one of such short passes may take very long.
        with suppress(ValueError):
            found = backend._measured_attention(lambda: False)
            assert found is not None
            assert found.times.on.depths == (128,)
        with pytest.raises(PassStopped):
            backend._measured_attention(lambda: True)
        assert backend.n_slots == 0


@pytest.mark.slow
@pytest.mark.parametrize(("n_ctx", "n_tokens"), [(512, 192), (1000, 448), (40_000, 1472)])
def test_contexts_for_measuring_are_no_larger_than_needed(
    n_ctx: int, n_tokens: int, tiny_bpe_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both together hold what one sequence of n_ctx tokens does, or the deepest measured tokens:
    with a large n_ctx they once took hundreds of megabytes."""
    sizes: list[int] = []

    @contextmanager
    def refused(self: LlamaBackend, n_tokens: int, flash_attention: str) -> Iterator[None]:
        sizes.append(n_tokens)
        raise BackendError("that is enough")
        yield

    monkeypatch.setattr(LlamaBackend, "_probe_context", refused)
    backend = LlamaBackend(tiny_bpe_path, ModelConfig(n_ctx=n_ctx, n_threads=1))
    with closing(backend), pytest.raises(BackendError, match="enough"):
        backend._measured_attention(None)
    assert sizes == [n_tokens]


@pytest.mark.slow
def test_a_measurement_that_takes_too_long_ends(
    tiny_bpe_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects the first call with a large model, or on a busy machine, from waiting for long."""
    monkeypatch.setattr("localgen.llama.attention_probe._MOST_SECONDS", -1.0)
    backend = LlamaBackend(tiny_bpe_path, ModelConfig(n_ctx=512, n_threads=1))
    with closing(backend), pytest.raises(ValueError, match="take longer"):
        backend._measured_attention(None)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"flash_attention": "off"},
        {"flash_attention": "on"},
        {"deterministic": True},
        {"kv_type": "f32"},
        {"kv_type": "q8_0"},
    ],
    ids=str,
)
def test_what_fixes_the_setting(
    options: dict[str, Any], tiny_bpe_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A setting that was asked for stays; bits and an exact KV cache are worth more than speed."""
    monkeypatch.setattr("localgen.llama.backend.LEAST_WEIGHTS", 0)
    with closing(LlamaBackend(tiny_bpe_path, ModelConfig(n_ctx=512, n_threads=1))) as backend:
        assert backend.adapts
    with closing(LlamaBackend(tiny_bpe_path, ModelConfig(n_ctx=512, **options))) as backend:
        assert not backend.adapts


@pytest.mark.slow
def test_no_measurement_beyond_the_budget(tiny_bpe_path: Path) -> None:
    config = ModelConfig(n_ctx=512, n_threads=1, kv_budget=2**14)
    with closing(LlamaBackend(tiny_bpe_path, config)) as backend:
        assert backend._measured_attention(None) is None
