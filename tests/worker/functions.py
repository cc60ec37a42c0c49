"""Functions that tests send to a worker, which imports them from here."""

from __future__ import annotations

import os
import re
import signal
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np


def abort(token_ids: Any, scores: Any) -> Any:
    """A logits processor that ends the process as GGML_ASSERT does."""
    os.abort()


def segfault(token_ids: Any, scores: Any) -> Any:
    """A logits processor that ends the process as a bad pointer does."""
    os.kill(os.getpid(), signal.SIGSEGV)


class AbortAfter:
    """A logits processor that ends the process once ``n`` tokens were chosen."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.n_calls = 0

    def __call__(self, token_ids: Any, scores: Any) -> Any:
        self.n_calls += 1
        if self.n_calls > self.n:
            os.abort()
        return scores


def favour_five(token_ids: Any, scores: Any) -> Any:
    """A logits processor after which token 5 is the likeliest."""
    scores = np.array(scores)
    scores[:, 5] = 1e3
    return scores


def fail(token_ids: Any, scores: Any) -> Any:
    """A logits processor that raises."""
    raise LookupError("no such score")


def interrupt(token_ids: Any, scores: Any) -> Any:
    """A logits processor that raises what Ctrl-C does."""
    raise KeyboardInterrupt


def warn(token_ids: Any, scores: Any) -> Any:
    """A logits processor that warns."""
    warnings.warn("scores look odd", RuntimeWarning, stacklevel=1)
    return scores


class FailAfter:
    """A logits processor that raises once ``n`` tokens were chosen."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.n_calls = 0

    def __call__(self, token_ids: Any, scores: Any) -> Any:
        self.n_calls += 1
        if self.n_calls > self.n:
            raise LookupError("no such score")
        return scores


class HangAfter:
    """A logits processor that does not return once ``n`` tokens were chosen."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.n_calls = 0

    def __call__(self, token_ids: Any, scores: Any) -> Any:
        self.n_calls += 1
        if self.n_calls > self.n:
            time.sleep(600)
        return scores


class InterruptParent:
    """A logits processor that sends Ctrl-C to the program once ``n`` tokens were chosen, and then
    returns or not."""

    def __init__(self, n: int, *, returns: bool = True) -> None:
        self.n = n
        self.returns = returns
        self.n_calls = 0

    def __call__(self, token_ids: Any, scores: Any) -> Any:
        self.n_calls += 1
        if self.n_calls == self.n + 1:
            os.kill(os.getppid(), signal.SIGINT)
            if not self.returns:
                time.sleep(600)
        return scores


def allow_no_threads(token_ids: Any, scores: Any) -> Any:
    """A logits processor after which the process gets no more threads, as without memory."""

    def fail(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    ThreadPoolExecutor.submit = fail  # type: ignore[assignment, method-assign]
    return scores


class ForkThenAbort:
    """A logits processor that leaves a process behind, which lives on, and ends its own."""

    def __call__(self, token_ids: Any, scores: Any) -> Any:
        if os.fork() == 0:
            time.sleep(600)
        os.abort()


class HoldLock:
    """A logits processor that lets no other Python code run any more; ``mark`` is made before."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __call__(self, token_ids: Any, scores: Any) -> Any:
        self.mark.touch()
        re.match(r"(a+)+$", "a" * 99 + "b")
        return scores


class AbortWhenSent:
    """A logits processor that ends the process that it is sent to."""

    def __reduce__(self) -> Any:
        return os.abort, ()

    def __call__(self, token_ids: Any, scores: Any) -> Any:
        return scores
