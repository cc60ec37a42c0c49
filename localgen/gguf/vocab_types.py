"""The types of vocabulary that llama.cpp has, and what each needs; it reads no file.

From ``llama-vocab.cpp`` of llama.cpp, commit 0c1e57098.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from localgen.gguf.reader import Value

MODEL, PRE = "tokenizer.ggml.model", "tokenizer.ggml.pre"
# As in a file's keys; llama.cpp spells the last one so.
BOS, EOS, UNKNOWN, SEPARATOR = "bos", "eos", "unknown", "seperator"
WHITESPACE = "whitespace"
_MAX_SHOWN = 60


@dataclass(frozen=True, slots=True)
class VocabType:
    """What a type of vocabulary needs.

    defaults: ids of special tokens that a file need not state. needs: special tokens that
    tokenizing always uses. adds: special tokens that it may add to a text → whether it does if the
    file does not say. has_trees: whether llama.cpp keeps the tokens in trees.
    """

    defaults: Mapping[str, int] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    adds: Mapping[str, bool] = field(default_factory=dict)
    has_trees: bool = False


BPE = VocabType({BOS: 11, EOS: 11}, adds={BOS: True, EOS: False})
# Byte-level BPE with some pre-tokenizers.
_BPE_OF_GLM = VocabType({EOS: 11}, adds={BOS: False, EOS: False})
_BPE_OF_GEMMA = VocabType({BOS: 11, EOS: 11}, needs=(BOS,), adds={EOS: False})
_BPE_BY_PRE = {
    "chatglm-bpe": _BPE_OF_GLM,
    "glm4": _BPE_OF_GLM,
    "glm5": _BPE_OF_GLM,
    "gemma4": _BPE_OF_GEMMA,
    "granite-embed-multi-311m": _BPE_OF_GEMMA,
}
TYPES = {
    "llama": VocabType({BOS: 1, EOS: 2}, adds={BOS: True, EOS: False}),
    "gpt2": BPE,
    "hybriddna": BPE,
    WHITESPACE: BPE,
    "gemma4": VocabType(needs=(BOS,), adds={EOS: False}),
    "bert": VocabType({BOS: 101, UNKNOWN: 100, SEPARATOR: 102}, needs=(BOS, UNKNOWN, SEPARATOR)),
    "t5": VocabType(
        {EOS: 1, UNKNOWN: 2}, needs=(UNKNOWN,), adds={BOS: False, EOS: True}, has_trees=True
    ),
    "rwkv": VocabType(has_trees=True),
    "plamo2": VocabType(has_trees=True),
    "test": VocabType(),
}
# The pre-tokenizers of byte-level BPE. Each needs what ``BPE`` or ``_BPE_BY_PRE`` says; one that is
# not listed may need more.
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


def type_of(model: str, pre: object) -> VocabType | None:
    """Return what a type needs, by a file's values of ``MODEL`` and ``PRE``; None if unknown.

    An unknown pre-tokenizer is taken for one without needs of its own; see ``unknown_type``.
    """
    found = TYPES.get(model)
    if found is BPE and isinstance(pre, str):
        return _BPE_BY_PRE.get(pre, BPE)
    return found


def unknown_type(metadata: Mapping[str, Value]) -> str | None:
    """Return the key and value that name an unknown type of vocabulary; None for a known one.

    A file that names no type is known to be invalid: llama.cpp refuses it.
    """
    model, pre = metadata.get(MODEL), metadata.get(PRE)
    if not isinstance(model, str):
        return None
    if model not in TYPES:
        return f"{MODEL}={model[:_MAX_SHOWN]!r}"
    if TYPES[model] is BPE and isinstance(pre, str) and pre and pre not in PRE_TOKENIZERS:
        return f"{PRE}={pre[:_MAX_SHOWN]!r}"
    return None
