"""Runs what measures a model, and prints its result also after Ctrl-C; see ``bench``, ``tune``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from localgen._util.progress import step_bar
from localgen.benchmark.measuring import Spread
from localgen.errors import GenerationInterrupted


class _Result(Protocol):
    def to_json(self) -> str: ...


_R = TypeVar("_R", bound=_Result)


def print_measured(
    title: str, measure: Callable[..., _R], show: Callable[[_R], None], *, as_json: bool
) -> _R:
    """Print what ``measure(progress=...)`` returns, and return it.

    title: of the progress bar. show: prints the result for people. After Ctrl-C the results so far
    are printed, and KeyboardInterrupt is raised.
    """
    interrupt = None
    try:
        with step_bar(title) as progress:
            result = measure(progress=progress)
    except GenerationInterrupted as error:
        result, interrupt = error.partial, error
    if as_json:
        print(result.to_json())
    else:
        show(result)
    if interrupt is not None:
        raise KeyboardInterrupt from interrupt
    return result


def spread_text(spread: Spread | None, as_text: Callable[[float], str], unit: str = "") -> str:
    """Return "median (min-max)", the median alone if all three look alike, "" without a spread."""
    if spread is None:
        return ""
    median, low, high = map(as_text, (spread.median, spread.low, spread.high))
    return f"{median}{unit}" if median == low == high else f"{median}{unit} ({low}-{high})"
