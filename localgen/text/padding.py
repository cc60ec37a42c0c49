"""To which lengths rows of token ids are cut and padded: transformers' arguments, checked."""

from __future__ import annotations

from dataclasses import dataclass

from localgen._util.checks import check_int

_PADDINGS = ("longest", "max_length", "do_not_pad")
_TRUNCATIONS = ("longest_first", "only_first", "do_not_truncate")


@dataclass(frozen=True, slots=True, kw_only=True)
class PaddingOptions:
    """pads: whether rows get one length, ``pad_to`` or that of the longest. cut_to: the most tokens
    of a row, None for any number."""

    pads: bool
    pad_to: int | None = None
    cut_to: int | None = None


def padding_options(
    padding: bool | str, truncation: bool | str | None = None, max_length: int | None = None
) -> PaddingOptions:
    """What the arguments mean; ValueError for others, and for a max_length that nothing reads."""
    pads = _is_on("padding", padding, _PADDINGS)
    cuts = truncation is not None and _is_on("truncation", truncation, _TRUNCATIONS)
    to_max_length = padding == "max_length"
    if max_length is not None:
        check_int("max_length", max_length, 1)
        if not (cuts or to_max_length):
            raise ValueError(
                f"max_length={max_length} is read with truncation=True, which cuts longer texts, "
                f"or with padding='max_length', which fills shorter ones; give one, or both"
            )
    elif cuts or to_max_length:
        asked = f"truncation={truncation!r}" if cuts else "padding='max_length'"
        raise ValueError(f"{asked} needs max_length, the number of tokens")
    return PaddingOptions(
        pads=pads,
        pad_to=max_length if to_max_length else None,
        cut_to=max_length if cuts else None,
    )


def _is_on(name: str, value: bool | str, names: tuple[str, ...]) -> bool:
    """Whether it is True or one of ``names`` but the last, which is False."""
    if isinstance(value, bool):
        return value
    if value not in names:
        *on, off = map(repr, names)
        raise ValueError(f"{name} must be True or {' or '.join(on)}, False or {off}, got {value!r}")
    return value != names[-1]


def cut(row: list[int], plain: list[int], length: int, side: str) -> list[int]:
    """``row`` cut to ``length``, on ``side`` of ``plain``, what it is without its special tokens.

    Those that were added around stay, as in transformers. ValueError if they alone are too many.
    """
    n_special = len(row) - len(plain)
    n_left = length - n_special
    if n_left < 0:
        raise ValueError(
            f"max_length is {length}, and this model adds {n_special} special tokens to a text"
        )
    n_before = next(n for n in range(n_special + 1) if row[n : n + len(plain)] == plain)
    kept = plain[:n_left] if side == "right" else plain[len(plain) - n_left :]
    return [*row[:n_before], *kept, *row[n_before + len(plain) :]]


def check_side(name: str, side: object) -> str:
    """``side`` if it is one."""
    if side not in ("left", "right"):
        raise ValueError(f"{name} must be 'left' or 'right', got {side!r}")
    return str(side)
