"""A function that takes an object of options is called with the arguments that make one."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator
from dataclasses import KW_ONLY, dataclass
from typing import Any, Generic, TypeVar, get_type_hints

import pytest

from localgen._util.call_signature import method_takes, takes


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


# --- methods ---

Items = TypeVar("Items")


@dataclass(frozen=True)
class Shown(Generic[Items]):
    items: Items
    options: dict[str, Any]


def shown(
    items: Items, *, width: int = 3, last: Items | None = None, **options: Any
) -> Shown[Items]:
    return Shown(items, {"width": width, "last": last, **options})


class Printer:
    """Its methods take one object; ``mark`` is the printer's own."""

    mark = "-"

    @method_takes(shown)
    def text(self, given: Shown[str]) -> str:
        """Return the text."""
        return f"{self.mark}{given.items}{given.options}"

    @method_takes(shown)
    async def later(self, given: Shown[list[int]]) -> int:
        return sum(given.items)

    @method_takes(shown)
    async def each(self, given: Shown[list[int]]) -> AsyncGenerator[int, None]:
        for item in given.items:
            yield item


def test_a_method_is_called_with_the_arguments() -> None:
    printer = Printer()
    assert printer.text("a", end=".") == "-a{'width': 3, 'last': None, 'end': '.'}"
    assert printer.text(items="a", width=1) == "-a{'width': 1, 'last': None}"
    with pytest.raises(TypeError, match=r"text\(\) missing a required argument: 'items'"):
        printer.text()  # type: ignore[call-arg]


def test_a_generic_object_has_the_types_that_the_method_says() -> None:
    signature = inspect.signature(Printer.text)
    assert [*signature.parameters] == ["self", "items", "width", "last", "options"]
    assert signature.parameters["items"].annotation is str
    assert signature.parameters["last"].annotation == str | None
    assert signature.return_annotation is str
    assert get_type_hints(Printer.later)["items"] == list[int]
    assert (Printer.text.__name__, Printer.text.__doc__) == ("text", "Return the text.")


def test_an_async_method_stays_one() -> None:
    assert inspect.iscoroutinefunction(Printer.later)
    assert inspect.isasyncgenfunction(Printer.each)
    assert not inspect.iscoroutinefunction(Printer.text)

    async def main() -> tuple[int, list[int]]:
        printer = Printer()
        return await printer.later([1, 2]), [item async for item in printer.each([3, 4])]

    assert asyncio.run(main()) == (3, [3, 4])


def test_leaving_an_async_iteration_closes_the_methods_own() -> None:
    closed = []

    class Endless:
        @method_takes(shown)
        async def each(self, given: Shown[int]) -> AsyncGenerator[int, None]:
            try:
                while True:
                    yield given.items
            finally:
                closed.append(given.items)

    async def main() -> None:
        items = Endless().each(5)
        assert await anext(items) == 5
        await items.aclose()
        assert closed == [5]

    asyncio.run(main())
