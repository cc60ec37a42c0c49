"""Methods of ``LocalModel`` as an isolated model has them: the same types, another way to run."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar, cast

from localgen.model import LocalModel
from localgen.worker.calls import Kind

Method = TypeVar("Method", bound=Callable[..., Any])


def as_in(original: Method) -> Callable[[Callable[..., Any]], Method]:
    """Give a method the types, the signature and the docstring of another one."""

    def decorate(function: Callable[..., Any]) -> Method:
        function.__doc__ = original.__doc__
        function.__signature__ = inspect.signature(original)  # type: ignore[attr-defined]
        return cast("Method", function)

    return decorate


def asked(original: Method, name: str | None = None) -> Method:
    """Return a method whose answer the worker computes: ``original``, or its async twin ``name``,
    which can be cancelled there."""
    question, signature = name or original.__name__, inspect.signature(original)

    def ask(self: Any, *args: Any, **given: Any) -> Any:
        arguments = _arguments(signature, self, args, given)
        return self._client.ask(question, arguments, Kind.ENGINE)

    async def ask_async(self: Any, *args: Any, **given: Any) -> Any:
        arguments = _arguments(signature, self, args, given)
        return await self._client.aask(question, arguments, Kind.ENGINE)

    method = ask_async if inspect.iscoroutinefunction(original) else ask
    method.__name__ = original.__name__
    return as_in(original)(method)


def refused(name: str, reason: str) -> Any:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise TypeError(
            f"an isolated model has no {name}: {reason}. Load the model without isolated=True."
        )

    refuse.__name__ = name
    refuse.__doc__ = f"Raise TypeError: {reason}."
    return refuse


def _arguments(
    signature: inspect.Signature, model: object, args: tuple[Any, ...], given: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the arguments of a call by name, without the model."""
    arguments = dict(signature.bind(model, *args, **given).arguments)
    del arguments["self"]
    return arguments


_OF_CHAT_PROMPT = tuple(
    name
    for name in inspect.signature(LocalModel.chat_prompt).parameters
    if name not in ("self", "messages")
)


def take_chat_arguments(given: dict[str, Any]) -> dict[str, Any]:
    """Remove from the arguments of a chat those of ``chat_prompt()``, and return them."""
    return {name: given.pop(name) for name in _OF_CHAT_PROMPT if name in given}
