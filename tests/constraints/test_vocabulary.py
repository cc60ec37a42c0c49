"""What must come is tokenized as the model's tokenizer does it, for vocabularies of either kind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localgen.constraints.compiler import Compiler
from localgen.constraints.vocabulary import TokenizerForGuidance, tokenizer_for
from localgen.llama.vocab import LlamaVocab
from models.make_tiny import Vocab, bpe_vocab, spm_vocab
from tests.llama.vocab_files import load

VOCABS = {
    "bpe": bpe_vocab(),
    "spm": spm_vocab(),
    "spm, no space before": spm_vocab(add_space_prefix=False),
}
TEXTS = st.text(st.sampled_from('the and\n hello=é🙂"\\{}: ,ing\x00'), min_size=1, max_size=24)


@pytest.fixture(scope="module", params=VOCABS.values(), ids=list(VOCABS))
def vocab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LlamaVocab:
    vocab: Vocab = request.param
    path: Path = tmp_path_factory.mktemp("vocab") / "vocab.gguf"
    return load(path, vocab)


@pytest.fixture(scope="module")
def compiler(vocab: LlamaVocab) -> Compiler:
    tokenizer = tokenizer_for(vocab, vocab.token_bytes)
    return Compiler(lambda: tokenizer, vocab.n_vocab)


@settings(max_examples=30)
@given(text=TEXTS)
def test_a_text_that_must_come_has_the_tokens_of_the_tokenizer(
    text: str, vocab: LlamaVocab, compiler: Compiler
) -> None:
    """All of it, to its last token: nothing can follow with which that would merge."""
    wanted = TokenizerForGuidance(vocab, vocab.token_bytes)(text)
    matcher = compiler("choices", [text]).matcher()
    assert matcher.forced_tokens() == wanted
    for token_id in wanted:
        matcher.accept(token_id)
    assert matcher.is_done


@settings(max_examples=30)
@given(first=TEXTS, second=TEXTS)
def test_what_must_come_next_begins_the_tokens_of_each_text_that_may_come(
    first: str, second: str, vocab: LlamaVocab, compiler: Compiler
) -> None:
    """A token that another end would change is not forced."""
    tokenize = TokenizerForGuidance(vocab, vocab.token_bytes)
    texts = [json.dumps({"the": each}, ensure_ascii=False) for each in (first, second)]
    forced = compiler("choices", texts).matcher().forced_tokens()
    for text in texts:
        assert tokenize(text)[: len(forced)] == forced
