"""Tokens of a text, scored beside other sequences, against one row of logits after the other."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from localgen import Completion, ContextFullError
from localgen.completion import TokenLogprob
from localgen.engine import prompt_scoring
from localgen.engine.sampling.filters import log_softmax
from tests.fakes import N_VOCAB, FakeModel, engine_of, fake_model, hashed_letter, hashed_logits

TEXT = [*b"a text that is longer than one pass of the fake model"]


def reference(token_ids: list[int], top: int) -> list[TokenLogprob]:
    found = []
    for index in range(1, len(token_ids)):
        before = token_ids[:index]
        row = log_softmax(hashed_logits(before, hashed_letter(before)))
        best = np.argsort(-row, kind="stable")[:top]
        pairs = tuple((int(each), float(row[each])) for each in best)
        found.append(TokenLogprob(token_ids[index], float(row[token_ids[index]]), pairs))
    return found


def check(found: list[TokenLogprob], token_ids: list[int], top: int) -> None:
    expected = reference(token_ids, top)
    assert [each.token_id for each in found] == token_ids[1:]
    for own, wanted in zip(found, expected, strict=True):
        assert own.logprob == pytest.approx(wanted.logprob, abs=1e-4)
        assert [pair[0] for pair in own.top] == [pair[0] for pair in wanted.top]
        assert [pair[1] for pair in own.top] == pytest.approx([p[1] for p in wanted.top], abs=1e-4)


def scored(model: FakeModel, token_ids: list[int], top: int = 0) -> list[TokenLogprob]:
    return asyncio.run(model.ascore_tokens(token_ids, top=top))


@pytest.mark.parametrize("n_rows", [1, 3, 1000])
@pytest.mark.parametrize("top", [0, 1, 5])
def test_each_token_has_the_logprob_of_the_logits_before_it(
    n_rows: int, top: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many rows of logits a pass may have, less or more than a batch."""
    monkeypatch.setattr(prompt_scoring, "_LOGIT_BYTES", n_rows * 4 * N_VOCAB)
    check(scored(fake_model(), TEXT, top), TEXT, top)


def test_short_texts() -> None:
    model = fake_model()
    assert scored(model, [65]) == []
    check(scored(model, [65, 66], 2), [65, 66], 2)


def test_a_text_that_is_cached_is_scored_all_the_same() -> None:
    model = fake_model()
    model.complete([TEXT], max_new_tokens=2)
    check(scored(model, TEXT, 1), TEXT, 1)
    done = model.complete([TEXT], max_new_tokens=2)
    assert done[0].stats.n_cached == len(TEXT) - 1


def test_others_run_in_the_same_passes() -> None:
    model = fake_model(n_batch=16)

    async def both() -> tuple[list[TokenLogprob], list[Completion]]:
        return await asyncio.gather(
            model.ascore_tokens(TEXT * 4, top=1), model.acomplete(["abc"], max_new_tokens=30)
        )

    found, (done,) = asyncio.run(both())
    check(found, TEXT * 4, 1)
    assert done.token_ids == fake_model().complete("abc", max_new_tokens=30).token_ids
    together = [call for name, call in model.backend.calls if name == "decode"]
    assert any(len(set(seq_ids)) == 2 for seq_ids in together)
    assert engine_of(model).idle


def test_what_cannot_be_scored_is_refused() -> None:
    model = fake_model(n_ctx=64)
    with pytest.raises(ContextFullError):
        scored(model, [65] * 65)
    with pytest.raises(ValueError, match="token_ids"):
        scored(model, [])
    with pytest.raises(ValueError, match="token_ids"):
        scored(model, [N_VOCAB])
    with pytest.raises(ValueError, match="top"):
        scored(model, [65, 66], top=-1)
