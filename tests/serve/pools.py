"""Pools of models that are loaded already."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from localgen.serve.refusals import Refusal


@dataclass(frozen=True)
class Known:
    name: str


class Pool:
    """One model under one name, or under any if no name is asked for."""

    def __init__(self, model: Any, name: str = "fake") -> None:
        self._model = model
        self._name = name
        self.n_users = 0

    def find(self, name: str | None) -> Known:
        if name not in (None, self._name):
            raise Refusal(404, f"there is no model {name!r}", param="model", code="model_not_found")
        return Known(self._name)

    @asynccontextmanager
    async def use(self, _: str | None) -> AsyncIterator[Any]:
        self.n_users += 1
        try:
            yield self._model
        finally:
            self.n_users -= 1
