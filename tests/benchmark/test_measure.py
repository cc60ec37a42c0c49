"""``localgen bench``: its cases, its figures, and that both sides do the same work."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import localgen
from localgen import BenchResult, BenchTest, DecodeError, LocalModel, ModelConfig
from localgen.benchmark.cases import Case, Limits, n_new_of, plan, token_ids
from localgen.benchmark.measure import INTERRUPTED, Runner
from localgen.benchmark.measuring import Spread
from localgen.benchmark.results import BenchMemory, BenchSetup
from localgen.cli.bench import _memory, _print
from localgen.llama.backend import LlamaBackend
from localgen.llama.baseline import Baseline
from models.make_tiny import make_gemma_swa, make_llama_bpe, make_mamba
from tests.cli.test_generate import ENVIRONMENT, assert_refused, localgen_command
from tests.conftest import CHILD_SECONDS
from tests.fakes import FakeBackend

ROOMY = Limits(n_ctx=4096, n_ctx_train=8192, max_sequences=32)
GREEDY: dict[str, Any] = {"eos_token_id": [], "do_sample": False}
KINDS: dict[str, Callable[[Path], None]] = {
    "llama": make_llama_bpe,
    "sliding window": make_gemma_swa,
    "recurrent": make_mamba,
}
SMALL: dict[str, Any] = {
    "prompt_lengths": [24],
    "new_tokens": 4,
    "batch_sizes": [1, 3],
    "depths": [0, 20],
    "n_rounds": 2,
}


# --- what is measured ---


def test_the_tests_without_options() -> None:
    """Without 32 sequences at a depth of 1,024, which take minutes."""
    found = [(case.name, case.n_rows) for case in plan(ROOMY)]
    assert found == [
        ("pp128", 1),
        ("pp512", 1),
        ("pp16 @ d512", 1),
        ("pp512 @ d1024", 1),
        ("tg128", 1),
        ("tg32", 8),
        ("tg16", 32),
        ("tg128 @ d1024", 1),
    ]
    assert not any(plan(ROOMY).values())


def test_every_batch_size_at_the_first_depth() -> None:
    cases = plan(ROOMY, prompt_lengths=[64], batch_sizes=[4, 2], depths=[100, 0], new_tokens=64)
    decodes = [(case.n_rows, case.n_cached) for case in cases if case.kind == "decode"]
    assert decodes == [(4, 100), (2, 100), (4, 0)]


@pytest.mark.parametrize(
    ("n_rows", "new_tokens", "expected"),
    [(1, 128, 128), (2, 128, 128), (8, 128, 32), (32, 128, 16), (32, 8, 8), (1, 1, 1)],
)
def test_new_tokens_of_several_rows(n_rows: int, new_tokens: int, expected: int) -> None:
    assert n_new_of(n_rows, new_tokens) == expected


def test_a_default_that_does_not_fit_is_left_out_with_the_reason() -> None:
    """A model of 600 tokens: pp512 comes to 513, the prefix to 529, the depth to 1,153."""
    found = plan(Limits(n_ctx=4096, n_ctx_train=600, max_sequences=8))
    left_out = {(case.name, case.n_rows): why for case, why in found.items() if why}
    assert left_out == {
        ("pp128 @ d1024", 1): "it needs 1153 tokens, but the model was trained on 600",
        ("tg16", 32): "it has 32 sequences, but max_sequences is 8",
        ("tg128 @ d1024", 1): "it needs 1153 tokens, but the model was trained on 600",
    }


def test_the_prefix_is_the_longest_prompt_that_fits() -> None:
    found = plan(Limits(n_ctx=300, n_ctx_train=8192, max_sequences=32))
    names = [case.name for case, why in found.items() if why is None]
    assert "pp16 @ d128" in names
    assert "pp512" not in names


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"prompt_lengths": [128, 600]}, ["pp600", "601", "n_ctx is 600"]),
        ({"depths": [500]}, ["tg128 @ d500", "629", "n_ctx is 600"]),
        ({"new_tokens": 600}, ["tg600", "601", "n_ctx is 600"]),
        ({"batch_sizes": [1, 33]}, ["33 sequences", "max_sequences is 32"]),
        ({"prompt_lengths": []}, ["prompt_lengths", "empty"]),
        ({"prompt_lengths": [0]}, ["prompt_lengths", "at least 1", "0"]),
        ({"prompt_lengths": ["128"]}, ["prompt_lengths", "integer", "'128'"]),
        ({"prompt_lengths": "128"}, ["prompt_lengths", "list", "'128'"]),
        ({"depths": [-1]}, ["depths", "at least 0", "-1"]),
        ({"batch_sizes": [0]}, ["batch_sizes", "at least 1"]),
        ({"batch_sizes": 8}, ["batch_sizes", "list", "8"]),
        ({"new_tokens": 1.5}, ["new_tokens", "1.5"]),
    ],
    ids=str,
)
def test_what_was_asked_for_and_cannot_be(options: dict[str, Any], parts: list[str]) -> None:
    """An explicit number is measured or refused, never skipped."""
    with pytest.raises(ValueError, match=r".") as caught:
        plan(Limits(n_ctx=600, n_ctx_train=8192, max_sequences=32), **options)
    assert all(part in str(caught.value) for part in parts)


def test_other_defaults_do_not_stand_in_the_way() -> None:
    """An explicit number of new tokens does not make a default depth an error."""
    found = plan(Limits(n_ctx=600, n_ctx_train=600, max_sequences=4), new_tokens=64)
    left_out = [case.name for case, why in found.items() if why]
    assert left_out == ["pp128 @ d1024", "tg16", "tg16", "tg64 @ d1024"]


def test_the_longest_prompt_that_fits_is_measured_at_each_depth() -> None:
    """A depth is measured even where only new tokens fit after it, not a prompt."""
    limits = Limits(n_ctx=1000, n_ctx_train=8192, max_sequences=32)
    found = plan(limits, prompt_lengths=[128, 256], depths=[0, 500, 800, 900], new_tokens=64)
    deep = {case.name: why for case, why in found.items() if case.n_cached >= 500}
    assert deep.pop("pp128 @ d900") == "it needs 1029 tokens, but n_ctx is 1000"
    assert deep == dict.fromkeys(
        ["pp256 @ d500", "pp128 @ d800", "tg64 @ d500", "tg64 @ d800", "tg64 @ d900"]
    )


def test_nothing_fits() -> None:
    with pytest.raises(ValueError, match="nothing can be measured: pp128: it needs 129 tokens"):
        plan(Limits(n_ctx=8, n_ctx_train=8192, max_sequences=32))


def test_tokens_are_the_same_everywhere_and_rows_share_none() -> None:
    """Sequences with a common prefix would share its computation."""
    case = Case(kind="decode", n_rows=200, n_cached=20, n_new=4)
    rows = token_ids(case, 300)
    assert rows == token_ids(case, 300)
    assert {len(row) for row in rows} == {21}
    assert len({row[0] for row in rows}) == 200
    assert all(0 <= token_id < 300 for row in rows for token_id in row)
    assert len(token_ids(case, 5)) == 200


# --- figures ---


def measured(case: Case, *rounds: tuple[float, float, float]) -> BenchTest:
    """A test with rounds of (localgen, llama.cpp, first token), in seconds."""
    test = BenchTest(case=case)
    for localgen_seconds, llama_cpp, ttft in rounds:
        test = test.with_round(localgen=localgen_seconds, llama_cpp=llama_cpp, ttft=ttft)
    return test


def test_figures_by_hand() -> None:
    """Speeds count the tokens of all sequences; ratios are per round, not of the medians."""
    eight = Case(kind="decode", n_rows=8, n_cached=100, n_new=32)
    test = measured(eight, (2.0, 1.0, 0.2), (1.0, 1.0, 0.1), (4.0, 3.0, 0.4))
    assert test.localgen_tps == Spread(128, 64, 256)
    assert test.llama_cpp_tps == Spread(256, 256 / 3, 256)
    assert test.ratio == Spread(0.75, 0.5, 1.0)
    assert test.ttft == Spread(0.2, 0.1, 0.4)
    prefill = measured(Case(kind="prefill", n_cached=512, n_prompt=16), (0.5, 0.25, 0.5))
    assert prefill.localgen_tps == Spread(32, 32, 32)
    assert BenchTest(case=eight).ratio is None


@pytest.fixture
def result() -> BenchResult:
    """Two prompts, a short one after the longer, and a test that was not measured."""
    setup = BenchSetup(
        file="m.gguf",
        file_bytes=10**6,
        architecture="llama",
        n_weights=10**6,
        level="Q8_0",
        bits_per_weight=8.0,
        n_threads=2,
        device="cpu",
        n_gpu_layers=0,
        flash_attention="off",
        kv_type="f16",
        n_batch=512,
        machine={"cpu": "a CPU"},
    )
    return BenchResult(
        setup=setup,
        load_seconds=0.5,
        memory=BenchMemory(
            peak_rss_bytes=300, before_bytes=100, estimated_ram_bytes=190, estimated_gpu_bytes=0
        ),
        tests=(
            measured(Case(kind="prefill", n_prompt=128), (1.0, 0.9, 0.95)),
            measured(Case(kind="prefill", n_prompt=512), (4.0, 3.6, 3.9)),
            measured(Case(kind="prefill", n_cached=512, n_prompt=16), (0.25, 0.2, 0.2)),
            measured(Case(kind="prefill", n_cached=1024, n_prompt=512), (5.0, 4.5, 4.9)),
            BenchTest(case=Case(kind="decode", n_new=128), not_measured="no room"),
        ),
    )


def test_what_an_interrupt_left_is_one_line(
    result: BenchResult, capsys: pytest.CaptureFixture[str]
) -> None:
    left = [Case(kind="decode", n_rows=n, n_new=16) for n in (1, 8)]
    more = tuple(BenchTest(case=case, not_measured=INTERRUPTED) for case in left)
    result.setup.machine.update(localgen="1", llama_cpp="2")
    _print(dataclasses.replace(result, tests=(*result.tests, *more)))
    printed = capsys.readouterr().out
    assert "not measured: tg128, 1 sequence: no room\n" in printed
    assert "interrupted; not measured: tg16, 1 sequence; tg16, 8 sequences\n" in printed
    assert printed.count("not measured") == 2


def test_first_tokens(result: BenchResult) -> None:
    """``cold`` is the longest prompt; ``cached`` is the one after it."""
    assert result.cold is result["pp512"]
    assert result.cached is result["pp16 @ d512"]
    with pytest.raises(KeyError, match="no test is called 'pp7'; the tests are pp128, pp512, "):
        result["pp7"]


def test_json_has_every_round(result: BenchResult) -> None:
    """One line with all rounds and the figures computed from them."""
    text = result.to_json()
    assert "\n" not in text
    data = json.loads(text)
    assert (data["schema"], data["setup"]["kv_type"], data["load_seconds"]) == (1, "f16", 0.5)
    first, *_, last = data["tests"]
    assert (first["name"], first["n_rows"], first["n_tokens"]) == ("pp128", 1, 128)
    assert first["localgen_seconds"] == [1.0]
    assert first["localgen_tps"] == {"median": 128, "low": 128, "high": 128}
    assert first["ratio"]["median"] == 0.9
    assert (last["not_measured"], last["localgen_seconds"], last["ratio"]) == ("no room", [], None)


def test_memory_of_a_process_that_had_held_more(result: BenchResult) -> None:
    """A peak from before the load says nothing about the model and is not reported."""
    assert _memory(result.memory) == (
        "peak 300 B: 100 B before loading, 200 B for the model (estimated: 190 B)"
    )
    older = BenchMemory(
        peak_rss_bytes=None, before_bytes=100, estimated_ram_bytes=190, estimated_gpu_bytes=7
    )
    assert _memory(older) == (
        "no more than the 100 B in use before loading (estimated: 190 B and 7 B on the GPU)"
    )


# --- the runs ---


class FakeBaseline:
    """Stands for llama.cpp alone, and empties the cache as it does.

    interrupted_at: the number of the run in which Ctrl-C arrives.
    """

    def __init__(self, backend: FakeBackend, interrupted_at: int = 0) -> None:
        self._backend = backend
        self._interrupted_at = interrupted_at
        self.filled: list[tuple[list[list[int]], list[list[int]], int]] = []
        self.n_runs = 0

    def fill(self, prompts: list[list[int]], new: list[list[int]], n_cached: int = 0) -> int:
        self.filled.append((prompts, new, n_cached))
        return len(self.filled) - 1

    def seconds(self, passes: int) -> float:
        self.n_runs += 1
        if self.n_runs == self._interrupted_at:
            raise KeyboardInterrupt
        self._backend.calls.append(("baseline", passes))
        self._backend.lose_all()
        return 0.5


DECODE = Case(kind="decode", n_rows=2, n_cached=20, n_new=4)
PREFILL = Case(kind="prefill", n_prompt=24)


def runner(
    backend: FakeBackend, *cases: Case, interrupted_at: int = 0, **config: Any
) -> tuple[Runner, FakeBaseline]:
    """A runner of two rounds on a fake backend, and its baseline."""
    baseline = FakeBaseline(backend, interrupted_at)
    options = ModelConfig(n_ctx=512, max_sequences=4, **config)
    return Runner(backend, baseline, options, 2, dict.fromkeys(cases)), baseline


def test_baseline_and_localgen_run_by_turns() -> None:
    """Each round computes the cached tokens before the clock starts: 2 x 20, and then 2 x 4."""
    backend = FakeBackend()
    run, _ = runner(backend, DECODE)
    run.run()
    told = [name for name, _ in backend.calls if name in ("release", "decode", "baseline")]
    turns = [name for name, _ in groupby(told)]
    assert turns == ["release", "decode", "baseline", "decode", "baseline", "decode"]
    assert backend.n_decoded == 3 * 2 * (20 + 4)
    assert run.tests[DECODE].llama_cpp_seconds == (0.5, 0.5)
    assert len(run.tests[DECODE].localgen_seconds) == len(run.tests[DECODE].ttft_seconds) == 2


def test_the_baseline_goes_through_what_localgen_chose() -> None:
    """In a mixture of experts, other tokens use other weights."""
    backend = FakeBackend()
    run, baseline = runner(backend, DECODE)
    run.run()
    ((prompts, new, n_cached),) = baseline.filled
    assert n_cached == 20
    assert prompts == token_ids(DECODE, backend.n_vocab)
    model = LocalModel(FakeBackend(), ModelConfig(n_ctx=512))
    assert new == [row.token_ids for row in model.complete(prompts, max_new_tokens=4, **GREEDY)]


def test_each_case_has_a_context_of_its_own_size() -> None:
    """Otherwise 32 sequences after a deep one would each reserve as many tokens as that."""
    backend = FakeBackend()
    deep = Case(kind="decode", n_cached=200, n_new=4)
    run, _ = runner(backend, deep, DECODE)
    run.run()
    assert max(n_tokens for n_slots, n_tokens in run.contexts if n_slots > 1) < 300
    sizes = [size for name, size in backend.calls if name == "reserve"]
    assert sizes[-1][1] < 200
    assert backend.count("release") == 2


def test_a_state_that_cannot_be_truncated_is_extended() -> None:
    """A recurrent model's depth is measured: the prompt continues where the cached tokens end."""
    run, _ = runner(FakeBackend(can_truncate=False), DECODE, PREFILL)
    run.run()
    assert [test.not_measured for test in run.tests.values()] == [None, None]


def test_what_cannot_be_cached_is_reported() -> None:
    """deterministic=True recomputes every prompt, so there is no speed with a cache."""
    run, _ = runner(FakeBackend(), DECODE, PREFILL, deterministic=True)
    run.run()
    why = run.tests[DECODE].not_measured or ""
    assert why.startswith("0 tokens were cached instead of 20: deterministic=True")
    assert run.tests[DECODE].localgen_seconds == ()
    assert run.tests[PREFILL].not_measured is None


def test_rows_that_do_not_fit_together() -> None:
    """They would run as two smaller batches."""
    run, _ = runner(FakeBackend(budget=40), DECODE, PREFILL)
    run.run()
    reason = "only 1 of 2 sequences of that length fit the KV budget"
    assert run.tests[DECODE].not_measured == reason
    assert len(run.tests[PREFILL].localgen_seconds) == 2


def test_ctrl_c_keeps_the_rounds_so_far() -> None:
    """The fourth run of the baseline is the second round of the second case."""
    third = Case(kind="decode", n_new=4)
    run, _ = runner(FakeBackend(), PREFILL, DECODE, third, interrupted_at=4)
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert [len(test.localgen_seconds) for test in run.tests.values()] == [2, 1, 0]
    assert run.tests[DECODE].not_measured is None
    assert run.tests[third].not_measured == INTERRUPTED


def test_progress_counts_every_round() -> None:
    said: list[tuple[int, int, str]] = []
    backend = FakeBackend()
    config = ModelConfig(n_ctx=512, max_sequences=4)
    cases = dict.fromkeys([DECODE, PREFILL])
    Runner(backend, FakeBaseline(backend), config, 2, cases, lambda *step: said.append(step)).run()
    assert [n_done for n_done, _, _ in said] == [0, 1, 2, 3, 4, 5]
    assert said[0] == (0, 6, "tg4 @ d20, 2 sequences")
    assert said[-1] == (5, 6, "pp24")


# --- llama.cpp alone ---


@pytest.fixture
def backend(tiny_bpe_path: Path) -> Iterator[LlamaBackend]:
    """A tiny llama, sixteen tokens a pass."""
    config = ModelConfig(n_ctx=512, n_batch=16, max_sequences=4, n_threads=1)
    backend = LlamaBackend(tiny_bpe_path, config)
    yield backend
    backend.close()


Pass = tuple[list[int], list[int], list[int], list[int]]


def as_lists(batch: Any) -> Pass:
    """A llama_batch's tokens, positions, sequences and outputs."""
    n = batch.n_tokens
    return batch.token[:n], batch.pos[:n], [batch.seq_id[i][0] for i in range(n)], batch.logits[:n]


@pytest.mark.parametrize(
    "case",
    [
        Case(kind="prefill", n_prompt=40),
        Case(kind="prefill", n_cached=40, n_prompt=16),
        Case(kind="decode", n_new=5),
        Case(kind="decode", n_rows=4, n_cached=20, n_new=5),
    ],
    ids=lambda case: case.name,
)
def test_the_baseline_runs_the_passes_of_localgen(case: Case, backend: LlamaBackend) -> None:
    """Protects the ratio, which would compare two different things otherwise."""
    seen: list[Any] = []
    decode = backend.decode

    def note(batch: Any, *rest: Any) -> Any:
        wants_logits = np.isin(np.arange(len(batch.token_ids)), batch.output_rows).astype(int)
        arrays = (batch.token_ids, batch.positions, batch.seq_ids, wants_logits)
        seen.append(tuple(array.tolist() for array in arrays))
        return decode(batch, *rest)

    backend.decode = note  # type: ignore[method-assign, assignment]
    model = LocalModel(backend, backend.config)
    prompts = token_ids(case, backend.n_vocab)
    if case.n_cached:
        cached = [row[: case.n_cached] for row in prompts]
        model.complete(cached, max_new_tokens=1, **GREEDY)
    seen.clear()
    done = model.complete(prompts, max_new_tokens=case.n_new, **GREEDY)
    passes = Baseline(backend).fill(prompts, [row.token_ids for row in done], case.n_cached)
    assert [as_lists(each) for each in passes.timed] == seen
    assert sum(each.n_tokens for each in passes.before) == case.n_rows * case.n_cached


def test_the_baseline_leaves_nothing_behind(backend: LlamaBackend) -> None:
    """localgen does not reuse what the baseline computed."""
    model = LocalModel(backend, backend.config)
    prompt = token_ids(PREFILL, backend.n_vocab)
    first = model.complete(prompt, max_new_tokens=4, **GREEDY)[0]
    again = model.complete(prompt, max_new_tokens=4, **GREEDY)[0]
    assert again.stats.n_cached > 0
    baseline = Baseline(backend)
    other = [[(token_id + 1) % backend.n_vocab for token_id in prompt[0]]]
    assert baseline.seconds(baseline.fill(other, [first.token_ids])) > 0
    after = model.complete(prompt, max_new_tokens=4, **GREEDY)[0]
    assert after.stats.n_cached == 0
    assert after.token_ids == first.token_ids


def test_a_pass_that_fails_is_an_error(backend: LlamaBackend) -> None:
    """Otherwise an invalid token would be timed as if it had been computed."""
    backend.reserve(1, 64)
    baseline = Baseline(backend)
    with pytest.raises(DecodeError, match="returned -1"):
        baseline.seconds(baseline.fill([[backend.n_vocab]], [[1]]))


def test_a_context_is_there_before_it_is_lent(backend: LlamaBackend) -> None:
    with pytest.raises(DecodeError, match="no context yet"):
        Baseline(backend).seconds(Baseline(backend).fill([[1]], [[1]]))


def test_release_is_a_fresh_start(backend: LlamaBackend) -> None:
    """Pending copies are dropped with the context."""
    backend.reserve(2, 64)
    backend.kv_copy(0, 1)
    backend.release()
    assert (backend.n_slots, backend.n_ctx_seq) == (0, 0)
    backend.reserve(2, 64)
    model = LocalModel(backend, backend.config)
    backend.release()
    assert len(model.complete([[40, 41]], max_new_tokens=3, **GREEDY)[0].token_ids) == 3


# --- the whole of it, on tiny models ---


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_memory(kind: str, tmp_path: Path) -> None:
    """A sliding window and a recurrent state are measured at a depth and after a prefix too."""
    path = tmp_path / "tiny.gguf"
    KINDS[kind](path)
    found = localgen.bench(path, n_ctx=256, n_threads=1, device="cpu", **SMALL)
    names = [(test.case.name, test.case.n_rows) for test in found.tests]
    prefills = [("pp24", 1), ("pp16 @ d24", 1), ("pp24 @ d20", 1)]
    expected = [*prefills, ("tg4", 1), ("tg4", 3), ("tg4 @ d20", 1)]
    assert names == expected
    assert [test.not_measured for test in found.tests] == [None] * 6
    assert all(len(test.llama_cpp_seconds) == 2 for test in found.tests)
    assert found.setup.n_threads == 1
    assert found.setup.device == "cpu"
    assert found.memory.estimated_ram_bytes > 0
    assert found.load_seconds > 0


def test_unknown_option_is_refused(tiny_bpe_path: Path) -> None:
    with pytest.raises(TypeError, match="n_thread"):
        localgen.bench(tiny_bpe_path, n_thread=1)


def bench(*args: object) -> subprocess.CompletedProcess[str]:
    small = ["--prompt-lengths", "24,8", "--new-tokens", "4", "--batch-sizes", "1,3"]
    rest = ["--depths", "0,20", "--rounds", "2", "--n-threads", "1"]
    return localgen_command("bench", *args, *small, *rest)


def test_command(tiny_bpe_path: Path) -> None:
    """The settings, a line for each test, and nothing on a stderr that is not a terminal."""
    done = bench(tiny_bpe_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("model        tiny-bpe.gguf: llama, ")
    assert any("1 thread" in line for line in lines)
    (row,) = [line.split() for line in lines if line.startswith("tg4 @ d20")]
    assert row[3] == "1"
    assert sum(line.startswith("tg4  ") for line in lines) == 2
    assert any("after a prompt of 24 tokens, none cached" in line for line in lines)
    assert any("after 16 more tokens, 24 cached" in line for line in lines)


def test_command_as_json(tiny_bpe_path: Path) -> None:
    """One object, without paths of this machine."""
    done = bench(tiny_bpe_path, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert str(tiny_bpe_path.parent) not in done.stdout
    data = json.loads(done.stdout)
    assert data["setup"]["file"] == "tiny-bpe.gguf"
    assert {len(test["localgen_seconds"]) for test in data["tests"]} == {2}


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["--prompt-lengths", "12,x"], ["--prompt-lengths", "'12,x'"]),
        (["--prompt-lengths", "0"], ["--prompt-lengths", "at least 1"]),
        (["--prompt-lengths", "9000"], ["pp9000", "trained on 512"]),
        (["--batch-sizes", "33"], ["33 sequences", "32"]),
        (["--batch-sizes", "3", "--max-sequences", "2"], ["3 sequences", "2"]),
        (["--depths", "300", "--n-ctx", "400"], ["tg128 @ d300", "429", "--n-ctx is 400"]),
        (["--rounds", "0"], ["rounds", "at least 1"]),
        (["--kv-type", "f64"], ["--kv-type", "'f64'"]),
    ],
    ids=" ".join,
)
def test_wrong_usage(args: list[str], parts: list[str], tiny_bpe_path: Path) -> None:
    """Reported before anything runs, with the options' names."""
    assert_refused(localgen_command("bench", tiny_bpe_path, *args), 2, *parts)


CTRL_C = """
import signal, sys
from localgen.llama.baseline import Baseline
seconds, numbers = Baseline.seconds, iter(range(99))
def interrupted(self, passes):
    if next(numbers) == 3:
        signal.raise_signal(signal.SIGINT)
    return seconds(self, passes)
Baseline.seconds = interrupted
from localgen.cli import main; main()
"""


def test_ctrl_c_prints_what_there_is(tiny_bpe_path: Path) -> None:
    """Exit code 130, and a complete JSON object of the finished rounds."""
    args = ["bench", tiny_bpe_path, "--rounds", "2", "--n-threads", "1", "--json"]
    done = subprocess.run(
        [sys.executable, "-c", CTRL_C, *map(str, args)],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=CHILD_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (130, "")
    tests = json.loads(done.stdout)["tests"]
    rounds = [len(test["localgen_seconds"]) for test in tests]
    assert rounds[0] == 2
    assert 1 in rounds
    assert sum(rounds) == 3
