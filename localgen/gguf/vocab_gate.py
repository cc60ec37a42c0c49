"""Refuses vocabularies that llama.cpp would not survive, by their type; it tokenizes nothing.

Each type of vocabulary takes other things for granted: see ``llama-vocab.cpp`` in llama.cpp.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

from localgen.gguf.charsmap import check_charsmap
from localgen.gguf.reader import GGUF, TOKENS, Array
from localgen.gguf.refusal import refuse

_N_BYTES = 256
_BYTE_TYPE = 6
_BYTE_NAME = len("<0x00>")
_BYTE_TOKEN = re.compile(rb"<0x[0-9A-Fa-f]{2}>")
MODEL, PRE = "tokenizer.ggml.model", "tokenizer.ggml.pre"
# What stands beside each token, and the types that llama.cpp reads it as.
_BESIDE_TOKENS = {
    "tokenizer.ggml.scores": ("f32", "i32"),
    "tokenizer.ggml.token_type": ("i32", "u32"),
}
# By the names in a file's keys, the last one spelled as it is there.
_BOS, _EOS, _UNKNOWN, _SEPARATOR = "bos", "eos", "unknown", "seperator"
_IN_WORDS = {
    _BOS: "puts a BOS token before a text",
    _EOS: "puts an EOS token after a text",
    _UNKNOWN: "has a token for what it does not know",
    _SEPARATOR: "puts a separator after a text",
}
# llama.cpp spells tokens out in trees, and walks a branch by recursion; PLaMo-2's table takes the
# square of a token's length. Real tokens have some hundred bytes at most.
_MAX_TOKEN_BYTES = 1024
_RWKV_ESCAPES = {b"t": b"\t", b"n": b"\n", b"r": b"\r", b"x": b""}
_RWKV_HEX = re.compile(rb"\\x[0-9a-f]{2}")


@dataclass(frozen=True, slots=True)
class _Type:
    """What a type of vocabulary needs.

    defaults: ids of special tokens that the file need not name. needs: those that it always uses.
    adds: those that it adds to a text, by whether it does if the file does not say.
    """

    defaults: dict[str, int] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    adds: dict[str, bool] = field(default_factory=dict)
    has_trees: bool = False


_WHITESPACE = "whitespace"
_GPT2 = _Type({_BOS: 11, _EOS: 11}, adds={_BOS: True, _EOS: False})
# The same with some pre-tokenizers.
_GPT2_OF_GLM = _Type({_EOS: 11}, adds={_BOS: False, _EOS: False})
_GPT2_OF_GEMMA = _Type({_BOS: 11, _EOS: 11}, needs=(_BOS,), adds={_EOS: False})
_GPT2_BY_PRE = {
    "chatglm-bpe": _GPT2_OF_GLM,
    "glm4": _GPT2_OF_GLM,
    "glm5": _GPT2_OF_GLM,
    "gemma4": _GPT2_OF_GEMMA,
    "granite-embed-multi-311m": _GPT2_OF_GEMMA,
}
TYPES = {
    "llama": _Type({_BOS: 1, _EOS: 2}, adds={_BOS: True, _EOS: False}),
    "gpt2": _GPT2,
    "hybriddna": _GPT2,
    _WHITESPACE: _GPT2,
    "gemma4": _Type(needs=(_BOS,), adds={_EOS: False}),
    "bert": _Type({_BOS: 101, _UNKNOWN: 100, _SEPARATOR: 102}, needs=(_BOS, _UNKNOWN, _SEPARATOR)),
    "t5": _Type(
        {_EOS: 1, _UNKNOWN: 2}, needs=(_UNKNOWN,), adds={_BOS: False, _EOS: True}, has_trees=True
    ),
    "rwkv": _Type(has_trees=True),
    "plamo2": _Type(has_trees=True),
    "test": _Type(),
}
# How byte-level BPE may split a text first, by llama.cpp's commit 0c1e57098. Each needs what
# ``_GPT2`` does, or what ``_GPT2_BY_PRE`` says; a name that is not here may need more.
_PRE_NAMES = """
a.x-4.0 afmoe bailingmoe bailingmoe2 bloom chameleon chatglm-bpe codeshell cohere2moe command-r dbrx
deepseek-coder deepseek-llm deepseek-r1-qwen deepseek-v3 default exaone exaone-moe exaone4 f2llmv2
falcon falcon-h1 falcon3 gemma4 gigachat glm4 glm5 gpt-2 gpt-4o gpt3-finnish granite-docling
granite-embed-multi-311m granite-embed-multi-97m grok-2 hunyuan hunyuan-dense hy_v4 jais jais-2
jina-de jina-es jina-v1-en jina-v2-code jina-v2-de jina-v2-es jina-v5-nano joyai-llm kanana2 kimi-k2
kormo laguna lfm2 llada-moe llama-bpe llama-v3 llama3 llama4 megrez mellum mellum2 midm-2.0
minerva-7b minicpm5 minimax-m2 modern-bert mpt olmo phi-2 pixtral poro-chat qwen2 qwen35 refact
roberta-bpe sarvam-moe seed-coder smaug-bpe smollm solar-open spark2_5 stablelm2 starcoder superbpe
talkie tekken tiny_aya trillion ufakzeka viking whitespace youtu
"""
PRE_TOKENIZERS = frozenset(_PRE_NAMES.split())
_MAX_SHOWN = 60


def check_vocabulary(file: GGUF) -> None:
    """Raise InvalidGGUFError if llama.cpp would not survive reading the vocabulary, or any text.

    A file that names no type is left to llama.cpp, which refuses it.
    """
    tokens = file.metadata.get(TOKENS)
    if not isinstance(tokens, Array) or tokens.type != "string" or not tokens.length:
        refuse(file, f"it has no vocabulary: {TOKENS} is no list of texts")
    for key, types in _BESIDE_TOKENS.items():
        beside = file.metadata.get(key)
        if beside is None:
            continue
        if not isinstance(beside, Array) or beside.type not in types:
            refuse(file, f"{key} is no list of {' or '.join(types)}")
        elif beside.length != tokens.length:
            refuse(file, f"{key} has {beside.length} items for {tokens.length} tokens")
    merges = file.metadata.get("tokenizer.ggml.merges")
    if merges is not None and not (isinstance(merges, Array) and merges.type == "string"):
        refuse(file, "tokenizer.ggml.merges is no list of texts")
    _check_repeats(file)
    if (name := file.metadata.get(MODEL)) is not None:
        _check_type(file, name)


def unknown_type(file: GGUF) -> str | None:
    """Return the key and value that name a type of vocabulary without rules here, or None.

    What holds for every type is checked all the same; the rest only a trial can tell.
    """
    model, pre = file.metadata.get(MODEL), file.metadata.get(PRE)
    if not isinstance(model, str):
        return None
    if model not in TYPES:
        return f"{MODEL}={model[:_MAX_SHOWN]!r}"
    if TYPES[model] is _GPT2 and isinstance(pre, str) and pre and pre not in PRE_TOKENIZERS:
        return f"{PRE}={pre[:_MAX_SHOWN]!r}"
    return None


def _check_repeats(file: GGUF) -> None:
    # A C string ends at its first NUL. Of empty tokens llama.cpp makes different ones.
    tokens = file.tokens
    if not (tokens.has_nul or tokens.may_repeat() or tokens.of_lengths(0)):
        return
    seen: set[bytes] = set()
    for token_id, token in enumerate(map(_as_c_string, tokens)):
        named = token or b"[EMPTY_%d]" % token_id
        if named in seen:
            refuse(file, f"token {token_id}, {named[:80]!r}, is in its vocabulary a second time")
        seen.add(named)


def _as_c_string(token: bytes) -> bytes:
    return token.split(b"\0", 1)[0]


def _of_lengths(file: GGUF, *lengths: int) -> set[bytes]:
    """At least the tokens that have one of these lengths, in bytes, as C sees them."""
    tokens = file.tokens
    return set(map(_as_c_string, tokens)) if tokens.has_nul else tokens.of_lengths(*lengths)


# --- by type ---


def _check_type(file: GGUF, name: object) -> None:
    if name in ("no_vocab", "none"):
        refuse(
            file,
            f"its vocabulary is of the type {name!r}, without tokens, so that no text can be read; "
            f"convert the model again, together with its tokenizer",
        )
    if not isinstance(name, str):
        refuse(file, f"{MODEL} is {name!r}; it must be a text")
    if name not in TYPES:
        check_charsmap(file)  # if it has one: its format is SentencePiece's, whoever reads it
        return
    if TYPES[name] is _GPT2 and name != _WHITESPACE and file.metadata.get(PRE) == _WHITESPACE:
        refuse(
            file,
            f"{PRE} is {_WHITESPACE!r} and {MODEL} is {name!r}: llama.cpp would abort at two "
            f"spaces in a row; convert the model again, with {MODEL}={_WHITESPACE!r}",
        )
    _check_special(file, name)
    if TYPES[name].has_trees and file.tokens.longest > _MAX_TOKEN_BYTES:
        refuse(
            file,
            f"a token of its vocabulary has {file.tokens.longest} bytes; at most "
            f"{_MAX_TOKEN_BYTES} are safe in one of the type {name!r}",
        )
    if name == "llama":
        _check_bytes(file, _of_lengths(file, 1, _BYTE_NAME))
    elif name == "bert":
        _check_no_bytes(file)
    elif name == "rwkv":
        _check_rwkv(file, _of_lengths(file, 1, 2, 4))
    elif name == "t5":
        check_charsmap(file)


def _check_special(file: GGUF, name: str) -> None:
    """Each special token that a text can need has an id; llama.cpp asserts it."""
    kind, pre = TYPES[name], file.metadata.get(PRE)
    if kind is _GPT2 and isinstance(pre, str):
        kind = _GPT2_BY_PRE.get(pre, kind)
    for special in (_BOS, _EOS, _UNKNOWN, _SEPARATOR):
        said = file.metadata.get(f"tokenizer.ggml.add_{special}_token", kind.adds.get(special))
        is_needed = special in kind.needs or (special in kind.adds and said is not False)
        if is_needed and not _has_id(file, special, kind.defaults.get(special)):
            refuse(
                file,
                f"its vocabulary of the type {name!r} {_IN_WORDS[special]}, and "
                f"tokenizer.ggml.{special}_token_id names none of its {len(file.tokens)} tokens; "
                f"set it, or convert the model again",
            )


def _has_id(file: GGUF, special: str, default: int | None) -> bool:
    """Whether a special token's id, or else its default, is in the vocabulary."""
    for token_id in (file.metadata.get(f"tokenizer.ggml.{special}_token_id"), default):
        if type(token_id) is int and 0 <= token_id < len(file.tokens):
            return True
    return False


def _check_bytes(file: GGUF, tokens: set[bytes]) -> None:
    """A SentencePiece vocabulary spells what it does not know in tokens of one byte each.

    tokens: at least those that could be one.
    """
    missing = [
        byte
        for byte in range(_N_BYTES)
        if b"<0x%02X>" % byte not in tokens and bytes([byte]) not in tokens
    ]
    if missing:
        refuse(
            file,
            f"its SentencePiece vocabulary lacks {len(missing)} of the {_N_BYTES} byte tokens, so "
            f"that llama.cpp would abort at the first character that it does not know",
        )
    for token_id in _byte_ids(file):
        if not _BYTE_TOKEN.fullmatch(file.tokens[token_id]):
            refuse(file, f"token {token_id}, {file.tokens[token_id][:80]!r}, is no byte token")


def _check_no_bytes(file: GGUF) -> None:
    """llama.cpp aborts where a WordPiece vocabulary has a token of the type for bytes."""
    if token_ids := _byte_ids(file):
        refuse(
            file,
            f"token {token_ids[0]}, {file.tokens[token_ids[0]][:80]!r}, is said to be a byte "
            f"token, which a vocabulary of the type 'bert' cannot have",
        )


def _byte_ids(file: GGUF) -> list[int]:
    """The tokens that the file says to be of one byte each."""
    types = file.metadata.get("tokenizer.ggml.token_type")
    if not isinstance(types, Array) or types.values is None:
        return []
    found: list[int] = np.flatnonzero(types.values == _BYTE_TYPE).tolist()
    return found


def _check_rwkv(file: GGUF, tokens: set[bytes]) -> None:
    """Where tokens begin with a byte and none is that byte alone, llama.cpp goes round for ever.

    tokens: at least those that could be one byte.
    """
    n_missing = _N_BYTES - len({byte for byte in map(_rwkv_byte, tokens) if byte})
    if n_missing:
        refuse(
            file,
            f"its RWKV vocabulary lacks {n_missing} of the {_N_BYTES} tokens of one byte, so that "
            f"llama.cpp would not come to an end at some texts",
        )


def _rwkv_byte(token: bytes) -> bytes:
    """The byte that an escaped token stands for, or nothing if it is not a single one."""
    if len(token) == 1:
        return token.replace(b"\\", b"")
    if len(token) == 2 and token.startswith(b"\\"):
        return _RWKV_ESCAPES.get(token[1:], token[1:])
    return bytes.fromhex(token[2:].decode()) if _RWKV_HEX.fullmatch(token) else b""
