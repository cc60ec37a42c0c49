"""A progress bar for one call with many sequences."""

from __future__ import annotations

import time

from localgen._util.progress import new_bar, tokens_per_second
from localgen.generation.call import GenerationCall
from localgen.generation.driver import Driver

_SECONDS = 0.1


def show_progress(call: GenerationCall, driver: Driver) -> None:
    """Run a submitted call under a bar: sequences done, tokens per second, time left."""
    sequences = call.sequences
    started = time.perf_counter()
    with new_bar() as bar:
        task = bar.add_task("generating", total=len(sequences), speed="")
        try:
            while not call.request.done:
                again_at = time.perf_counter() + _SECONDS
                driver.run(call.request, lambda again_at=again_at: time.perf_counter() >= again_at)  # type: ignore[misc]
                speed = tokens_per_second(sum(each.n_new for each in sequences), started)
                n_done = sum(each.finish_reason is not None for each in sequences)
                bar.update(task, completed=n_done, speed=speed)
            driver.run(call.request)  # raises what ended it between two turns
        except BaseException:  # Ctrl-C between two turns, perhaps
            driver.cancel(call.request)
            raise
