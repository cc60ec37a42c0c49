"""Suggests the known names that a wrong one is like; it does not know what they name."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from localgen._util.format import either

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
