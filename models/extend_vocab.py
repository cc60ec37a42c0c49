"""Write a copy of a GGUF model with made-up tokens after its own, for measurements; runs no model.

What a step costs depends on the size of the vocabulary, and models with 262,144 tokens are large.
The copy of a small one has the same layers and writes the same text: a made-up token's row of the
embedding is that of an original token, shortened, so that the best logit stays an original's.
No text becomes a made-up token, since no merge leads to one. The same file gives the same bytes.
"""

from __future__ import annotations

import argparse
import itertools
import string
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, TokenType, quants

N_TOKENS = 262_144
_EMBEDDINGS = ("token_embd.weight", "output.weight")
_SPACE = "\u0120"  # how a byte-level BPE vocabulary writes a space


def extend_vocab(source: Path, target: Path, n_tokens: int = N_TOKENS) -> None:
    """Write the model in `source` to `target`, with a vocabulary of `n_tokens`.

    Raises ValueError if its vocabulary is no byte-level BPE, is that large already, or if its
    embedding has a type that gguf cannot write.
    """
    reader = GGUFReader(source)
    fields = {name: field for name, field in reader.fields.items() if name[:5] != "GGUF."}
    kind = fields["tokenizer.ggml.model"].contents()
    if kind != "gpt2":
        raise ValueError(f"{source} has a vocabulary of kind {kind!r}; a byte-level BPE is needed")
    tokens = fields["tokenizer.ggml.tokens"].contents()
    if len(tokens) >= n_tokens:
        raise ValueError(f"{source} has {len(tokens)} tokens; more than that must be asked for")
    n_new = n_tokens - len(tokens)
    architecture = fields.pop("general.architecture").contents()
    changed = {
        "tokenizer.ggml.tokens": [*tokens, *itertools.islice(made_up_tokens(tokens), n_new)],
        "tokenizer.ggml.token_type": [
            *fields["tokenizer.ggml.token_type"].contents(),
            *[int(TokenType.NORMAL)] * n_new,
        ],
        f"{architecture}.vocab_size": n_tokens,
    }
    writer = GGUFWriter(target, architecture)
    for name, field in fields.items():
        kinds = field.types
        element = kinds[-1] if kinds[0] == GGUFValueType.ARRAY else None
        value = changed.get(name, field.contents())
        writer.add_key_value(name, value, kinds[0], sub_type=element)
    for tensor in reader.tensors:
        data: Any = tensor.data
        if tensor.name in _EMBEDDINGS:
            data = longer(data, tensor.tensor_type, n_tokens)
        writer.add_tensor(tensor.name, data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def made_up_tokens(known: Sequence[str]) -> Iterator[str]:
    """Yield words of lowercase letters, the shortest first, each with a space before it, that are
    not in `known`."""
    taken = set(known)
    for length in itertools.count(1):
        for letters in itertools.product(string.ascii_lowercase, repeat=length):
            token = _SPACE + "".join(letters)
            if token not in taken:
                yield token


def longer(
    rows: npt.NDArray[Any], kind: GGMLQuantizationType, n_rows: int
) -> npt.NDArray[np.generic]:
    """Return `n_rows` rows: `rows`, then all of them at 1/2 of their length, at 1/3, and so on.

    rows: as the file has them, (rows, bytes of a row) if `kind` is quantized.
    """
    try:
        values = quants.dequantize(rows, kind)
        parts = [rows] + [
            quants.quantize(values / (copy + 1), kind) for copy in range(1, -(-n_rows // len(rows)))
        ]
    except NotImplementedError:
        raise ValueError(
            f"gguf cannot write rows of type {kind.name}; quantize the model to F16, Q8_0 or Q4_0"
        ) from None
    return np.concatenate(parts)[:n_rows]


def main() -> None:
    """Write the model that the command line names."""
    parser = argparse.ArgumentParser(description="Add made-up tokens to a GGUF model.")
    parser.add_argument("source", type=Path, help="the GGUF file of a model with a BPE vocabulary")
    parser.add_argument("target", type=Path, help="the file to write")
    parser.add_argument(
        "--n-tokens", type=int, default=N_TOKENS, help="size of the vocabulary [%(default)s]"
    )
    options = parser.parse_args()
    try:
        extend_vocab(options.source, options.target, options.n_tokens)
    except (OSError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
