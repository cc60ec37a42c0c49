"""Write tiny GGUF models with random weights for the tests; runs no model.

A vocabulary (`Vocab`, `write_vocab`) and an architecture (`LlamaShape` and `write_llama`,
`write_gemma`, `write_gpt2` or `write_lfm2`, `MambaShape` and `write_mamba`) are written apart: each
architecture can take either vocabulary. The weights come from a seeded generator: the same
arguments give the same bytes.
"""

from __future__ import annotations

import argparse
import math
import string
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from gguf import GGUFWriter, LlamaFileType, RopeScalingType, TokenType

FileType = Literal["F32", "F16"]
Array = npt.NDArray[np.float32]

END_OF_TEXT = "<|endoftext|>"
IM_START = "<|im_start|>"
IM_END = "<|im_end|>"
BPE_SPECIALS = (END_OF_TEXT, IM_START, IM_END)

# Pairs of Latin-1 text, in rank order; a side is one byte or made by an earlier pair. The last
# pair is the two bytes of an e with an acute accent.
BPE_MERGES = (
    ("t", "h"), ("th", "e"), ("i", "n"), ("in", "g"), ("e", "r"), ("o", "n"), ("a", "n"),
    ("an", "d"), ("l", "l"), ("h", "e"), ("he", "ll"), (" ", "t"), (" ", "a"), (" ", "w"),
    (" ", "the"), (" ", "and"), ("\xc3", "\xa9"),
)  # fmt: skip

# Reached by doubling "=", so that text of this many bytes becomes one token and comes back whole.
LONG_TOKEN = "=" * 512

SPM_SPACE = "\u2581"
SPM_SPECIALS = ("<unk>", "<s>", "</s>")
# Each piece is two earlier ones, because the SPM tokenizer joins two neighbours at a time.
SPM_WORDS = (
    "th", "the", SPM_SPACE + "the", "in", "ing", SPM_SPACE + "a", "an", "and", SPM_SPACE + "and",
    "er", "on", "he", "ll", "hell", "hello", SPM_SPACE + "hello",
)  # fmt: skip


@dataclass(frozen=True)
class Vocab:
    """The tokenizer section of a file; ids are positions in `tokens`."""

    model: str
    pre: str
    tokens: list[str]
    types: list[TokenType]
    bos: int
    eos: int
    add_bos: bool
    merges: list[str] | None = None
    scores: list[float] | None = None
    unk: int | None = None
    eot: int | None = None
    add_space_prefix: bool | None = None


@dataclass(frozen=True)
class LlamaShape:
    """The sizes of a llama model; one key-value head for two query heads by default."""

    n_ctx_train: int = 512
    n_embd: int = 64
    n_head: int = 2
    n_head_kv: int = 1
    n_layer: int = 2
    n_ff: int = 128


@dataclass(frozen=True)
class MambaShape:
    """The sizes of a mamba model; llama.cpp wants its inner size to be twice `n_embd`."""

    n_ctx_train: int = 512
    n_embd: int = 64
    n_layer: int = 2
    d_conv: int = 4
    d_state: int = 16
    dt_rank: int = 4


def gpt2_chars(data: bytes) -> str:
    """Return the characters that stand for `data` in a byte-level BPE vocabulary, one a byte.

    A byte that prints in Latin-1 stands for itself; the others take U+0100 onwards, in order.
    """
    printing = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printing]
    return "".join(chr(b if b in printing else 0x100 + others.index(b)) for b in data)


def bpe_merges() -> list[tuple[str, str]]:
    """Return the merges in rank order, in GPT-2 characters; LONG_TOKEN's doublings come last."""
    plain = [(gpt2_chars(a.encode("latin-1")), gpt2_chars(b.encode("latin-1")))
             for a, b in BPE_MERGES]  # fmt: skip
    halves = [LONG_TOKEN[: 2**i] for i in range(len(LONG_TOKEN).bit_length() - 1)]
    return plain + [(half, half) for half in halves]


def bpe_vocab(*, eos: str = END_OF_TEXT, add_bos: bool = False) -> Vocab:
    """Return a byte-level BPE vocabulary of the GPT-2 kind.

    It holds BPE_SPECIALS from id 0 (control tokens; the first is bos), byte b at id 3 + b, then
    the result of each merge, the last one LONG_TOKEN. `eos` is the plain text of any of them.
    """
    merges = bpe_merges()
    normal = [gpt2_chars(bytes([byte])) for byte in range(256)] + [a + b for a, b in merges]
    tokens = [*BPE_SPECIALS, *normal]
    return Vocab(
        model="gpt2",
        pre="smollm",
        tokens=tokens,
        types=[TokenType.CONTROL] * len(BPE_SPECIALS) + [TokenType.NORMAL] * len(normal),
        bos=tokens.index(END_OF_TEXT),
        eos=tokens.index(gpt2_chars(eos.encode())),
        add_bos=add_bos,
        merges=[f"{a} {b}" for a, b in merges],
        eot=tokens.index(IM_END),
    )


def spm_vocab(*, add_bos: bool = True, add_space_prefix: bool = True) -> Vocab:
    """Return a SentencePiece vocabulary of the llama-2 kind.

    It holds SPM_SPECIALS from id 0 (unknown, bos, eos), byte b at id 3 + b, SPM_SPACE, the ASCII
    letters, then SPM_WORDS; any other character is spelled in byte tokens.
    """
    n_special, n_byte = len(SPM_SPECIALS), 256
    pieces = [SPM_SPACE, *string.ascii_letters, *SPM_WORDS]
    types = [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL]
    return Vocab(
        model="llama",
        pre="default",
        tokens=[*SPM_SPECIALS, *(f"<0x{byte:02X}>" for byte in range(n_byte)), *pieces],
        types=types + [TokenType.BYTE] * n_byte + [TokenType.NORMAL] * len(pieces),
        bos=SPM_SPECIALS.index("<s>"),
        eos=SPM_SPECIALS.index("</s>"),
        add_bos=add_bos,
        scores=[0.0] * (n_special + n_byte) + [-float(i) for i in range(len(pieces))],
        unk=SPM_SPECIALS.index("<unk>"),
        add_space_prefix=add_space_prefix,
    )


def write_vocab(writer: GGUFWriter, vocab: Vocab, chat_template: str | None = None) -> None:
    """Add the tokenizer keys to `writer`; a field of `vocab` that is None adds no key."""
    writer.add_tokenizer_model(vocab.model)
    writer.add_tokenizer_pre(vocab.pre)
    writer.add_token_list(vocab.tokens)
    writer.add_token_types(vocab.types)
    if vocab.scores is not None:
        writer.add_token_scores(vocab.scores)
    if vocab.merges is not None:
        writer.add_token_merges(vocab.merges)
    writer.add_bos_token_id(vocab.bos)
    writer.add_eos_token_id(vocab.eos)
    if vocab.eot is not None:
        writer.add_eot_token_id(vocab.eot)
    if vocab.unk is not None:
        writer.add_unk_token_id(vocab.unk)
    writer.add_add_bos_token(vocab.add_bos)
    if vocab.add_space_prefix is not None:
        writer.add_add_space_prefix(vocab.add_space_prefix)
    if chat_template is not None:
        writer.add_chat_template(chat_template)


def matrices(seed: int) -> Callable[[int, int, float], Array]:
    """Return a function of (outputs, inputs, gain) that draws one matrix after another.

    Each is normal with a standard deviation of gain / sqrt(inputs).
    """
    random = np.random.RandomState(seed)

    def matrix(n_out: int, n_in: int, gain: float) -> Array:
        scale = gain / math.sqrt(n_in)
        return (random.standard_normal((n_out, n_in)) * scale).astype(np.float32)

    return matrix


def llama_weights(shape: LlamaShape, n_vocab: int, seed: int) -> dict[str, Array]:
    """Return the tensors of a llama model by name, scaled to keep each one's outputs apart.

    The gains above 1 make attention pick out a few tokens and let the layers change the stream, so
    that the best next token depends on the whole prompt; the last one spreads the logits over
    several units.
    """
    matrix = matrices(seed)
    ones = np.ones(shape.n_embd, dtype=np.float32)
    n_kv = shape.n_embd // shape.n_head * shape.n_head_kv
    tensors = {"token_embd.weight": matrix(n_vocab, shape.n_embd, 4.0)}
    for i in range(shape.n_layer):
        tensors[f"blk.{i}.attn_norm.weight"] = ones
        tensors[f"blk.{i}.attn_q.weight"] = matrix(shape.n_embd, shape.n_embd, 2.0)
        tensors[f"blk.{i}.attn_k.weight"] = matrix(n_kv, shape.n_embd, 2.0)
        tensors[f"blk.{i}.attn_v.weight"] = matrix(n_kv, shape.n_embd, 2.0)
        tensors[f"blk.{i}.attn_output.weight"] = matrix(shape.n_embd, shape.n_embd, 1.0)
        tensors[f"blk.{i}.ffn_norm.weight"] = ones
        tensors[f"blk.{i}.ffn_gate.weight"] = matrix(shape.n_ff, shape.n_embd, 1.0)
        tensors[f"blk.{i}.ffn_up.weight"] = matrix(shape.n_ff, shape.n_embd, 1.0)
        tensors[f"blk.{i}.ffn_down.weight"] = matrix(shape.n_embd, shape.n_ff, 1.0)
    tensors["output_norm.weight"] = ones
    tensors["output.weight"] = matrix(n_vocab, shape.n_embd, 4.0)
    return tensors


def write_attention_keys(
    writer: GGUFWriter, shape: LlamaShape, n_vocab: int, n_head_kv: list[int] | None = None
) -> None:
    """Add the sizes that llama, gemma and lfm2 have in common to `writer`.

    `n_head_kv` has the key-value heads of each layer where they differ.
    """
    writer.add_vocab_size(n_vocab)
    writer.add_context_length(shape.n_ctx_train)
    writer.add_embedding_length(shape.n_embd)
    writer.add_block_count(shape.n_layer)
    writer.add_feed_forward_length(shape.n_ff)
    writer.add_head_count(shape.n_head)
    writer.add_head_count_kv(n_head_kv or shape.n_head_kv)
    writer.add_rope_dimension_count(shape.n_embd // shape.n_head)
    writer.add_layer_norm_rms_eps(1e-5)


def write_llama(
    writer: GGUFWriter, shape: LlamaShape, n_vocab: int, seed: int, file_type: FileType
) -> None:
    """Add the llama keys and tensors to `writer`; F16 covers the matrices, never the norms."""
    write_attention_keys(writer, shape, n_vocab)
    half = file_type == "F16"
    writer.add_file_type(LlamaFileType.MOSTLY_F16 if half else LlamaFileType.ALL_F32)
    for name, tensor in llama_weights(shape, n_vocab, seed).items():
        as_half = half and tensor.ndim > 1
        writer.add_tensor(name, tensor.astype(np.float16) if as_half else tensor)


def gemma_weights(shape: LlamaShape, n_vocab: int, seed: int) -> dict[str, Array]:
    """Return the tensors of a gemma 3 model by name: llama's, and its own norms.

    llama.cpp multiplies the embeddings by sqrt(n_embd), so the norms after attention and
    feed-forward are above 1 for the layers to weigh as much; those of query and key make attention
    pick out a few tokens.
    """
    tensors = llama_weights(shape, n_vocab, seed)
    head_size = shape.n_embd // shape.n_head
    for i in range(shape.n_layer):
        for name, size, value in (
            ("attn_q_norm", head_size, 1.5),
            ("attn_k_norm", head_size, 1.5),
            ("post_attention_norm", shape.n_embd, 8.0),
            ("post_ffw_norm", shape.n_embd, 8.0),
        ):
            tensors[f"blk.{i}.{name}.weight"] = np.full(size, value, dtype=np.float32)
    return tensors


def write_gemma(
    writer: GGUFWriter, shape: LlamaShape, n_vocab: int, seed: int, window: int
) -> None:
    """Add the gemma 3 keys and tensors to `writer`; every other layer from the first looks back
    over `window` tokens only, the token itself included."""
    write_attention_keys(writer, shape, n_vocab)
    writer.add_key_length(shape.n_embd // shape.n_head)
    writer.add_value_length(shape.n_embd // shape.n_head)
    writer.add_sliding_window(window)
    writer.add_sliding_window_pattern([i % 2 == 0 for i in range(shape.n_layer)])
    writer.add_file_type(LlamaFileType.ALL_F32)
    for name, tensor in gemma_weights(shape, n_vocab, seed).items():
        writer.add_tensor(name, tensor)


def gpt2_weights(shape: LlamaShape, n_vocab: int, seed: int) -> dict[str, Array]:
    """Return the tensors of a gpt2 model by name; it has learned a vector for each position."""
    matrix = matrices(seed)
    n_embd, n_ff = shape.n_embd, shape.n_ff
    tensors = {
        "token_embd.weight": matrix(n_vocab, n_embd, 4.0),
        "position_embd.weight": matrix(shape.n_ctx_train, n_embd, 1.0),
        "output.weight": matrix(n_vocab, n_embd, 4.0),
    }
    sizes = {"attn_qkv": (3 * n_embd, n_embd), "attn_output": (n_embd, n_embd)}
    sizes |= {"ffn_up": (n_ff, n_embd), "ffn_down": (n_embd, n_ff)}
    norms = ["output_norm"]
    for i in range(shape.n_layer):
        for name, (n_out, n_in) in sizes.items():
            tensors[f"blk.{i}.{name}.weight"] = matrix(n_out, n_in, 2.0)
            tensors[f"blk.{i}.{name}.bias"] = np.zeros(n_out, dtype=np.float32)
        norms += [f"blk.{i}.attn_norm", f"blk.{i}.ffn_norm"]
    for name in norms:
        tensors[f"{name}.weight"] = np.ones(n_embd, dtype=np.float32)
        tensors[f"{name}.bias"] = np.zeros(n_embd, dtype=np.float32)
    return tensors


def write_gpt2(writer: GGUFWriter, shape: LlamaShape, n_vocab: int, seed: int) -> None:
    """Add the gpt2 keys and tensors to `writer`; a head has keys and values of its own."""
    writer.add_vocab_size(n_vocab)
    writer.add_context_length(shape.n_ctx_train)
    writer.add_embedding_length(shape.n_embd)
    writer.add_block_count(shape.n_layer)
    writer.add_feed_forward_length(shape.n_ff)
    writer.add_head_count(shape.n_head)
    writer.add_layer_norm_eps(1e-5)
    writer.add_file_type(LlamaFileType.ALL_F32)
    for name, tensor in gpt2_weights(shape, n_vocab, seed).items():
        writer.add_tensor(name, tensor)


def lfm2_weights(shape: LlamaShape, n_vocab: int, seed: int, n_taps: int) -> dict[str, Array]:
    """Return the tensors of an lfm2 model by name: the first of two layers convolves `n_taps`
    tokens, the second one attends."""
    matrix = matrices(seed)
    tensors = llama_weights(shape, n_vocab, seed)
    head_size = shape.n_embd // shape.n_head
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        del tensors[f"blk.0.{name}.weight"]
    tensors["blk.0.shortconv.in_proj.weight"] = matrix(3 * shape.n_embd, shape.n_embd, 2.0)
    tensors["blk.0.shortconv.conv.weight"] = matrix(shape.n_embd, n_taps, 1.0)
    tensors["blk.0.shortconv.out_proj.weight"] = matrix(shape.n_embd, shape.n_embd, 2.0)
    for name in ("attn_q_norm", "attn_k_norm"):
        tensors[f"blk.1.{name}.weight"] = np.full(head_size, 1.5, dtype=np.float32)
    tensors["token_embd_norm.weight"] = tensors.pop("output_norm.weight")
    return tensors


def write_lfm2(writer: GGUFWriter, shape: LlamaShape, n_vocab: int, seed: int, n_taps: int) -> None:
    """Add the lfm2 keys and tensors to `writer`: a hybrid, with states in its first layer and keys
    and values in its second."""
    write_attention_keys(writer, shape, n_vocab, [0, shape.n_head_kv])
    writer.add_shortconv_l_cache(n_taps)
    writer.add_file_type(LlamaFileType.ALL_F32)
    for name, tensor in lfm2_weights(shape, n_vocab, seed, n_taps).items():
        writer.add_tensor(name, tensor)


def mamba_weights(shape: MambaShape, n_vocab: int, seed: int) -> dict[str, Array]:
    """Return the tensors of a mamba model by name, scaled to keep each one's outputs apart.

    The state decays as in a fresh mamba: its n-th value n times as fast as its first, which
    forgets within some ten tokens.
    """
    matrix = matrices(seed)
    n_embd, d_inner, d_state = shape.n_embd, 2 * shape.n_embd, shape.d_state
    decay = -np.tile(np.arange(1, d_state + 1, dtype=np.float32), (d_inner, 1))
    tensors = {"token_embd.weight": matrix(n_vocab, n_embd, 4.0)}
    for i in range(shape.n_layer):
        tensors[f"blk.{i}.attn_norm.weight"] = np.ones(n_embd, dtype=np.float32)
        tensors[f"blk.{i}.ssm_in.weight"] = matrix(2 * d_inner, n_embd, 2.0)
        tensors[f"blk.{i}.ssm_conv1d.weight"] = matrix(d_inner, shape.d_conv, 1.0)
        tensors[f"blk.{i}.ssm_conv1d.bias"] = np.zeros(d_inner, dtype=np.float32)
        tensors[f"blk.{i}.ssm_x.weight"] = matrix(shape.dt_rank + 2 * d_state, d_inner, 2.0)
        tensors[f"blk.{i}.ssm_dt.weight"] = matrix(d_inner, shape.dt_rank, 0.5)
        tensors[f"blk.{i}.ssm_dt.bias"] = np.full(d_inner, -2.0, dtype=np.float32)
        tensors[f"blk.{i}.ssm_a"] = decay
        tensors[f"blk.{i}.ssm_d"] = np.ones(d_inner, dtype=np.float32)
        tensors[f"blk.{i}.ssm_out.weight"] = matrix(n_embd, d_inner, 2.0)
    tensors["output_norm.weight"] = np.ones(n_embd, dtype=np.float32)
    tensors["output.weight"] = matrix(n_vocab, n_embd, 4.0)
    return tensors


def write_mamba(writer: GGUFWriter, shape: MambaShape, n_vocab: int, seed: int) -> None:
    """Add the mamba keys and tensors to `writer`; it has no attention, and so no heads."""
    writer.add_vocab_size(n_vocab)
    writer.add_context_length(shape.n_ctx_train)
    writer.add_embedding_length(shape.n_embd)
    writer.add_block_count(shape.n_layer)
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_ssm_conv_kernel(shape.d_conv)
    writer.add_ssm_inner_size(2 * shape.n_embd)
    writer.add_ssm_state_size(shape.d_state)
    writer.add_ssm_time_step_rank(shape.dt_rank)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(LlamaFileType.ALL_F32)
    for name, tensor in mamba_weights(shape, n_vocab, seed).items():
        writer.add_tensor(name, tensor)


def finish(writer: GGUFWriter) -> None:
    """Write out everything that was added to `writer`, and close it."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def make_llama_bpe(
    path: Path,
    *,
    seed: int = 0,
    n_ctx_train: int = 512,
    chat_template: str | None = None,
    eos: str = END_OF_TEXT,
    add_bos: bool = False,
    file_type: FileType = "F32",
    n_embd: int = 64,
) -> None:
    """Write a llama model with a byte-level BPE vocabulary to `path`.

    The file holds the tensors of LlamaShape and the tokenizer keys of `bpe_vocab`; `eos` is the
    plain text of one token there. It has a chat template only where one is given.
    """
    vocab = bpe_vocab(eos=eos, add_bos=add_bos)
    writer = GGUFWriter(path, "llama")
    writer.add_name("tiny llama, BPE vocabulary")
    shape = LlamaShape(n_ctx_train, n_embd=n_embd, n_ff=2 * n_embd)
    write_llama(writer, shape, len(vocab.tokens), seed, file_type)
    write_vocab(writer, vocab, chat_template)
    finish(writer)


def make_llama_spm(
    path: Path,
    *,
    seed: int = 0,
    n_ctx_train: int = 512,
    chat_template: str | None = None,
    add_bos: bool = True,
    add_space_prefix: bool = True,
    file_type: FileType = "F32",
) -> None:
    """Write a llama model with a SentencePiece vocabulary to `path`.

    The file holds the tensors of LlamaShape and the tokenizer keys of `spm_vocab`. It has a chat
    template only where one is given.
    """
    vocab = spm_vocab(add_bos=add_bos, add_space_prefix=add_space_prefix)
    writer = GGUFWriter(path, "llama")
    writer.add_name("tiny llama, SPM vocabulary")
    write_llama(writer, LlamaShape(n_ctx_train), len(vocab.tokens), seed, file_type)
    write_vocab(writer, vocab, chat_template)
    finish(writer)


def moe_weights(shape: LlamaShape, n_vocab: int, seed: int, n_experts: int) -> dict[str, Array]:
    """Return the tensors of a llama model by name, with experts in place of each feed-forward."""
    tensors = llama_weights(shape, n_vocab, seed)
    matrix = matrices(seed + 1)
    for i in range(shape.n_layer):
        tensors[f"blk.{i}.ffn_gate_inp.weight"] = matrix(n_experts, shape.n_embd, 2.0)
        for name in ("ffn_gate", "ffn_up", "ffn_down"):
            n_out, n_in = tensors.pop(f"blk.{i}.{name}.weight").shape
            experts = [matrix(n_out, n_in, 1.0) for _ in range(n_experts)]
            tensors[f"blk.{i}.{name}_exps.weight"] = np.stack(experts)
    return tensors


def make_llama_moe(path: Path, *, seed: int = 0, n_experts: int = 4, n_used: int = 2) -> None:
    """Write a llama model with a mixture of experts, and a byte-level BPE vocabulary, to `path`.

    Each token goes to `n_used` of `n_experts` experts.
    """
    vocab, shape = bpe_vocab(), LlamaShape(512)
    writer = GGUFWriter(path, "llama")
    writer.add_name("tiny llama, experts")
    write_attention_keys(writer, shape, len(vocab.tokens))
    writer.add_expert_count(n_experts)
    writer.add_expert_used_count(n_used)
    writer.add_file_type(LlamaFileType.ALL_F32)
    for name, tensor in moe_weights(shape, len(vocab.tokens), seed, n_experts).items():
        writer.add_tensor(name, tensor)
    write_vocab(writer, vocab)
    finish(writer)


def make_gemma_swa(
    path: Path,
    *,
    seed: int = 0,
    n_ctx_train: int = 512,
    window: int = 8,
    chat_template: str | None = None,
) -> None:
    """Write a gemma 3 model with a SentencePiece vocabulary to `path`.

    The first of its two layers attends over a sliding window of `window` tokens, the second over
    all. The file holds the tokenizer keys of `spm_vocab`, and a chat template only where one is
    given.
    """
    vocab = spm_vocab()
    writer = GGUFWriter(path, "gemma3")
    writer.add_name("tiny gemma, sliding window")
    write_gemma(writer, LlamaShape(n_ctx_train), len(vocab.tokens), seed, window)
    write_vocab(writer, vocab, chat_template)
    finish(writer)


def make_mamba(
    path: Path,
    *,
    seed: int = 0,
    n_ctx_train: int = 512,
    chat_template: str | None = None,
) -> None:
    """Write a mamba model (recurrent: one state, no key-value cache) to `path`.

    The file holds the tensors of MambaShape and the tokenizer keys of `bpe_vocab`. It has a chat
    template only where one is given.
    """
    vocab = bpe_vocab()
    writer = GGUFWriter(path, "mamba")
    writer.add_name("tiny mamba, BPE vocabulary")
    write_mamba(writer, MambaShape(n_ctx_train), len(vocab.tokens), seed)
    write_vocab(writer, vocab, chat_template)
    finish(writer)


def make_gpt2(path: Path, *, seed: int = 0, n_ctx_train: int = 512) -> None:
    """Write a gpt2 model (positions learned, for `n_ctx_train` tokens) to `path`.

    The file holds the tensors of LlamaShape and the tokenizer keys of `bpe_vocab`.
    """
    vocab = bpe_vocab()
    writer = GGUFWriter(path, "gpt2")
    writer.add_name("tiny gpt2, BPE vocabulary")
    write_gpt2(writer, LlamaShape(n_ctx_train), len(vocab.tokens), seed)
    write_vocab(writer, vocab)
    finish(writer)


def make_lfm2(path: Path, *, seed: int = 0, n_ctx_train: int = 512, n_taps: int = 3) -> None:
    """Write an lfm2 model (hybrid: a state in one layer, a key-value cache in the other) to `path`.

    The file holds the tensors of LlamaShape and the tokenizer keys of `bpe_vocab`.
    """
    vocab = bpe_vocab()
    writer = GGUFWriter(path, "lfm2")
    writer.add_name("tiny lfm2, BPE vocabulary")
    write_lfm2(writer, LlamaShape(n_ctx_train), len(vocab.tokens), seed, n_taps)
    write_vocab(writer, vocab)
    finish(writer)


def make_longrope(
    path: Path, *, seed: int = 0, n_ctx_train: int = 4096, n_ctx_original: int = 512
) -> None:
    """Write a llama whose keys are rotated by other factors in a context of more than
    `n_ctx_original` tokens (LongRoPE) to `path`."""
    vocab = bpe_vocab()
    writer = GGUFWriter(path, "llama")
    writer.add_name("tiny llama, LongRoPE")
    shape = LlamaShape(n_ctx_train)
    write_llama(writer, shape, len(vocab.tokens), seed, "F32")
    writer.add_rope_scaling_type(RopeScalingType.LONGROPE)
    writer.add_rope_scaling_orig_ctx_len(n_ctx_original)
    for name, factor in (("short", 1.0), ("long", 8.0)):
        factors = np.full(shape.n_embd // shape.n_head // 2, factor, dtype=np.float32)
        writer.add_tensor(f"rope_factors_{name}.weight", factors)
    write_vocab(writer, vocab)
    finish(writer)


def main() -> None:
    """Write one model of each kind to the folder named on the command line.

    The files are llama-bpe.gguf, llama-bpe-f16.gguf, llama-spm.gguf, gemma-swa.gguf and mamba.gguf.
    """
    parser = argparse.ArgumentParser(description="Write one tiny GGUF model of each kind.")
    parser.add_argument("out_dir", type=Path, help="folder for the files; made if missing")
    out_dir: Path = parser.parse_args().out_dir
    out_dir.mkdir(parents=True, exist_ok=True)
    make_llama_bpe(out_dir / "llama-bpe.gguf")
    make_llama_bpe(out_dir / "llama-bpe-f16.gguf", file_type="F16")
    make_llama_spm(out_dir / "llama-spm.gguf")
    make_gemma_swa(out_dir / "gemma-swa.gguf")
    make_mamba(out_dir / "mamba.gguf")


if __name__ == "__main__":
    main()
