"""Remembers what llama.cpp started in this process and a forked child lacks; it calls no C."""

from __future__ import annotations

import os

from localgen.errors import BackendError

# The processes in which forward passes had several threads, or a GPU. A child inherits the sets.
_with_threads: set[int] = set()
_with_gpu: set[int] = set()


def note_passes(n_threads: int, *, uses_gpu: bool) -> None:
    """Record that forward passes run in this process."""
    if n_threads > 1:
        _with_threads.add(os.getpid())
    if uses_gpu:
        _with_gpu.add(os.getpid())


def check_fork(n_threads: int, *, uses_gpu: bool) -> None:
    """Raise BackendError if forward passes would wait forever, or abort, in this forked process.

    OpenMP's threads exist only where they were started, and it does not start them again in a
    child; a GPU's driver does not work in a child either.
    """
    if uses_gpu and _with_gpu - {os.getpid()}:
        _refuse("used a GPU, whose driver does not work here", "n_gpu_layers=0")
    if n_threads > 1 and _with_threads - {os.getpid()}:
        _refuse("ran a model on several threads, which do not exist here", "n_threads=1")


def _refuse(reason: str, option: str) -> None:
    raise BackendError(
        f"this process was forked from one that {reason}: start processes with 'spawn' "
        f"(multiprocessing.get_context('spawn')), load no model before the fork, or load this one "
        f"with {option}"
    )
