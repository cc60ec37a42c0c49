"""How GGUF files store the values of tensors: ggml's types, by number."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TensorType:
    """Blocks of ``block`` values in ``n_bytes`` bytes each."""

    name: str
    block: int
    n_bytes: int


# By ggml's number, without types that it dropped, and without Q8_1 and Q8_K, which only activations
# have.
TENSOR_TYPES = {
    number: TensorType(name, block, n_bytes)
    for number, name, block, n_bytes in (
        (0, "F32", 1, 4), (1, "F16", 1, 2), (2, "Q4_0", 32, 18), (3, "Q4_1", 32, 20),
        (6, "Q5_0", 32, 22), (7, "Q5_1", 32, 24), (8, "Q8_0", 32, 34),
        (10, "Q2_K", 256, 84), (11, "Q3_K", 256, 110), (12, "Q4_K", 256, 144),
        (13, "Q5_K", 256, 176), (14, "Q6_K", 256, 210),
        (16, "IQ2_XXS", 256, 66), (17, "IQ2_XS", 256, 74), (18, "IQ3_XXS", 256, 98),
        (19, "IQ1_S", 256, 50), (20, "IQ4_NL", 32, 18), (21, "IQ3_S", 256, 110),
        (22, "IQ2_S", 256, 82), (23, "IQ4_XS", 256, 136), (24, "I8", 1, 1), (25, "I16", 1, 2),
        (26, "I32", 1, 4), (27, "I64", 1, 8), (28, "F64", 1, 8), (29, "IQ1_M", 256, 56),
        (30, "BF16", 1, 2), (34, "TQ1_0", 256, 54), (35, "TQ2_0", 256, 66), (39, "MXFP4", 32, 17),
        (40, "NVFP4", 64, 36), (41, "Q1_0", 128, 18), (42, "Q2_0", 64, 18),
    )
}  # fmt: skip

# Types that no file should have today, by number: names of ggml's and of forks' headers.
_REMOVED = {4: "Q4_2", 5: "Q4_3"}
_REPACKED = {
    31: "Q4_0_4_4", 32: "Q4_0_4_8", 33: "Q4_0_8_8",
    36: "IQ4_NL_4_4", 37: "IQ4_NL_4_8", 38: "IQ4_NL_8_8",
}  # fmt: skip
_OF_BITNET = {36: "I2_S", 37: "I8_S", 38: "TL1"}
_OF_ACTIVATIONS = {9: "Q8_1", 15: "Q8_K"}
_OF_IK_LLAMA = {
    133: "Q6_0", 134: "IQ1_BN", 135: "IQ2_BN", 137: "IQ2_K", 138: "IQ3_K", 139: "IQ4_K",
    140: "IQ5_K", 141: "IQ6_K", 142: "IQ2_TN", 143: "IQ1_TN", 144: "IQ4_KS", 145: "IQ2_KS",
    146: "IQ4_KSS", 152: "IQ5_KS", 153: "IQ2_KT", 154: "IQ3_KT", 155: "IQ4_KT", 156: "IQ3_KS",
    157: "IQ2_KL", 158: "IQ1_KT",
}  # fmt: skip
# ik_llama.cpp numbers a type whose rows are interleaved 200 above the plain one.
_INTERLEAVED = 200
_REQUANTIZE = "quantize the original model again"


def why_unknown(number: int) -> str:
    """Return what a type is that ``TENSOR_TYPES`` lacks, and what to do about it."""
    if number in _REMOVED:
        return f"{_REMOVED[number]}, which llama.cpp removed in 2023; {_REQUANTIZE}"
    if number in _REPACKED:
        plain = _REPACKED[number].rsplit("_", 2)[0]
        fork = _OF_BITNET.get(number)
        or_fork = f" (or bitnet.cpp's {fork}, which only bitnet.cpp reads)" if fork else ""
        return (
            f"{_REPACKED[number]}, which llama.cpp removed, since it repacks {plain} at load"
            f"{or_fork}; use {plain}, or {_REQUANTIZE}"
        )
    if number in _OF_ACTIVATIONS:
        return f"{_OF_ACTIVATIONS[number]}, which is for activations only; {_REQUANTIZE}"
    known = {kind: each.name for kind, each in TENSOR_TYPES.items()} | _OF_IK_LLAMA
    if number in _OF_IK_LLAMA or number - _INTERLEAVED in known:
        rows = "" if number in known else " with interleaved rows"
        name = known.get(number) or known[number - _INTERLEAVED]
        return f"{name}{rows}, which only ik_llama.cpp reads; use it, or {_REQUANTIZE}"
    return f"a newer llama.cpp or a fork wrote it; {_REQUANTIZE}, or update llama-cpp-python"
