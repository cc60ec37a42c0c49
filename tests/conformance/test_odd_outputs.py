"""Models whose output is not one matrix row for each token that a text can have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFWriter, LlamaFileType, TokenType

from localgen import LocalModel
from models.make_tiny import (
    LlamaShape,
    bpe_vocab,
    finish,
    llama_weights,
    write_attention_keys,
    write_llama,
    write_vocab,
)
from tests.conformance.compare import prompt

OPTIONS: dict[str, Any] = {"n_ctx": 512, "n_threads": 1}


def test_ids_that_no_text_has(tmp_path: Path) -> None:
    """Protects a call from a padded vocabulary, whose last ids can be drawn: such a token has no
    text, generation goes on, and a prompt that spells its name is a text like any other."""
    path, vocab = tmp_path / "padded.gguf", bpe_vocab()
    n_used = len(vocab.tokens)
    vocab.tokens.extend(f"[PAD{i}]" for i in range(n_used, n_used + 3))
    vocab.types.extend([TokenType.UNUSED] * 3)
    writer = GGUFWriter(path, "llama")
    write_llama(writer, LlamaShape(), len(vocab.tokens), 0, "F32")
    write_vocab(writer, vocab)
    finish(writer)
    with LocalModel.from_pretrained(path, **OPTIONS) as model:
        unused = n_used + 1
        options: dict[str, Any] = {"max_new_tokens": 4, "min_new_tokens": 4, "logprobs": 2}
        options["sequence_bias"] = {(40, unused): 1e6}
        row = model.complete([[40]], **options)[0]
        assert row.token_ids[0] == unused
        assert len(row.token_ids) == 4
        assert row.text == model.tokenizer.decode(row.token_ids[1:])
        assert "".join(model.stream([40], **options)) == row.text
        assert unused not in model.tokenizer.encode(f"a [PAD{unused}] b")


def test_head_that_is_the_embedding(tmp_path: Path) -> None:
    """Protects models that store one matrix for both: the scores are those of a copy."""
    vocab, shape, scores = bpe_vocab(), LlamaShape(), []
    for is_tied in (True, False):
        path = tmp_path / f"{is_tied}.gguf"
        tensors = llama_weights(shape, len(vocab.tokens), 0)
        tensors["output.weight"] = tensors["token_embd.weight"]
        if is_tied:
            del tensors["output.weight"]
        writer = GGUFWriter(path, "llama")
        write_attention_keys(writer, shape, len(vocab.tokens))
        writer.add_file_type(LlamaFileType.ALL_F32)
        for name, tensor in tensors.items():
            writer.add_tensor(name, tensor)
        write_vocab(writer, vocab)
        finish(writer)
        with LocalModel.from_pretrained(path, **OPTIONS) as model:
            scores.append(model.score(prompt(1, 40)))
    np.testing.assert_array_equal(scores[0], scores[1])
