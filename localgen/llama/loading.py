"""Loads a model's file into llama.cpp, and frees what C holds; the file was checked before."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from localgen.errors import InvalidGGUFError
from localgen.llama import amx
from localgen.llama.callbacks import keeping_errors
from localgen.llama.in_flight_calls import InFlightCalls
from localgen.llama.library import llama, log_router

Progress = Callable[[float], object]


def load_model(path: Path, n_gpu_layers: int, progress: Progress | None) -> Any:
    """A llama_model. Raises InvalidGGUFError with llama.cpp's reason, and what ``progress``
    raises, which ends the load."""
    bindings = llama()
    params = bindings.llama_model_default_params()
    params.n_gpu_layers = n_gpu_layers
    params.use_extra_bufts = amx.is_safe()
    amx.warn_unless_safe()

    def on_progress(fraction: float, _user_data: object) -> bool:
        try:
            if progress is not None and not errors:
                progress(fraction)
        except BaseException as error:
            # Raised again below: C must get an answer, and False stops the load.
            errors.append(error)
        return not errors

    callback = bindings.llama_progress_callback(on_progress)
    params.progress_callback = callback
    log_router.take_complaints()
    with keeping_errors() as errors:
        model = bindings.llama_model_load_from_file(os.fsencode(path), params)
    if errors:
        if model:
            bindings.llama_model_free(model)
        raise errors[0]
    if not model:
        reason = log_router.take_complaints() or "no reason was given"
        raise InvalidGGUFError(f"llama.cpp cannot load {path}: {reason}")
    return model


class Handles:
    """The C objects of one model, freed in the order that C needs; outlives the backend."""

    def __init__(self, bindings: Any, model: Any) -> None:
        self._llama = bindings
        self._model = model
        self.context: Any = None
        self.uses = InFlightCalls()

    def free_context(self) -> None:
        if self.context:
            self._llama.llama_free(self.context)
        self.context = None

    def free(self) -> None:
        """Waits for the ``uses`` that still run: a daemon thread's may at the process's end."""
        self.uses.end()
        self.free_context()
        if self._model:
            self._llama.llama_model_free(self._model)
        self._model = None
