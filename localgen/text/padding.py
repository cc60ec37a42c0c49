"""Padding and truncation of token ids: transformers' arguments, checked, and the cut itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from localgen._util.checks import check_int
from localgen._util.warn import warn

_PADDINGS = ("longest", "max_length", "do_not_pad")
_TRUNCATIONS = ("longest_first", "only_first", "do_not_truncate")


@dataclass(frozen=True, slots=True, kw_only=True)
class PaddingOptions:
    """The lengths that a batch is padded and cut to.

    pads: whether all sequences get one length: ``pad_to``, or that of the longest if None, rounded
    up to a multiple of ``multiple_of``. cut_to: the most tokens of a sequence; None for no limit.
    """

    pads: bool
    pad_to: int | None = None
    multiple_of: int = 1
    cut_to: int | None = None


def padding_options(
    padding: bool | str,
    truncation: bool | str | None = None,
    max_length: int | None = None,
    *,
    pad_to_multiple_of: int | None = None,
    model_max_length: int | None = None,
) -> PaddingOptions:
    """Return what transformers' arguments mean.

    model_max_length: the default of ``max_length``. A ``max_length`` alone cuts, with a warning.
    Raises ValueError for unknown values, and for arguments that have no effect.
    """
    pads = _is_on("padding", padding, _PADDINGS)
    cuts = truncation is not None and _is_on("truncation", truncation, _TRUNCATIONS)
    to_max_length = padding == "max_length"
    if max_length is not None:
        check_int("max_length", max_length, 1)
        if truncation is None and not pads:
            warn(f"max_length={max_length} cuts longer texts; pass truncation=True to confirm it")
            cuts = True
        elif not (cuts or to_max_length):
            raise ValueError(
                f"max_length={max_length} has no effect without truncation=True, which cuts "
                f"longer texts, or padding='max_length', which pads shorter ones; pass one or both"
            )
    elif cuts or to_max_length:
        max_length = model_max_length
        if max_length is None:
            asked = f"truncation={truncation!r}" if cuts else "padding='max_length'"
            raise ValueError(
                f"{asked} needs max_length, the number of tokens: this model's file does not say "
                f"how many tokens the model was trained on"
            )
    return PaddingOptions(
        pads=pads,
        pad_to=max_length if to_max_length else None,
        multiple_of=_multiple(pad_to_multiple_of, pads, max_length if cuts else None),
        cut_to=max_length if cuts else None,
    )


def _multiple(multiple: int | None, pads: bool, cut_to: int | None) -> int:
    if multiple is None:
        return 1
    check_int("pad_to_multiple_of", multiple, 1)
    if not pads:
        raise ValueError(f"pad_to_multiple_of={multiple} has no effect without padding=True")
    if cut_to is not None and cut_to % multiple:
        raise ValueError(
            f"max_length={cut_to} must be a multiple of pad_to_multiple_of={multiple} to cut and "
            f"pad to it"
        )
    return multiple


def _is_on(name: str, value: bool | str, names: tuple[str, ...]) -> bool:
    """Return a bool as it is; of ``names``, the last one means False and the others True."""
    if isinstance(value, bool):
        return value
    if value not in names:
        *on, off = map(repr, names)
        raise ValueError(f"{name} must be True or {' or '.join(on)}, False or {off}, got {value!r}")
    return value != names[-1]


def padded_length(lengths: list[int], padding: PaddingOptions) -> int:
    """Return the one length of a batch of sequences.

    Raises ValueError if the sequences differ in length and are not padded, or do not fit.
    """
    shortest, longest = min(lengths), max(lengths)
    if not padding.pads and shortest < longest:
        raise ValueError(
            f"the texts have {shortest} to {longest} tokens, which is not a rectangular array; "
            f"use padding=True, or leave return_tensors out for lists"
        )
    if padding.pad_to is not None and longest > padding.pad_to:
        raise ValueError(
            f"max_length={padding.pad_to} is too small for a text of {longest} tokens; use "
            f"truncation=True to cut it, or a larger max_length"
        )
    length = longest if padding.pad_to is None else padding.pad_to
    return -(-length // padding.multiple_of) * padding.multiple_of


def pad(values: list[Any], fill: Any, length: int, side: str) -> list[Any]:
    """Return ``values`` with ``fill`` on ``side`` up to ``length``."""
    more = [fill] * (length - len(values))
    return [*more, *values] if side == "left" else [*values, *more]


def truncate(values: list[Any], n_before: int, n_after: int, length: int, side: str) -> list[Any]:
    """Return a column of an encoded text cut to ``length`` on ``side``; added special tokens stay.

    n_before, n_after: how many special tokens were added. Raises ValueError if those alone exceed
    ``length``.
    """
    n_left = length - n_before - n_after
    if n_left < 0:
        raise ValueError(
            f"max_length={length} is too small: this model adds {n_before + n_after} special "
            f"tokens to a text. Use a larger max_length, or add_special_tokens=False"
        )
    end = len(values) - n_after
    if end - n_before <= n_left:
        return values
    kept = (n_before, n_before + n_left) if side == "right" else (end - n_left, end)
    return [*values[:n_before], *values[slice(*kept)], *values[end:]]


def check_side(name: str, side: object) -> str:
    """Return ``side``; raise ValueError unless it is "left" or "right"."""
    if side not in ("left", "right"):
        raise ValueError(f"{name} must be 'left' or 'right', got {side!r}")
    return str(side)
