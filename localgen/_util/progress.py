"""Progress bars on a terminal or in a notebook; they do not know what makes the progress."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from localgen._util.console import is_terminal
from localgen._util.plain_progress import PlainProgress

if TYPE_CHECKING:
    from rich.progress import Progress


@contextmanager
def job_bar(n_rows: int) -> Iterator[Callable[[int], None]]:
    """Show a bar for ``n_rows`` rows; call the yielded function with each row's new tokens."""
    started = time.perf_counter()
    n_tokens = 0
    with new_bar() as bar:
        task = bar.add_task("generating", total=n_rows, speed="")

        def row_done(n_new: int) -> None:
            nonlocal n_tokens
            n_tokens += n_new
            bar.update(task, advance=1, speed=tokens_per_second(n_tokens, started))

        yield row_done


@contextmanager
def tensor_bars(descriptions: Sequence[str]) -> Iterator[Callable[[int, int, str], None]]:
    """Show a bar for each pass over a model's tensors; without a terminal, lines.

    Call the yielded function with (tensor's number, number of tensors, name); a smaller number than
    before, or another number of tensors, starts the next bar.
    """
    waiting = iter(descriptions)
    bar = new_bar()
    tasks = []
    plain: list[PlainProgress] = []
    last = (0, 0)

    def tensor_started(index: int, n_tensors: int, name: str) -> None:
        nonlocal last
        is_new = index < last[0] or n_tensors != last[1]
        last = (index, n_tensors)
        if is_new:
            title = next(waiting)
            plain.append(PlainProgress(title))
            tasks.append(bar.add_task(title, total=n_tensors, speed=""))
            bar.start()  # only now: an error before the first tensor is printed without a bar
        if bar.disable:
            plain[-1].step(index, n_tensors, name)
        bar.update(tasks[-1], completed=index, speed=name)

    try:
        yield tensor_started
    finally:
        bar.stop()


@contextmanager
def step_bar(description: str) -> Iterator[Callable[[int, int, str], None]]:
    """Show a bar for steps, without a terminal lines; call the yielded function with (steps done,
    steps, next step)."""
    bar = new_bar()
    if bar.disable:
        yield PlainProgress(description).step
        return
    task = bar.add_task(description, total=None, speed="")

    def step(n_done: int, n_steps: int, what: str) -> None:
        bar.start()
        bar.update(task, completed=n_done, total=n_steps or None, speed=what)

    try:
        yield step
    finally:
        bar.stop()


def tokens_per_second(n_tokens: int, started: float) -> str:
    """Return the speed since ``started``, a value of ``time.perf_counter``; empty if no time has
    passed, as where a program's tests stop the clock."""
    seconds = time.perf_counter() - started
    return f"{n_tokens / seconds:.0f} tokens/s" if seconds else ""


def new_bar() -> Progress:
    """Return a bar that is not shown yet; its tasks have a field ``speed``."""
    from rich.console import Console  # noqa: PLC0415  # importing localgen stays light
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    is_shown = is_terminal(sys.stderr) or console.is_jupyter
    console.quiet = not is_shown  # else rich would end each bar with an empty line
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
        console=console,
        disable=not is_shown,
        redirect_stdout=is_terminal(sys.stdout),  # else prints would not reach their file or pipe
    )
