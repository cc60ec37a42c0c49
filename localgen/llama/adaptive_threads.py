"""Runs passes with as many threads as help now; how many, ``thread_controller`` decides."""

from __future__ import annotations

import time
from collections.abc import Callable

from localgen.engine.backend import Batch, Logits
from localgen.llama.context import Context
from localgen.llama.thread_controller import ThreadController

# Threads wait for each other some hundred times in each pass, however long that is. Between these
# times a long pass computes so long that it may gain from CPUs which a short one loses time on.
_LONG_PASS_TOKENS = 16


class AdaptiveThreads:
    """Passes of up to ``most`` threads, learned apart for short and long passes.

    n_threads: those of the last pass.
    """

    def __init__(self, most: int) -> None:
        self.n_threads = most
        self._short, self._long = ThreadController(most), ThreadController(most, n_passes=1)

    def decode(
        self, context: Context, batch: Batch, should_stop: Callable[[], bool] | None
    ) -> Logits:
        """Decode in a context; what fails or is stopped teaches nothing."""
        n_tokens = len(batch.token_ids)
        controller = self._short if n_tokens < _LONG_PASS_TOKENS else self._long
        self.n_threads = controller.threads_for(n_tokens)
        context.use_threads(self.n_threads)
        started, cpu_started = time.perf_counter(), time.thread_time()
        logits = context.decode(batch, should_stop)
        cpu_seconds = time.thread_time() - cpu_started
        controller.note(n_tokens, time.perf_counter() - started, cpu_seconds)
        return logits
