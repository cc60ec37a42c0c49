"""A function that takes an object of options is called with the arguments that make one."""

from __future__ import annotations

import inspect
from dataclasses import KW_ONLY, dataclass

import pytest

from localgen._util.call_signature import takes


@dataclass(frozen=True)
class Options:
    name: str
    sizes: tuple[int, ...] = ()
    _: KW_ONLY
    is_loud: bool = False


@takes(Options)
def described(options: Options) -> list[object]:
    """Return the options as a list."""
    return [options.name, options.sizes, options.is_loud]


def test_the_arguments_are_those_of_the_options() -> None:
    assert described("a", (1,), is_loud=True) == ["a", (1,), True]
    assert described(name="a") == ["a", (), False]


def test_callers_see_one_signature() -> None:
    own, made = inspect.signature(described), inspect.signature(Options, eval_str=True)
    assert own.parameters == made.parameters
    assert own.return_annotation == list[object]
    assert (described.__name__, described.__doc__) == ("described", "Return the options as a list.")


def test_an_unknown_argument_is_an_error_of_the_function() -> None:
    with pytest.raises(TypeError, match=r"described\(\) got an unexpected keyword argument 'loud'"):
        described("a", loud=True)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"described\(\) missing a required argument: 'name'"):
        described()  # type: ignore[call-arg]
