"""``localgen bench``: measure a model's speed on this machine against plain llama.cpp."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Annotated

import typer

from localgen._util.format import as_count, as_size, counted
from localgen.benchmark import BenchResult, BenchTest
from localgen.benchmark import bench as measure
from localgen.benchmark.measure import INTERRUPTED, N_ROUNDS
from localgen.benchmark.results import BenchMemory
from localgen.cli.measuring import print_measured, spread_text
from localgen.cli.option_groups import with_options
from localgen.cli.options import MODEL_FORMS, LoadingOptions, MaxSequences
from localgen.cli.tables import print_table, printable
from localgen.config import ModelConfig

_LABEL_WIDTH = 13
_MODEL = ModelConfig()
_COLUMNS = ("test", "batch", "localgen", "llama.cpp", "ratio")


@with_options
def bench(
    *,
    source: Annotated[
        str, typer.Argument(metavar="MODEL", help=f"Measure this model: {MODEL_FORMS}.")
    ],
    prompt_lengths: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,…", help="Process prompts of these lengths.", show_default="128,512"
        ),
    ] = None,
    new_tokens: Annotated[
        int | None,
        typer.Option(help="Generate this many tokens; fewer in a batch.", show_default="128"),
    ] = None,
    batch_sizes: Annotated[
        str | None,
        typer.Option(metavar="A,B,…", help="Decode batches of these sizes.", show_default="1,8,32"),
    ] = None,
    depths: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,…", help="Start after so many cached tokens.", show_default="0,1024"
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(help="Run each test this many times.")] = N_ROUNDS,
    loading: LoadingOptions,
    max_sequences: MaxSequences = _MODEL.max_sequences,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure MODEL's speed and plain llama.cpp's, in turn, in one process.

    As in llama-bench, pp512 processes a prompt of 512 tokens, tg128 generates 128, and "@ d1024"
    starts with 1,024 tokens cached. The ratio is localgen's speed divided by llama.cpp's. Ctrl-C
    prints the results so far.
    """
    run = partial(
        measure,
        source,
        prompt_lengths=_numbers("prompt_lengths", prompt_lengths),
        new_tokens=new_tokens,
        batch_sizes=_numbers("batch_sizes", batch_sizes),
        depths=_numbers("depths", depths),
        n_rounds=rounds,
        max_sequences=max_sequences,
        **loading.given(),
    )
    print_measured("measuring", run, _print, as_json=as_json)


def _numbers(name: str, text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"{name} must be comma-separated integers, got {text!r}") from None


def _print(result: BenchResult) -> None:
    for label, text in _setup(result):
        print(f"{label:<{_LABEL_WIDTH}}{printable(text)}")
    measured = [test for test in result.tests if test.ratio]
    if measured:
        print("\ntokens per second over all sequences, median (min-max):")
        rows = [_row(test) for test in measured]
        print_table(_COLUMNS, rows, right=_COLUMNS[1:], wrapped=_COLUMNS)
    for test in result.tests:
        if test.not_measured and test.not_measured != INTERRUPTED:
            print(f"not measured: {_named(test)}: {test.not_measured}")
    if left := [_named(test) for test in result.tests if test.not_measured == INTERRUPTED]:
        print(f"interrupted; not measured: {'; '.join(left)}")
    for label, text in _figures(result):
        print(f"{label:<{_LABEL_WIDTH}}{text}")


def _setup(result: BenchResult) -> Iterator[tuple[str, str]]:
    setup = result.setup
    yield (
        "model",
        f"{setup.file}: {setup.architecture}, {as_count(setup.n_weights)} parameters, "
        f"{setup.level or 'unknown level'}, {setup.bits_per_weight:.2f} bits per weight, "
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
        f"flash attention {setup.flash_attention}, KV cache {setup.kv_type}, at most "
        f"{setup.n_batch} tokens per pass",
    )


def _figures(result: BenchResult) -> Iterator[tuple[str, str]]:
    if cold := result.cold:
        yield (
            "first token",
            f"{_ms(cold)} after a prompt of {cold.case.n_prompt} tokens, none cached",
        )
    if cached := result.cached:
        yield (
            "",
            f"{_ms(cached)} after {cached.case.n_prompt} more tokens, {cached.case.n_cached} "
            f"cached",
        )
    yield "load", f"{result.load_seconds:.2f} s"
    yield "memory", _memory(result.memory)


def _memory(memory: BenchMemory) -> str:
    before, peak = as_size(memory.before_bytes), memory.peak_rss_bytes
    if peak is None:
        text = f"no more than the {before} in use before loading"
    else:
        added = as_size(peak - memory.before_bytes)
        text = f"peak {as_size(peak)}: {before} before loading, {added} for the model"
    gpu = memory.estimated_gpu_bytes
    on_gpu = f" and {as_size(gpu)} on the GPU" if gpu else ""
    return f"{text} (estimated: {as_size(memory.estimated_ram_bytes)}{on_gpu})"


def _row(test: BenchTest) -> tuple[str, ...]:
    speeds = [spread_text(speed, _speed) for speed in (test.localgen_tps, test.llama_cpp_tps)]
    return (
        test.case.name,
        str(test.case.n_rows),
        *speeds,
        spread_text(test.ratio, "{:.3f}".format),
    )


def _speed(tokens_per_second: float) -> str:
    return f"{tokens_per_second:.0f}" if tokens_per_second >= 100 else f"{tokens_per_second:.1f}"


def _ms(test: BenchTest) -> str:
    return spread_text(test.ttft, lambda seconds: f"{seconds * 1e3:.0f}", " ms")


def _named(test: BenchTest) -> str:
    return f"{test.case.name}, {counted(test.case.n_rows, 'sequence')}"
