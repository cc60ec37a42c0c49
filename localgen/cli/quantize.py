"""``localgen quantize``: write a model at quantization levels, or as a mixture for a target."""

from __future__ import annotations

import sys
import time
from typing import Annotated, Any

import typer

from localgen._util.format import counted
from localgen._util.plain_progress import as_duration
from localgen._util.progress import tensor_bars
from localgen.cli.declared_flags import DeclaredOptions
from localgen.cli.option_groups import with_options
from localgen.cli.options import MODEL_FORMS
from localgen.cli.quantize_tables import print_files, print_mixture
from localgen.mixtures.options import QuantizeArguments
from localgen.mixtures.quantize import quantize as write
from localgen.mixtures.search import SOURCE, QuantizedMixture
from localgen.quantization.options import AUTO
from localgen.quantization.process import Progress


class WritingOptions(DeclaredOptions, of=QuantizeArguments):
    """The options of ``quantize()`` as they were typed."""


@with_options
def quantize(
    *,
    source: Annotated[
        str, typer.Argument(metavar="SRC", help=f"Quantize this model: {MODEL_FORMS}.")
    ],
    options: WritingOptions,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """Quantize SRC to one or more levels, or to a target, and report what each file holds."""
    given: dict[str, Any] = options.given()
    levels = given.get("levels")
    if not given.keys() & {"levels", "target_size", "target_kld"}:
        raise ValueError("give --type LEVEL, such as Q4_K_M, or --target-size or --target-kld")
    bars = [*["importance matrix"] * (given.get("imatrix") == AUTO), *(levels or ["mixture"])]
    with tensor_bars(bars) as begun:
        done = write(source, **given, progress=begun if levels else _Estimated(begun))
    if isinstance(done, QuantizedMixture):
        print_mixture(done, as_json=as_json)
    else:
        print_files(done, as_json=as_json)


class _Estimated:
    """Passes progress of a search on, and says on stderr how much there is to do.

    The time is that of the first mixture times their number: larger ones take about as long.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._started: float | None = None
        self._is_told = False

    def __call__(self, n_done: int, n_steps: int, what: str) -> None:
        self._progress(n_done, n_steps, what)
        if what == SOURCE:
            _say(f"up to {counted(n_steps - 1, 'file')} to write and measure, one after another")
        elif self._started is None and n_done == 1:
            self._started = time.monotonic()
        elif self._started is not None and n_done == 2 and not self._is_told:
            self._is_told = True
            seconds = (time.monotonic() - self._started) * (n_steps - 1)
            _say(f"the search takes about {as_duration(seconds)}, by the first of them")


def _say(message: str) -> None:
    print(f"localgen: {message}", file=sys.stderr)
