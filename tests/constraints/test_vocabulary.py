"""What must come is tokenized as the model's tokenizer does it, for vocabularies of either kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localgen.constraints.compiler import Compiler
from localgen.constraints.vocabulary import TokenizerForGuidance, tokenizer_for
from localgen.engine.constraint import ConstraintTracker
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


def test_a_short_text_is_tokenized_once_and_a_long_one_is_not_kept(
    vocab: LlamaVocab, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenize, asked = LlamaVocab.tokenize, list[bytes]()

    def counted(self: LlamaVocab, text: bytes, **options: bool) -> Any:
        asked.append(text)
        return tokenize(self, text, **options)

    spell = TokenizerForGuidance(vocab, vocab.token_bytes)
    monkeypatch.setattr(LlamaVocab, "tokenize", counted)
    for text, n_asked in ((b'{"the": ', 1), (b"the " * 100, 2)):
        asked.clear()
        assert spell(text) == spell(text)
        assert len(asked) == n_asked


RECORD = {
    "type": "object",
    "properties": {"the": {"type": "string", "maxLength": 9}, "n": {"enum": [1, 12, 3]}},
    "required": ["the", "n"],
}


@settings(max_examples=20)
@given(data=st.data())
def test_a_token_asked_about_alone_is_allowed_where_its_mask_allows_it(
    data: st.DataObject, vocab: LlamaVocab, compiler: Compiler
) -> None:
    """Where a text must come, too, which llguidance alone would spell in any way."""
    tracker = ConstraintTracker(
        compiler("json_schema", RECORD).matcher(), "json_schema", ends=vocab.eog_ids
    )
    for _ in range(data.draw(st.integers(0, 12))):
        twin = tracker.copy()
        mask = np.unpackbits(tracker.allowed(), bitorder="little")[: vocab.n_vocab]
        allowed = np.flatnonzero(mask).tolist()
        assert [each for each in range(vocab.n_vocab) if twin.allows(each)] == allowed
        tracker.accept(data.draw(st.sampled_from(allowed)))
        if tracker.stops:
            break
