"""The parts of a model that its methods use, which several classes share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from localgen._util.wanted import run_in_thread
from localgen.engine.request import Request
from localgen.generation.async_driver import AsyncDriver
from localgen.generation.driver import Driver
from localgen.generation.model_backend import ModelBackend
from localgen.generation.model_facts import LoadedConfig
from localgen.generation.request_builder import RequestBuilder
from localgen.generation.sessions import Sessions
from localgen.generation.streaming import partial_on_error
from localgen.text.tokenizer import Tokenizer

T = TypeVar("T")


class ModelParts:
    """What a loaded model consists of; ``LocalModel`` makes it."""

    tokenizer: Tokenizer
    config: LoadedConfig
    _backend: ModelBackend
    _driver: Driver
    _async_driver: AsyncDriver
    _requests: RequestBuilder
    _sessions: Sessions

    async def in_thread(self, function: Callable[..., T], *args: Any, **given: Any) -> T:
        """Return what a function that uses this model returns, called in a thread.

        Such as ``await model.in_thread(model.tokenizer.encode, text)``: a long text takes a while,
        and an isolated model asks its process.
        """
        return await run_in_thread(None, function, *args, **given)

    def _run_all(self, requests: Iterable[Request]) -> None:
        """Run requests one after another, each with those of other threads."""
        with partial_on_error(lambda: None):
            for request in requests:
                self._driver.submit(request)
                self._driver.run(request)

    async def _arun_all(self, requests: Iterable[Request]) -> None:
        """Await ``_run_all()``."""
        with partial_on_error(lambda: None):
            for request in requests:
                await self._async_driver.run(request)
