"""Pools of models that need no loading."""

from __future__ import annotations

from typing import Any

from localgen.serve.pool import ModelPool
from localgen.serve.served_model import ServedModel


def pool_of(model: Any, *names: str, **options: Any) -> ModelPool:
    """Return a pool of one model, named "fake" unless names are given."""
    served = ServedModel(names=names or ("fake",), source="fake")
    return ModelPool([served], lambda *_: model, **options)
