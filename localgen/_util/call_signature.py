"""Gives a function that takes one object of options the arguments that make such an object."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar, get_type_hints

Arguments = ParamSpec("Arguments")
Options = TypeVar("Options")
Result = TypeVar("Result")


def takes(
    options: Callable[Arguments, Options],
) -> Callable[[Callable[[Options], Result]], Callable[Arguments, Result]]:
    """Return a decorator for functions of one object, which the class ``options`` makes.

    Callers, type checkers and ``inspect.signature`` see the arguments of the class. Raises
    TypeError for others, as any call does.
    """

    def decorate(function: Callable[[Options], Result]) -> Callable[Arguments, Result]:
        signature = _evaluated(options, returns=get_type_hints(function)["return"])

        @functools.wraps(function)
        def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
            try:
                signature.bind(*args, **kwargs)
            except TypeError as error:
                raise TypeError(f"{function.__name__}() {error}") from None
            return function(options(*args, **kwargs))

        call.__signature__ = signature  # type: ignore[attr-defined]
        call.__annotations__ = {
            **{name: each.annotation for name, each in signature.parameters.items()},
            "return": signature.return_annotation,
        }
        return call

    return decorate


def _evaluated(options: Callable[..., object], *, returns: object) -> inspect.Signature:
    """Return the signature with types for their names, which mean them in other modules only."""
    signature, types = inspect.signature(options), get_type_hints(options)
    parameters = [
        each.replace(annotation=types[name]) for name, each in signature.parameters.items()
    ]
    return signature.replace(parameters=parameters, return_annotation=returns)
