"""Prefixes: which token ids a text after one gets, and what of them is computed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from localgen import LocalModel
from localgen.generation.prefix import Prefix
from tests.fakes import EOS, engine_of, fake_model

# Long enough to be worth a copy.
RULE = "a rule, to be kept:\n"


@pytest.fixture(scope="module")
def spm(tiny_spm_path: Path) -> Iterator[LocalModel]:
    """A vocabulary that puts a space where a text begins, and after special tokens."""
    with LocalModel.from_pretrained(tiny_spm_path, n_ctx=512, n_threads=1) as model:
        yield model


def prompts(prefix: Prefix, text: str, **options: bool) -> list[list[int]]:
    """The prompt's ids by each way to put ``text`` after a prefix."""
    done = prefix.complete(text, max_new_tokens=1, **options)
    (listed,) = prefix.complete([text], max_new_tokens=1, **options)
    stream = prefix.stream(text, max_new_tokens=1, **options)
    with prefix.extend(text, **options) as longer:
        extended = longer.token_ids.tolist()
    return [
        done.prompt_token_ids,
        listed.prompt_token_ids,
        stream.completion.prompt_token_ids,
        extended,
    ]


@pytest.mark.parametrize("text", ["the", " the", "", "\n", "<s>the"])
def test_a_text_after_a_prefix_is_as_if_joined(text: str, spm: LocalModel) -> None:
    """Once a space came between: what was computed was not what the two texts say together."""
    joined = spm.tokenizer.encode(RULE + text)
    with spm.prefill(RULE) as prefix:
        done = prefix.complete(text + "!", max_new_tokens=1)
        assert done.stats.n_cached == len(prefix.token_ids)
        assert prompts(prefix, text) == [joined] * 4
        (fork,) = prefix.fork(1)
        with fork, fork.extend("a") as longer:
            assert prompts(longer, text)[0] == spm.tokenizer.encode(RULE + "a" + text)


def test_a_token_across_the_border(spm: LocalModel) -> None:
    """A "t" and "he" are the token "the" when joined: the prefix's last token alone is computed
    anew, and the prefix stays."""
    with spm.prefill(RULE + "t") as prefix:
        done = prefix.complete("he and", max_new_tokens=1)
        assert done.prompt_token_ids == spm.tokenizer.encode(RULE + "the and")
        assert done.stats.n_cached == len(prefix.token_ids) - 1
        again = prefix.complete("x", max_new_tokens=1)
        assert again.stats.n_cached == len(prefix.token_ids)


def test_a_prefix_of_ids_keeps_them(spm: LocalModel) -> None:
    """The caller's ids stay as given, and no space comes between them and the text."""
    encode, piece = spm.tokenizer.encode, spm.tokenizer.token_bytes
    ids = encode("a rule: t")
    with spm.prefill(ids) as prefix:
        for found in prompts(prefix, "he\n"):
            assert found[: len(ids)] == ids
            assert [piece(token_id) for token_id in found[len(ids) :]] == [b"he", b"\n"]
    # After a special token the vocabulary puts one, as it does inside of a text.
    with spm.prefill(encode("")) as prefix:
        assert prompts(prefix, "the") == [encode("the")] * 4


def test_special_tokens_after_a_prefix_are_parsed_or_literal() -> None:
    """The texts may be a stranger's, and the prefix the caller's own; unsaid, both are alike."""
    ids = [97, EOS, 98, *b"<eos>"]
    with fake_model().prefill("a<eos>b") as prefix:
        assert prompts(prefix, "<eos>", split_special_tokens=True) == [ids] * 4
        assert prompts(prefix, "<eos>") == [[97, EOS, 98, EOS]] * 4
    with fake_model().prefill("<eos>", split_special_tokens=True) as prefix:
        assert prompts(prefix, "<eos>") == [[*b"<eos><eos>"]] * 4
        assert prompts(prefix, "<eos>", split_special_tokens=False) == [[*b"<eos>", EOS]] * 4
        assert prefix.fork(1)[0].token_ids.tolist() == [*b"<eos>"]


def test_a_prefix_that_nobody_holds_is_not_pinned() -> None:
    """It could never be released, and four of them would fill the cache for good."""
    model = fake_model(max_sequences=2)
    for word in ("first", "second", "third"):
        model.prefill(f"the {word} rule: ").complete("x", max_new_tokens=1)
        assert engine_of(model).kv_cache.n_pinned == 0
    held = model.prefill("a rule: ")
    assert engine_of(model).kv_cache.n_pinned == 1
    held.release()
    assert engine_of(model).kv_cache.n_pinned == 0
