"""Refuses vocabularies that llama.cpp would not survive, by their type; it tokenizes nothing.

Each type takes other things for granted: see ``llama-vocab.cpp`` in llama.cpp. Of an unknown type
only what all types need is checked.
"""

from __future__ import annotations

import re

import numpy as np

from localgen.gguf.charsmap import check_charsmap
from localgen.gguf.reader import GGUF, TOKENS, Array
from localgen.gguf.refusal import refuse
from localgen.gguf.vocab_types import (
    BOS,
    BPE,
    EOS,
    MODEL,
    PRE,
    SEPARATOR,
    TYPES,
    UNKNOWN,
    WHITESPACE,
    VocabType,
    type_of,
)

_N_BYTES = 256
_BYTE_TYPE = 6
_BYTE_NAME = len("<0x00>")
_BYTE_TOKEN = re.compile(rb"<0x[0-9A-Fa-f]{2}>")
_MERGES = "tokenizer.ggml.merges"
# Arrays with one item per token → the types that llama.cpp accepts.
_PER_TOKEN = {
    "tokenizer.ggml.scores": ("f32", "i32"),
    "tokenizer.ggml.token_type": ("i32", "u32"),
}
_USES = {
    BOS: "adds a BOS token before a text",
    EOS: "adds an EOS token after a text",
    UNKNOWN: "uses a token for unknown characters",
    SEPARATOR: "adds a separator after a text",
}
# llama.cpp walks the branches of its trees by recursion, and PLaMo-2's table grows with the square
# of a token's length. Real tokens have some hundred bytes at most.
_MAX_TOKEN_BYTES = 1024
_RWKV_ESCAPES = {b"t": b"\t", b"n": b"\n", b"r": b"\r", b"x": b""}
_RWKV_HEX = re.compile(rb"\\x[0-9a-f]{2}")


def check_vocabulary(file: GGUF) -> None:
    """Raise InvalidGGUFError if llama.cpp would not survive loading the vocabulary, or some text.

    A file that names no type is left to llama.cpp, which refuses it.
    """
    tokens = file.metadata.get(TOKENS)
    if not isinstance(tokens, Array) or tokens.type != "string" or not tokens.length:
        refuse(file, f"it has no vocabulary: {TOKENS} must be a list of strings")
    for key, types in _PER_TOKEN.items():
        values = file.metadata.get(key)
        if values is None:
            continue
        if not isinstance(values, Array) or values.type not in types:
            refuse(file, f"{key} must be a list of {' or '.join(types)}")
        elif values.length != tokens.length:
            refuse(file, f"{key} has {values.length} items for {tokens.length} tokens")
    merges = file.metadata.get(_MERGES)
    if merges is not None and not (isinstance(merges, Array) and merges.type == "string"):
        refuse(file, f"{_MERGES} must be a list of strings")
    _check_repeats(file)
    if (name := file.metadata.get(MODEL)) is not None:
        _check_type(file, name)


def _check_repeats(file: GGUF) -> None:
    # A C string ends at its first NUL. llama.cpp gives empty tokens distinct names.
    tokens = file.tokens
    if not (tokens.has_nul or tokens.may_repeat() or tokens.of_lengths(0)):
        return
    seen: set[bytes] = set()
    for token_id, token in enumerate(map(_as_c_string, tokens)):
        named = token or b"[EMPTY_%d]" % token_id
        if named in seen:
            refuse(file, f"token {token_id}, {named[:80]!r}, appears twice in its vocabulary")
        seen.add(named)


def _as_c_string(token: bytes) -> bytes:
    return token.split(b"\0", 1)[0]


def _of_lengths(file: GGUF, *lengths: int) -> set[bytes]:
    """Return at least the tokens with one of these lengths, in bytes, as C reads them."""
    tokens = file.tokens
    return set(map(_as_c_string, tokens)) if tokens.has_nul else tokens.of_lengths(*lengths)


# --- by type ---


def _check_type(file: GGUF, name: object) -> None:
    if not isinstance(name, str):
        refuse(file, f"{MODEL} must be a string, got {name!r}")
    if name in ("no_vocab", "none"):
        refuse(
            file,
            f"its vocabulary has the type {name!r}, without tokens, so it cannot read text; "
            f"convert the model again, together with its tokenizer",
        )
    pre = file.metadata.get(PRE)
    if pre == WHITESPACE and TYPES.get(name) is BPE and name != WHITESPACE:
        refuse(
            file,
            f"{PRE} is {WHITESPACE!r} and {MODEL} is {name!r}: llama.cpp would abort at two "
            f"spaces in a row; convert the model again, with {MODEL}={WHITESPACE!r}",
        )
    kind = type_of(name, pre)
    if kind is None:
        check_charsmap(file)  # its format is SentencePiece's, whatever type has one
        return
    _check_special(file, name, kind)
    if kind.has_trees and file.tokens.longest > _MAX_TOKEN_BYTES:
        refuse(
            file,
            f"a token of its vocabulary has {file.tokens.longest} bytes; the limit for the type "
            f"{name!r} is {_MAX_TOKEN_BYTES}",
        )
    if name == "llama":
        _check_bytes(file, _of_lengths(file, 1, _BYTE_NAME))
    elif name == "bert":
        _check_no_bytes(file)
    elif name == "rwkv":
        _check_rwkv(file, _of_lengths(file, 1, 2, 4))
    elif name == "t5":
        check_charsmap(file)


def _check_special(file: GGUF, name: str, kind: VocabType) -> None:
    """Check that each special token that a text may need has an id; llama.cpp asserts it."""
    for special in (BOS, EOS, UNKNOWN, SEPARATOR):
        adds = file.metadata.get(f"tokenizer.ggml.add_{special}_token", kind.adds.get(special))
        is_needed = special in kind.needs or (special in kind.adds and adds is not False)
        if is_needed and not _has_id(file, special, kind.defaults.get(special)):
            refuse(
                file,
                f"its vocabulary, of the type {name!r}, {_USES[special]}, but "
                f"tokenizer.ggml.{special}_token_id is none of its {len(file.tokens)} tokens; "
                f"set that key, or convert the model again",
            )


def _has_id(file: GGUF, special: str, default: int | None) -> bool:
    """Return whether a special token's id, or else its default, is in the vocabulary."""
    for token_id in (file.metadata.get(f"tokenizer.ggml.{special}_token_id"), default):
        if type(token_id) is int and 0 <= token_id < len(file.tokens):
            return True
    return False


def _check_bytes(file: GGUF, tokens: set[bytes]) -> None:
    """Check that a SentencePiece vocabulary has all bytes, which spell unknown characters.

    tokens: at least those that could be one byte.
    """
    missing = [
        byte
        for byte in range(_N_BYTES)
        if b"<0x%02X>" % byte not in tokens and bytes([byte]) not in tokens
    ]
    if missing:
        refuse(
            file,
            f"its SentencePiece vocabulary lacks {len(missing)} of the {_N_BYTES} byte tokens; "
            f"llama.cpp would abort at the first unknown character",
        )
    for token_id in _byte_ids(file):
        if not _BYTE_TOKEN.fullmatch(file.tokens[token_id]):
            refuse(
                file,
                f"token {token_id}, {file.tokens[token_id][:80]!r}, is marked as a byte token, "
                f"but is not of the form <0x00>",
            )


def _check_no_bytes(file: GGUF) -> None:
    """Check that a WordPiece vocabulary has no byte tokens, at which llama.cpp aborts."""
    if token_ids := _byte_ids(file):
        refuse(
            file,
            f"token {token_ids[0]}, {file.tokens[token_ids[0]][:80]!r}, is marked as a byte "
            f"token, which a vocabulary of the type 'bert' cannot have",
        )


def _byte_ids(file: GGUF) -> list[int]:
    """Return the tokens that the file marks as byte tokens."""
    types = file.metadata.get("tokenizer.ggml.token_type")
    if not isinstance(types, Array) or types.values is None:
        return []
    found: list[int] = np.flatnonzero(types.values == _BYTE_TYPE).tolist()
    return found


def _check_rwkv(file: GGUF, tokens: set[bytes]) -> None:
    """Check that an RWKV vocabulary has all single bytes; without one, llama.cpp may loop forever.

    tokens: at least those that could be one byte.
    """
    n_missing = _N_BYTES - len({byte for byte in map(_rwkv_byte, tokens) if byte})
    if n_missing:
        refuse(
            file,
            f"its RWKV vocabulary lacks {n_missing} of the {_N_BYTES} single-byte tokens; "
            f"llama.cpp would never finish tokenizing some texts",
        )


def _rwkv_byte(token: bytes) -> bytes:
    """Return the byte that an escaped token stands for; empty unless it is a single one."""
    if len(token) == 1:
        return token.replace(b"\\", b"")
    if len(token) == 2 and token.startswith(b"\\"):
        return _RWKV_ESCAPES.get(token[1:], token[1:])
    return bytes.fromhex(token[2:].decode()) if _RWKV_HEX.fullmatch(token) else b""
