"""The progress bar of a call of many rows."""

from __future__ import annotations

import time
from typing import Any

from localgen._util.progress import new_bar, tokens_per_second
from localgen.worker.calls import RemoteCall
from localgen.worker.client import Client, Partial


def run_under_bar(client: Client, call: RemoteCall, partial: Partial) -> Any:
    """Run a call that keeps its updates: rows done, tokens per second, time left."""
    started = time.perf_counter()
    with client.carrying(call, partial):
        client.begin(call)
        with new_bar() as bar:
            task = bar.add_task("generating", total=len(call.prompts), speed="")
            n_done = n_tokens = 0
            while not call.over or call.updates:
                client.wait(call, lambda: bool(call.updates))
                while call.updates:
                    for update in call.updates.popleft():
                        n_tokens += len(update.token_ids)
                        n_done += update.finish_reason is not None
                bar.update(task, completed=n_done, speed=tokens_per_second(n_tokens, started))
        return call.result()
