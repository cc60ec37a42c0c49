"""``localgen bench``: how fast a model is on this machine, beside llama.cpp alone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict
from typing import Annotated

import typer

from localgen._util.format import as_count, as_size, counted
from localgen._util.progress import step_bar
from localgen.benchmark import BenchResult, BenchTest
from localgen.benchmark import bench as measure
from localgen.benchmark.measure import N_ROUNDS
from localgen.benchmark.measuring import Spread
from localgen.benchmark.results import BenchMemory
from localgen.cli.options import LoadingOptions, with_options
from localgen.cli.tables import print_table, printable
from localgen.config import ModelConfig
from localgen.errors import GenerationInterrupted

_LABEL_WIDTH = 13
_COLUMNS = ("test", "rows", "localgen", "llama.cpp", "ratio")


@with_options
def bench(
    *,
    source: Annotated[str, typer.Argument(metavar="MODEL", help="A model, as -m takes it.")],
    prompt_lengths: Annotated[
        str | None, typer.Option(metavar="A,B,…", help="Tokens of prompts to compute (128,512).")
    ] = None,
    new_tokens: Annotated[
        int | None, typer.Option(help="New tokens of one row (128); fewer each of several.")
    ] = None,
    batch_sizes: Annotated[
        str | None, typer.Option(metavar="A,B,…", help="Rows decoded together (1,8,32).")
    ] = None,
    depths: Annotated[
        str | None, typer.Option(metavar="A,B,…", help="Tokens cached before (0,1024).")
    ] = None,
    rounds: Annotated[int, typer.Option(help="Rounds of each test.")] = N_ROUNDS,
    loading: LoadingOptions,
    max_sequences: Annotated[
        int, typer.Option(help="Most rows decoded together.")
    ] = ModelConfig().max_sequences,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure how fast MODEL is here, beside llama.cpp alone in the same process, by turns.

    pp512 computes a prompt of 512 tokens, tg128 generates 128, "@ d1024" after 1,024 cached ones,
    as in llama-bench. The ratio is localgen's speed by llama.cpp's. Ctrl-C prints what there is.
    """
    interrupted = False
    bar = step_bar("measuring") if sys.stderr.isatty() else nullcontext()
    try:
        with bar as progress:
            result = measure(
                source,
                prompt_lengths=_numbers("prompt_lengths", prompt_lengths),
                new_tokens=new_tokens,
                batch_sizes=_numbers("batch_sizes", batch_sizes),
                depths=_numbers("depths", depths),
                n_rounds=rounds,
                progress=progress,
                max_sequences=max_sequences,
                **asdict(loading),
            )
    except GenerationInterrupted as error:
        result, interrupted = error.partial, True
    if as_json:
        print(result.to_json())
    else:
        _print(result)
    if interrupted:
        raise KeyboardInterrupt


def _numbers(name: str, text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"{name} must be integers with commas between, got {text!r}") from None


def _print(result: BenchResult) -> None:
    for label, text in _setup(result):
        print(f"{label:<{_LABEL_WIDTH}}{printable(text)}")
    measured = [test for test in result.tests if test.ratio]
    if measured:
        print("\ntokens per second of all rows, median (smallest-largest):")
        rows = [_row(test) for test in measured]
        print_table(_COLUMNS, rows, right=" ".join(_COLUMNS[1:]))
    for test in result.tests:
        if test.not_measured:
            print(f"not measured: {test.case.name}, {_rows(test)}: {test.not_measured}")
    for label, text in _figures(result):
        print(f"{label:<{_LABEL_WIDTH}}{text}")


def _setup(result: BenchResult) -> Iterator[tuple[str, str]]:
    setup = result.setup
    yield (
        "model",
        f"{setup.file}: {setup.architecture}, {as_count(setup.n_weights)} parameters, "
        f"{setup.level or 'level not stated'}, {setup.bits_per_weight:.2f} bits per weight, "
        f"{as_size(setup.file_bytes)}",
    )
    machine = setup.machine
    yield "versions", f"localgen {machine['localgen']}, llama-cpp-python {machine['llama_cpp']}"
    threads = counted(setup.n_threads, "thread")
    layers = f" ({setup.n_gpu_layers} layers)" if setup.n_gpu_layers > 0 else ""
    gpu = "" if setup.device == "cpu" else f", on {setup.device}{layers}"
    yield "machine", f"{machine['cpu']}, {threads}{gpu}"
    yield (
        "settings",
        f"flash attention {setup.flash_attention}, KV in {setup.kv_type}, at most {setup.n_batch} "
        f"tokens a pass",
    )


def _figures(result: BenchResult) -> Iterator[tuple[str, str]]:
    if cold := result.cold:
        yield "first token", f"{_ms(cold)} after a prompt of {cold.case.n_prompt}, nothing cached"
    if cached := result.cached:
        yield (
            "",
            f"{_ms(cached)} after {cached.case.n_prompt} more, {cached.case.n_cached} cached",
        )
    yield "load", f"{result.load_seconds:.2f} s"
    yield "memory", _memory(result.memory)


def _memory(memory: BenchMemory) -> str:
    before, peak = as_size(memory.before_bytes), memory.peak_rss_bytes
    if peak is None:
        text = f"never more than the {before} that were held before"
    else:
        added = as_size(peak - memory.before_bytes)
        text = f"{as_size(peak)} at the peak: {before} before the model, and {added} for it"
    gpu = memory.estimated_gpu_bytes
    on_gpu = f" and {as_size(gpu)} on the GPU" if gpu else ""
    return f"{text} (estimated: {as_size(memory.estimated_ram_bytes)}{on_gpu})"


def _row(test: BenchTest) -> tuple[str, ...]:
    speeds = [_spread(speed, _speed) for speed in (test.localgen_tps, test.llama_cpp_tps)]
    return (test.case.name, str(test.case.n_rows), *speeds, _spread(test.ratio, "{:.3f}".format))


def _spread(spread: Spread | None, as_text: Callable[[float], str], unit: str = "") -> str:
    if spread is None:
        return ""
    median, low, high = map(as_text, (spread.median, spread.low, spread.high))
    return f"{median}{unit}" if spread.low == spread.high else f"{median}{unit} ({low}-{high})"


def _speed(tokens_per_second: float) -> str:
    return f"{tokens_per_second:.0f}" if tokens_per_second >= 100 else f"{tokens_per_second:.1f}"


def _ms(test: BenchTest) -> str:
    return _spread(test.ttft, lambda seconds: f"{seconds * 1e3:.0f}", " ms")


def _rows(test: BenchTest) -> str:
    return counted(test.case.n_rows, "row")
