"""Arguments of a call → bytes for the worker, or the reason why they cannot be sent."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Mapping
from dataclasses import replace
from types import FunctionType
from typing import Any

from localgen.config import GenerationConfig

_MAIN = ("__main__", "__mp_main__")
# What differs each time that a program asks the same.
_NOT_IN_FINGERPRINT = ("max_time", "seed")


class _Unsendable(Exception):
    """The reason why an argument cannot be sent."""


class _Pickler(pickle.Pickler):
    """Refuses what the worker could not find: it does not run the program's main module."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, FunctionType | type) and value.__module__ in _MAIN:
            raise _Unsendable(
                f"{value.__qualname__} is defined in the program's main module, which the worker "
                f"does not run"
            )
        return NotImplemented


def packed(arguments: Mapping[str, Any]) -> bytes:
    """Return arguments by name as bytes.

    Raises TypeError that names the one which cannot be sent to another process.
    """
    try:
        return _dumps(dict(arguments))
    except Exception:
        for name, value in arguments.items():
            try:
                _dumps(value)
            except Exception as error:
                raise TypeError(_reason(name, error)) from None
        raise


def fingerprint(name: str, arguments: Mapping[str, Any]) -> bytes:
    """Return what identifies a call, whatever its seed and its time limit are."""
    kept = {key: each for key, each in arguments.items() if key not in _NOT_IN_FINGERPRINT}
    config = kept.get("generation_config")
    if isinstance(config, GenerationConfig):
        kept["generation_config"] = _timeless(config)
    elif isinstance(config, list):
        kept["generation_config"] = list(map(_timeless, config))
    return hashlib.sha256(_dumps((name, kept))).digest()


def _timeless(config: GenerationConfig) -> GenerationConfig:
    return replace(config, max_time=None, seed=None)


def _dumps(value: Any) -> bytes:
    buffer = io.BytesIO()
    _Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(value)
    return buffer.getvalue()


def _reason(name: str, error: Exception) -> str:
    return (
        f"{name} cannot be sent to the worker process of an isolated model: {error}. Define "
        f"functions and classes at the top level of a module that can be imported, or load the "
        f"model without isolated=True."
    )
