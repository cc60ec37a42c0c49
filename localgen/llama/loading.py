"""Loads a checked model file into llama.cpp and frees the C objects."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from weakref import WeakSet

from localgen.errors import InvalidGGUFError
from localgen.llama import amx
from localgen.llama.callbacks import collected_errors
from localgen.llama.context_init import ContextInit
from localgen.llama.in_flight_calls import InFlightCalls
from localgen.llama.library import llama, log_router

Progress = Callable[[float], object]


def load_model(
    path: Path, n_gpu_layers: int, progress: Progress | None, *, vocab_only: bool = False
) -> Any:
    """Return a llama_model; with ``vocab_only`` it has no weights.

    Raises InvalidGGUFError with llama.cpp's reason. An exception in ``progress`` stops the load and
    is raised again.
    """
    bindings = llama()
    params = bindings.llama_model_default_params()
    params.n_gpu_layers = n_gpu_layers
    params.vocab_only = vocab_only
    params.use_extra_bufts = amx.is_safe()
    amx.warn_unless_safe()

    def on_progress(fraction: float, _user_data: object) -> bool:
        try:
            if progress is not None and not errors:
                progress(fraction)
        except BaseException as error:
            # Raised again below; C stops the load when this returns False.
            errors.append(error)
        return not errors

    callback = bindings.llama_progress_callback(on_progress)
    params.progress_callback = callback
    log_router.take_errors()
    with collected_errors() as errors:
        model = bindings.llama_model_load_from_file(os.fsencode(path), params)
    if errors:
        if model:
            bindings.llama_model_free(model)
        raise errors[0]
    if not model:
        reason = log_router.take_errors() or "no reason was given"
        raise InvalidGGUFError(f"llama.cpp cannot load {path}: {reason}")
    return model


class Handles:
    """The C objects of one model, freed in the order that C requires; it outlives the backend."""

    def __init__(self, bindings: Any, model: Any) -> None:
        self._llama = bindings
        self._model = model
        self.context: Any = None
        # A context that is being made, or one that a stopped call left.
        self.context_init: ContextInit | None = None
        # Those of backends that have a context of their own on this model.
        self.sharing: WeakSet[Handles] = WeakSet()
        self.in_flight = InFlightCalls()

    def free_context(self) -> None:
        """Free the context, if there is one."""
        context, self.context = self.context, None
        if context:
            self._llama.llama_free(context)

    def free_context_init(self) -> None:
        """Wait until no context is being made, and free it; Ctrl-C ends the waiting."""
        if self.context_init is not None:
            self.context_init.wait()
            handle, self.context_init = self.context_init.handle, None
            if handle:
                self._llama.llama_free(handle)

    def free(self) -> None:
        """Free everything once no call is in flight: at exit, a daemon thread's may still be."""
        self.in_flight.end()
        for each in list(self.sharing):
            each.free()
        self.free_context_init()
        self.free_context()
        if self._model:
            self._llama.llama_model_free(self._model)
        self._model = None
