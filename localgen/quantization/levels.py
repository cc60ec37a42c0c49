"""Names of quantization levels, and of the files that are made at them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from localgen._util.suggestions import did_you_mean
from localgen.gguf import gate
from localgen.hub.levels import level_of

# Other common names.
_SPELLINGS = {
    "Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M", "FP16": "F16", "FP32": "F32",
    "MXFP4": "MXFP4_MOE",
}  # fmt: skip
NOT_QUANTIZED = ("F32", "F16", "BF16", "F64", "I8", "I16", "I32", "I64")


def spelled_level(level: str) -> str:
    """Return llama.cpp's name of a level: Q4_K_M for "q4_k"."""
    name = level.strip().upper()
    return _SPELLINGS.get(name, name)


def ftypes_of(levels: Sequence[str]) -> dict[str, int]:
    """Return {level: llama.cpp's number}; raise ValueError for no levels or a repeated one."""
    if not levels:
        raise ValueError("levels is empty: name at least one, such as 'Q4_K_M'")
    numbers: dict[str, int] = {}
    for level in levels:
        name = spelled_level(level)
        if name in numbers:
            raise ValueError(f"levels contains {name} twice ({', '.join(levels)}): name each once")
        numbers[name] = ftype_of(name)
    return numbers


def ftype_of(level: str) -> int:
    from localgen.llama.quantize import quantization_types  # noqa: PLC0415  # loads llama.cpp

    known = quantization_types()
    if level not in known:
        hint = did_you_mean(level, known) or "."
        raise ValueError(
            f"unknown quantization level {level!r}{hint} llama.cpp writes {', '.join(known)}"
        )
    return known[level]


def stem_of(path: Path) -> str:
    """Return the source's name without its level: "model" for model.Q4_1.gguf."""
    stem = gate.shard_stem(path)
    level = level_of(f"{stem}.gguf")
    if level and stem.upper().endswith(level) and len(stem) > len(level):
        return stem[: -len(level)].rstrip("-._")
    return stem
