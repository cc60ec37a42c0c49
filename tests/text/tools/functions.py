"""Functions whose schemas are recorded and compared: every supported hint and docstring."""

# ruff: noqa: B006, UP006, UP007, UP035, UP045

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Annotated, Any, Dict, List, Literal, Optional, Tuple, Union


class Unit(enum.Enum):
    CELSIUS = "celsius"
    KELVIN = "kelvin"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Thing:
    def method(self, x: int) -> str:
        """Something that a thing does.

        Args:
            x: A number.
        """
        return str(x)

    @classmethod
    def of_class(cls, x: int) -> None:
        """Something of the class.

        Args:
            x: A number.
        """

    @staticmethod
    def alone(x: int = 3) -> None:
        """Something alone.

        Args:
            x: A number.
        """


def nothing() -> None:
    """Does nothing."""


def scalars(a: int, b: float, c: str, d: bool, e: Any) -> bool:
    """Takes one of each.

    Args:
        a: The first.
        b: The second.
        c: The third.
        d: The fourth.
        e: Whatever.

    Returns:
        Whether it did.
    """
    return True


def defaults(city: str, days: int = 3, unit: str = "celsius", *, exact: bool = False) -> float:
    """
    The temperature of a city, as it will be
    in some days.

    With a second paragraph: "quoted" & <tagged>.

    Args:
        city: Its name, as "Zürich".
        days: How far
            to look ahead,
              in days.
        unit (str, optional): celsius or kelvin. (choices: ["celsius", " kelvin "])
        exact (bool): No rounding: (choices: [true, false])

    Returns:
        The temperature,
        in degrees.

    Raises:
        ValueError: For no city.
    """
    return 20.0


def collections(
    a: list, b: list[int], c: list[list[str]], d: dict, e: dict[str, float], f: tuple,
    g: tuple[int, str], h: list[dict[str, list[bool]]],
) -> list[tuple[str, int]]:  # fmt: skip
    """Collections.

    Args:
        a: a
        b: b
        c: c
        d: d
        e: e
        f: f
        g: g
        h: h

    Returns:
        Pairs.
    """
    return []


def of_typing(
    a: List, b: List[int], c: Dict, d: Dict[str, int], e: Tuple, f: Tuple[int, str],
) -> List:  # fmt: skip
    """The names that typing had for them.

    Args:
        a: a
        b: b
        c: c
        d: d
        e: e
        f: f
    """
    return []


def unions(
    a: Optional[int], b: Union[int, str], c: int | None, d: Union[str, int, None] = None,
    e: list[int] | str = "", f: Optional[list[str]] = None, g: list | tuple = (),
    h: Union[int, str, float, bool] = 0, i: list[Union[int, None]] = [], j: dict | None = None,
    k: Optional[Any] = None, m: Any | int = 0,
) -> Optional[Union[int, list[str]]]:  # fmt: skip
    """Unions.

    Args:
        a: a
        b: b
        c: c
        d: d
        e: e
        f: f
        g: g
        h: h
        i: i
        j: j
        k: k
        m: m
    """
    return None


def literals(
    a: Literal["x", "y"], b: Literal[1, 2.5, "z", True, None],  # type: ignore[valid-type]
    c: Literal["only"] = "only",
    d: Optional[Literal["p", "q"]] = None, e: list[Literal[1, 2]] = [],
    f: Literal["x"] | int = 1,
) -> Literal["done"]:  # fmt: skip
    """Literals.

    Args:
        a: a
        b: b
        c: c
        d: d
        e: e
        f: f
    """
    return "done"


def enums(a: Unit, b: Level, c: Optional[Unit] = None, d: list[Unit] = []) -> Unit:
    """Enums.

    Args:
        a: a
        b: b
        c: c
        d: d
    """
    return a


def choices(a: str, b: int, c: Literal["u", "v"], d: list[str]) -> None:
    """Choices in the docstring.

    Args:
        a: What to drink (choices: ["tea", "coffee"])
        b: How much. (Choices: [1, 2, 3])
        c: Both (choices: ["u"])
        d: (not choices) of all kinds (choices: ["one (1)", "two"])
    """


def annotated(a: Annotated[int, "a note"], b: list[Annotated[str, "another"]]) -> None:
    """Annotated.

    Args:
        a: a
        b: b
    """


def colons(url: str, pattern: str, z: int = 0) -> str:
    """Uses: a colon. And a link: https://example.org/a:b

    Args:
        url: As https://example.org: with a colon.
            note: this is still about the url.
            z: and so is this.
        pattern (a regular expression, as re: takes it): What to find.

        z:
            On the next line.
    Returns:
        A text: the one that was found.
    """
    return ""


def extra_sections(x: int) -> int:
    """Has other sections.

    Args:
        x: A number.
        y: Is no argument.

    Returns:
        Another number.

    Raises:
        ValueError: Never.

    Examples:
        >>> extra_sections(1)
    """
    return x


def tabs(x: int, y: int) -> None:
    """Indented by tabs.

    Args:
    \tx: One.
    \t\tStill one.
    \ty: Two.
    """


def flat(x: int, y: str) -> None:
    """Arguments that are not indented.

    Args:
    x: One,
    which goes on.
    y: Two.
    """


def raises_first(x: int) -> None:
    """Raises before.

    Raises:
        ValueError: Always.

    Args:
        x: A number.
    """


def one_line_returns(x: int) -> int:
    """Adds one. Returns: what it made.

    Args:
        x: A number.
    """
    return x + 1


def unknown_return(x: int) -> Thing:
    """Returns what JSON does not have.

    Args:
        x: A number.

    Returns:
        A thing.
    """
    return Thing()


def no_return_hint(x: int):
    """Says what it returns without a type.

    Args:
        x: A number.

    Returns:
        A number.
    """
    return x


def any_return(x: int) -> Any:
    """Returns anything.

    Args:
        x: A number.

    Returns:
        Something
            indented. Returns: the same, once more.
    """
    return x


# --- those that have no schema ---


def no_docstring(x: int) -> None:
    pass


def no_description(x: int, y: int) -> None:
    """Says nothing of y.

    Args:
        x: A number.
    """


def no_args_section(x: int) -> None:
    """Says nothing of x."""


def no_hint(x) -> None:
    """Has no type.

    Args:
        x: Something.
    """


def custom_class(x: Thing) -> None:
    """Takes what JSON does not have.

    Args:
        x: A thing.
    """


def set_hint(x: set[int]) -> None:
    """Takes a set.

    Args:
        x: A set.
    """


def callable_hint(x: Callable[[int], str]) -> None:
    """Takes a function.

    Args:
        x: A function.
    """


def single_tuple(x: tuple[int]) -> None:
    """Takes one in a tuple.

    Args:
        x: One.
    """


def endless_tuple(x: tuple[int, ...]) -> None:
    """Takes a tuple of any length.

    Args:
        x: Many.
    """


def bytes_literal(x: Literal[b"a"]) -> None:
    """Takes bytes.

    Args:
        x: Bytes.
    """


def bad_choices(x: str) -> None:
    """Has choices that are no JSON.

    Args:
        x: One of them (choices: ['a', 'b'])
    """


def unknown_name(x: Nowhere) -> None:  # type: ignore[name-defined]  # noqa: F821
    """Has a type that is not there.

    Args:
        x: Something.
    """


FUNCTIONS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        nothing, scalars, defaults, collections, of_typing, unions, literals, enums, choices,
        annotated, colons, extra_sections, tabs, flat, raises_first, one_line_returns,
        unknown_return, no_return_hint, any_return, Thing().method, Thing.of_class, Thing.alone,
    )
}  # fmt: skip
FUNCTIONS["unbound_method"] = Thing.method
REFUSED: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        no_docstring, no_description, no_args_section, no_hint, custom_class, set_hint,
        callable_hint, single_tuple, endless_tuple, bytes_literal, bad_choices, unknown_name,
    )
}  # fmt: skip
