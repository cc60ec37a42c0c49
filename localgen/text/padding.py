"""Padding and truncation of token ids: transformers' arguments, checked, and the cut itself."""

from __future__ import annotations

from dataclasses import dataclass

from localgen._util.checks import check_int

_PADDINGS = ("longest", "max_length", "do_not_pad")
_TRUNCATIONS = ("longest_first", "only_first", "do_not_truncate")


@dataclass(frozen=True, slots=True, kw_only=True)
class PaddingOptions:
    """The lengths that a batch is padded and cut to.

    pads: whether all sequences get one length: ``pad_to``, or that of the longest if None.
    cut_to: the most tokens of a sequence; None for no limit.
    """

    pads: bool
    pad_to: int | None = None
    cut_to: int | None = None


def padding_options(
    padding: bool | str, truncation: bool | str | None = None, max_length: int | None = None
) -> PaddingOptions:
    """Return what transformers' arguments mean.

    Raises ValueError for unknown values, and for a ``max_length`` that has no effect.
    """
    pads = _is_on("padding", padding, _PADDINGS)
    cuts = truncation is not None and _is_on("truncation", truncation, _TRUNCATIONS)
    to_max_length = padding == "max_length"
    if max_length is not None:
        check_int("max_length", max_length, 1)
        if not (cuts or to_max_length):
            raise ValueError(
                f"max_length={max_length} has no effect without truncation=True, which cuts "
                f"longer texts, or padding='max_length', which pads shorter ones; pass one or both"
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
    """Return a bool as it is; of ``names``, the last one means False and the others True."""
    if isinstance(value, bool):
        return value
    if value not in names:
        *on, off = map(repr, names)
        raise ValueError(f"{name} must be True or {' or '.join(on)}, False or {off}, got {value!r}")
    return value != names[-1]


def truncate(token_ids: list[int], plain: list[int], length: int, side: str) -> list[int]:
    """Return ``token_ids`` cut to ``length`` on ``side``; added special tokens stay.

    plain: the same text without added special tokens. Raises ValueError if those alone exceed
    ``length``.
    """
    n_special = len(token_ids) - len(plain)
    n_left = length - n_special
    if n_left < 0:
        raise ValueError(
            f"max_length={length} is too small: this model adds {n_special} special tokens to a "
            f"text. Use a larger max_length, or add_special_tokens=False"
        )
    n_before = next(n for n in range(n_special + 1) if token_ids[n : n + len(plain)] == plain)
    kept = plain[:n_left] if side == "right" else plain[len(plain) - n_left :]
    return [*token_ids[:n_before], *kept, *token_ids[n_before + len(plain) :]]


def check_side(name: str, side: object) -> str:
    """Return ``side``; raise ValueError unless it is "left" or "right"."""
    if side not in ("left", "right"):
        raise ValueError(f"{name} must be 'left' or 'right', got {side!r}")
    return str(side)
