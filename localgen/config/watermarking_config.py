"""The options of a watermark, and the forms in which they are passed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from localgen._util.option_fields import check_fields, choice, integer, number, option

SEEDING_SCHEMES = ("lefthash", "selfhash")


@dataclass(frozen=True, slots=True, kw_only=True)
class WatermarkingConfig:
    """How generated text is marked, so that ``WatermarkDetector`` finds it; as in transformers.

    After each token a part of the vocabulary is "green", and its logits are raised.
    greenlist_ratio: that part. bias: what is added. hashing_key: a number that only who may detect
    the mark should know. seeding_scheme: "lefthash" takes the green tokens from the last token,
    "selfhash" (slower) from the last ``context_width`` tokens, the new one included. With fewer
    tokens than ``context_width`` nothing is marked.
    """

    greenlist_ratio: float = option(0.25, number("between 0 and 1, exclusively", 1e-9, 1 - 1e-9))
    bias: float = option(2.0, number("between -1e4 and 1e4", -1e4, 1e4))
    hashing_key: int = option(15485863, integer(0, 2**63 - 1))
    seeding_scheme: str = option("lefthash", choice(SEEDING_SCHEMES))
    context_width: int = option(1, integer(1, 2**16))

    def __post_init__(self) -> None:
        check_fields(self)

    def to_dict(self) -> dict[str, Any]:
        """Return all options by name, as transformers' own does."""
        return dataclasses.asdict(self)


_WATERMARK_NAMES = tuple(each.name for each in fields(WatermarkingConfig))


def check_watermark(name: str, value: object) -> WatermarkingConfig:
    """Return a watermark given as a config, localgen's or transformers', or as a dict."""
    if isinstance(value, WatermarkingConfig):
        return value
    is_dict = isinstance(value, Mapping)
    given: Any = value if is_dict else getattr(value, "__dict__", {})
    if "ngram_len" in given:
        raise ValueError(
            f"{name} must be a WatermarkingConfig: localgen has no SynthID watermark, whose "
            f"detector is a model that has to be trained for each key, in torch"
        )
    unknown = [each for each in given if each not in _WATERMARK_NAMES]
    if unknown or not (is_dict or given):
        raise ValueError(
            f"{name} must be a WatermarkingConfig, or a dict of {', '.join(_WATERMARK_NAMES)}, got "
            f"{value!r:.80}"
        )
    return WatermarkingConfig(**given)
