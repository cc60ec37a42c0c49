"""bench(): loads a model and runs each case, alternating localgen and llama.cpp alone."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from typing import TYPE_CHECKING, Any, Protocol

from localgen._util.checks import check_int
from localgen._util.system import peak_memory
from localgen.benchmark.cases import Case, Limits, plan, token_ids
from localgen.benchmark.measuring import surroundings
from localgen.benchmark.results import BenchMemory, BenchResult, BenchSetup, BenchTest
from localgen.completion import Completion
from localgen.config import ModelConfig, replace_options
from localgen.errors import GenerationInterrupted
from localgen.generation.model_backend import ModelBackend
from localgen.inspection import ModelInfo, inspect
from localgen.model import LocalModel

if TYPE_CHECKING:
    from localgen.llama.backend import LlamaBackend

Progress = Callable[[int, int, str], object]

N_ROUNDS = 3
_GREEDY: dict[str, Any] = {"eos_token_id": [], "do_sample": False}
INTERRUPTED = "the benchmark was interrupted before it"


def bench(
    source: str | os.PathLike[str],
    *,
    prompt_lengths: Iterable[int] | None = None,
    new_tokens: int | None = None,
    batch_sizes: Iterable[int] | None = None,
    depths: Iterable[int] | None = None,
    n_rounds: int = N_ROUNDS,
    progress: Progress | None = None,
    **options: Any,
) -> BenchResult:
    """Measure how fast a model is on this machine, beside llama.cpp alone in the same process.

    source: as in ``LocalModel.from_pretrained``; options: the fields of ``ModelConfig``.
    prompt_lengths: the lengths of prompts evaluated with an empty cache (128 and 512). new_tokens:
    how many a single sequence generates (128); several generate fewer each. batch_sizes: sequences
    decoded together (1, 8, 32), at the first of ``depths``. depths: tokens that each sequence has
    in the cache before (0, 1024); at further ones, the first of batch_sizes is measured, and at
    each above 0 the longest prompt that fits. Defaults that do not fit the model are skipped.
    n_rounds: timed rounds, after one that is not timed. progress: called with (rounds done, rounds,
    next case).

    Decoding is greedy and ignores EOS. Raises ValueError for numbers that do not fit,
    ModelFileError, BackendError, NotEnoughMemoryError; on Ctrl-C GenerationInterrupted, whose
    ``partial`` is the BenchResult so far.
    """
    check_int("n_rounds", n_rounds, 1)
    config = replace_options(ModelConfig(), options)
    info = _inspect(source, config, config.n_ctx)
    cases = plan(
        Limits(
            n_ctx=config.n_ctx, n_ctx_train=info.n_ctx_train, max_sequences=config.max_sequences
        ),
        prompt_lengths=prompt_lengths,
        new_tokens=new_tokens,
        batch_sizes=batch_sizes,
        depths=depths,
    )
    return _run(info, config, cases, n_rounds, progress)


def _run(
    info: ModelInfo,
    config: ModelConfig,
    cases: dict[Case, str | None],
    n_rounds: int,
    progress: Progress | None,
) -> BenchResult:
    from localgen.llama.backend import LlamaBackend  # noqa: PLC0415  # keeps the import light
    from localgen.llama.baseline import Baseline  # noqa: PLC0415

    # llama.cpp's library is already loaded: ``inspect`` listed its devices.
    held_before, started = peak_memory(), time.perf_counter()
    with closing(LlamaBackend(info.path, config, adapts=False)) as backend:
        load_seconds = time.perf_counter() - started
        runner = Runner(backend, Baseline(backend), config, n_rounds, cases, progress)
        interrupt = None
        try:
            runner.run()
        except KeyboardInterrupt as error:
            interrupt = error
        result = BenchResult(
            setup=_setup(info, backend),
            load_seconds=load_seconds,
            memory=_memory(info, config, held_before, runner.contexts),
            tests=tuple(runner.tests.values()),
        )
    if interrupt is not None:
        interrupted = GenerationInterrupted("the benchmark was interrupted")
        interrupted.partial = result
        raise interrupted from interrupt
    return result


class BaselineProtocol(Protocol):
    """What localgen is compared with; see ``localgen.llama.baseline.Baseline``."""

    def fill(self, prompts: list[list[int]], new: list[list[int]], n_cached: int = 0) -> Any: ...

    def seconds(self, passes: Any) -> float: ...


class BenchBackend(ModelBackend, Protocol):
    """A model whose KV cache can be freed between two tests."""

    def release(self) -> None:
        """Free the context: the next ``reserve`` is like the first one."""


class Runner:
    """Runs ``cases`` on one loaded model; ``tests`` holds their results so far.

    cases: {case: None, or why it is skipped}. contexts: (sequences, tokens of each) of all contexts
    that were created.
    """

    def __init__(
        self,
        backend: BenchBackend,
        baseline: BaselineProtocol,
        config: ModelConfig,
        n_rounds: int,
        cases: dict[Case, str | None],
        progress: Progress | None = None,
    ) -> None:
        self._backend = backend
        self._baseline = baseline
        self._config = config
        self._n_rounds = n_rounds
        self._progress = progress
        self._n_done = 0
        self._cases = [case for case, obstacle in cases.items() if obstacle is None]
        self.tests = {
            case: BenchTest(case=case, not_measured=obstacle or INTERRUPTED)
            for case, obstacle in cases.items()
        }
        self.contexts: set[tuple[int, int]] = set()

    def run(self) -> None:
        """Measure all cases. Raises DecodeError, KeyboardInterrupt."""
        for number, case in enumerate(self._cases):
            self._n_done = number * (self._n_rounds + 1)
            self._measure(case)

    def _measure(self, case: Case) -> None:
        """Run one round untimed, then ``n_rounds``, each with the baseline first.

        The untimed round creates the context, loads the weights into memory and chooses the tokens
        that the baseline evaluates.
        """
        n_fit = self._backend.n_slots_that_fit(case.length)
        if n_fit < case.n_rows:
            self._skip(
                case, f"only {n_fit} of {case.n_rows} sequences of that length fit the KV budget"
            )
            return
        # Start like a newly loaded model: an earlier case may have needed a larger context.
        self._backend.release()
        model = LocalModel(self._backend, self._config)
        prompts = token_ids(case, self._backend.n_vocab)
        self._report(case)
        _, done = _timed(model, case, prompts)
        self.contexts.add((self._backend.n_slots, self._backend.n_ctx_seq))
        passes = self._baseline.fill(prompts, [row.token_ids for row in done], case.n_cached)
        test = BenchTest(case=case)
        for _ in range(self._n_rounds):
            self._report(case)
            llama_cpp = self._baseline.seconds(passes)
            seconds, done = _timed(model, case, prompts)
            if reason := _cache_mismatch(case, done):
                self._skip(case, reason)
                return
            ttft = done[0].stats.ttft or seconds
            test = test.with_round(localgen=seconds, llama_cpp=llama_cpp, ttft=ttft)
            self.tests[case] = test

    def _skip(self, case: Case, reason: str) -> None:
        self.tests[case] = BenchTest(case=case, not_measured=reason)

    def _report(self, case: Case) -> None:
        if self._progress is not None:
            sequences = f", {case.n_rows} sequences" if case.n_rows > 1 else ""
            n_all = len(self._cases) * (self._n_rounds + 1)
            self._progress(self._n_done, n_all, f"{case.name}{sequences}")
        self._n_done += 1


def _timed(
    model: LocalModel, case: Case, prompts: list[list[int]]
) -> tuple[float, list[Completion]]:
    """Return the seconds of the call and its results; an earlier call fills the cache."""
    if case.n_cached:
        model.complete([row[: case.n_cached] for row in prompts], max_new_tokens=1, **_GREEDY)
    started = time.perf_counter()
    done = model.complete(prompts, max_new_tokens=case.n_new, **_GREEDY)
    return time.perf_counter() - started, done


def _cache_mismatch(case: Case, done: list[Completion]) -> str | None:
    """Return why a call did not use the cache as its case requires; None if it did."""
    found = [row.stats for row in done if row.stats.n_cached != case.n_cached]
    if not found:
        return None
    why = f": {found[0].cache_miss_reason}" if found[0].cache_miss_reason else ""
    return f"{found[0].n_cached} tokens were cached instead of {case.n_cached}{why}"


# --- what was used ---


def _inspect(
    source: str | os.PathLike[str], config: ModelConfig, n_ctx: int, n_sequences: int = 1
) -> ModelInfo:
    return inspect(
        source,
        n_ctx=n_ctx,
        kv_type=config.kv_type,
        flash_attention=config.flash_attention,
        n_sequences=n_sequences,
        device=config.device,
        n_gpu_layers=config.n_gpu_layers,
    )


def _setup(info: ModelInfo, backend: LlamaBackend) -> BenchSetup:
    gpus = ", ".join(gpu.description or gpu.name for gpu in info.gpus)
    return BenchSetup(
        file=info.path.name,
        file_bytes=info.file_bytes,
        architecture=info.architecture,
        n_weights=info.n_weights,
        level=info.level,
        bits_per_weight=info.bits_per_weight,
        n_threads=backend.n_threads,
        device=gpus if backend.uses_gpu else "cpu",
        n_gpu_layers=backend.n_gpu_layers,
        flash_attention=backend.flash_attention,
        kv_type=backend.config.kv_type,
        n_batch=backend.n_batch,
        machine=surroundings(),
    )


def _memory(
    info: ModelInfo, config: ModelConfig, held_before: int, contexts: set[tuple[int, int]]
) -> BenchMemory:
    peak = peak_memory()
    estimates = [
        _inspect(info.path, config, n_tokens, n_sequences).memory
        for n_sequences, n_tokens in contexts
    ] or [info.memory]
    return BenchMemory(
        peak_rss_bytes=peak if peak > held_before else None,
        before_bytes=held_before,
        estimated_ram_bytes=max(each.ram.total for each in estimates),
        estimated_gpu_bytes=max(each.gpu.total for each in estimates),
    )
