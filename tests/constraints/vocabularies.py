"""A small vocabulary for llguidance: every byte, some longer tokens, and special ones."""

from __future__ import annotations

from llguidance import LLTokenizer, TokenizerWrapper

from localgen.constraints.compiler import CompiledConstraint, Compiler

_LONGER = ['": ', '", ', '{"', '"}', "null", "true", "1.", "e+", "é", "ab", '\\"', "20", "}}", "]]"]
PIECES = (
    [bytes([code]) for code in range(256)] + [each.encode() for each in _LONGER] + [b"\xf0\x9f"]
)
N_VOCAB = len(PIECES) + 2  # two special tokens


class _Bytes:
    eos_token_id = N_VOCAB
    bos_token_id = None
    tokens = (*PIECES, b"<pad>", b"<end>", b"<guide>")
    special_token_ids = (N_VOCAB - 2, N_VOCAB - 1, N_VOCAB)

    def __call__(self, text: str | bytes) -> list[int]:
        return list(text.encode() if isinstance(text, str) else text)


def byte_compiler() -> Compiler:
    tokenizer = LLTokenizer(TokenizerWrapper(_Bytes()), n_vocab=N_VOCAB + 1)
    return Compiler(lambda: tokenizer, N_VOCAB)


def allows(constraint: CompiledConstraint, text: str) -> bool:
    """Whether a text, byte by byte, is let through to its end."""
    matcher = constraint.matcher()
    for code in text.encode():
        if matcher.is_done or not matcher.mask()[code // 8] >> code % 8 & 1:
            return False
        matcher.accept(code)
    return matcher.may_end
