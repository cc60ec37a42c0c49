"""Gives a function that takes one object of options the arguments that make such an object."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextlib import aclosing
from typing import Any, Concatenate, ParamSpec, TypeVar, cast, get_args, get_type_hints

Arguments = ParamSpec("Arguments")
Options = TypeVar("Options")
Owner = TypeVar("Owner")
Result = TypeVar("Result")


def takes(
    options: Callable[Arguments, Options],
) -> Callable[[Callable[[Options], Result]], Callable[Arguments, Result]]:
    """Return a decorator for functions of one object, which ``options`` makes.

    options: a class, or a function that returns the object. If it is generic, the annotation of the
    decorated function says of what. Callers, type checkers and ``inspect.signature`` see its
    arguments. Raises TypeError for others, as any call does.
    """

    def decorate(function: Callable[[Options], Result]) -> Callable[Arguments, Result]:
        signature = _signature(options, function)

        @functools.wraps(function)
        def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
            return function(_made(options, signature, function.__name__, args, kwargs))

        return _shown(call, signature)

    return decorate


def method_takes(
    options: Callable[Arguments, Options],
) -> Callable[
    [Callable[[Owner, Options], Result]], Callable[Concatenate[Owner, Arguments], Result]
]:
    """Return a decorator as ``takes`` does, for methods, which may be async."""

    def decorate(
        method: Callable[[Owner, Options], Result],
    ) -> Callable[Concatenate[Owner, Arguments], Result]:
        signature = _signature(options, method)

        def made(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Options:
            return _made(options, signature, method.__name__, args, kwargs)

        own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        shown = signature.replace(parameters=[own, *signature.parameters.values()])
        call = functools.wraps(method)(_called_with(made, method))
        return cast("Callable[Concatenate[Owner, Arguments], Result]", _shown(call, shown))

    return decorate


def _called_with(made: Callable[..., object], method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method of the same kind, plain or async, that calls it with the object."""

    def call(self: object, /, *args: Any, **kwargs: Any) -> Any:
        return method(self, made(args, kwargs))

    async def await_call(self: object, /, *args: Any, **kwargs: Any) -> Any:
        return await method(self, made(args, kwargs))

    async def iterate(self: object, /, *args: Any, **kwargs: Any) -> Any:
        async with aclosing(method(self, made(args, kwargs))) as items:
            async for item in items:
                yield item

    if inspect.isasyncgenfunction(method):
        return iterate
    return await_call if inspect.iscoroutinefunction(method) else call


def _made(
    options: Callable[..., Options],
    signature: inspect.Signature,
    name: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Options:
    """Return the object. Raises TypeError that names the function for arguments it lacks."""
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{name}() {error}") from None
    return options(*args, **kwargs)


def _shown(
    call: Callable[Arguments, Result], shown: inspect.Signature
) -> Callable[Arguments, Result]:
    """Return a function whose signature and annotations are those that are ``shown``."""
    call.__signature__ = shown  # type: ignore[attr-defined]
    annotations = {name: each.annotation for name, each in shown.parameters.items()}
    call.__annotations__ = {
        name: each for name, each in annotations.items() if each is not inspect.Parameter.empty
    } | {"return": shown.return_annotation}
    return call


def _signature(
    options: Callable[..., object], function: Callable[..., object]
) -> inspect.Signature:
    """Return the signature with types for their names, which mean them in other modules only."""
    signature, types = inspect.signature(options), get_type_hints(options)
    kind = options if isinstance(options, type) else types["return"]
    given, returned = get_type_hints(function).values()
    variables = getattr(kind, "__parameters__", ())
    values = dict(zip(variables, get_args(given), strict=True)) if variables else {}
    parameters = [
        each.replace(annotation=_filled(types[name], values))
        for name, each in signature.parameters.items()
    ]
    return signature.replace(parameters=parameters, return_annotation=returned)


def _filled(kind: Any, values: dict[Any, Any]) -> Any:
    """Return a type with its type variables replaced."""
    if isinstance(kind, TypeVar):
        return values[kind]
    variables = getattr(kind, "__parameters__", ())
    return kind[tuple(values[each] for each in variables)] if variables else kind
