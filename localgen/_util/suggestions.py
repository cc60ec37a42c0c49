"""Suggests the known names that a wrong one is like; it does not know what they name."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable

from localgen._util.format import either
from localgen._util.home import expand_user

_CUTOFF = 0.6


def similar_names(
    name: str, known: Iterable[str], *, n: int = 3, cutoff: float = _CUTOFF
) -> list[str]:
    """Return at most ``n`` known names that are like ``name``, upper or lower case, best first.

    cutoff: how like they must be, from 0 to 1, as in ``difflib.get_close_matches``.
    """
    import difflib  # noqa: PLC0415  # only for messages

    by_lower = {each.lower(): each for each in known}
    return [by_lower[each] for each in difflib.get_close_matches(name.lower(), by_lower, n, cutoff)]


def did_you_mean(
    name: str,
    known: Iterable[str],
    *,
    n: int = 3,
    cutoff: float = _CUTOFF,
    shown: Callable[[str], str] = str,
) -> str:
    """Return "; did you mean a, b or c?" for a name that is not known, "" if none is like it.

    shown: how a name is written, such as ``repr``.
    """
    near = similar_names(name, known, n=n, cutoff=cutoff)
    return f"; did you mean {either([shown(each) for each in near])}?" if near else ""


def check_file_or_name(value: str | os.PathLike[str], names: Iterable[str]) -> None:
    """Raise FileNotFoundError for a file that does not exist, unless it is one of ``names``.

    The error suggests the name that is like it.
    """
    names = tuple(names)
    if value not in names and not os.path.lexists(expand_user(value)):
        hint = did_you_mean(os.fspath(value), names, shown=repr)
        raise FileNotFoundError(errno.ENOENT, f"no such file{hint}", os.fspath(value))
