"""What a caller's functions see of beams: all of them as one batch, as in transformers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests import fakes
from tests.fakes import EOS, N_VOCAB, engine_of, fake_model
from tests.generation.test_beam_strategy import before_step, flat_logits

PAD = 7
# Two prompts of three and six tokens, padded on the left.
IDS = np.array([[PAD, PAD, PAD, *b"abc"], list(b"longer")])
MASK = np.array([[0, 0, 0, 1, 1, 1], [1] * 6])
WIDTH = IDS.shape[1]
N_BEAMS = 3


def generate(**options: Any) -> Any:
    given = {"pad_token_id": PAD, "num_beams": N_BEAMS, "max_new_tokens": 5, **options}
    return fake_model(max_sequences=8).generate(IDS, MASK, **given)


def test_shapes() -> None:
    """A processor gets (prompts * beams, n_vocab), a criterion a row for each candidate."""
    processed: list[Any] = []
    checked: list[Any] = []

    def process(token_ids: Any, scores: Any) -> Any:
        assert scores.shape == (2 * N_BEAMS, N_VOCAB)
        # Log-probabilities: their exponentials sum to 1.
        np.testing.assert_allclose(np.exp(scores.astype(float)).sum(axis=1), 1, rtol=1e-4)
        processed.append(token_ids.tolist())
        return scores

    def check(token_ids: Any, scores: Any) -> Any:
        assert scores is None
        checked.append(token_ids.tolist())
        return np.zeros(len(token_ids), bool)

    plain = generate(eos_token_id=EOS)
    seen = generate(eos_token_id=EOS, logits_processor=process, stopping_criteria=check)
    np.testing.assert_array_equal(seen, plain)
    assert [len(step) for step in processed] == [2 * N_BEAMS] * 5
    assert [len(step) for step in checked] == [2 * 2 * N_BEAMS] * 5
    assert processed[0] == np.repeat(IDS, N_BEAMS, axis=0).tolist()
    for step, rows in enumerate(processed):
        assert {len(row) for row in rows} == {WIDTH + step}
        assert [row[:WIDTH] for row in rows] == processed[0]
    for step, rows in enumerate(checked):
        assert {len(row) for row in rows} == {WIDTH + step + 1}
        # A candidate is a beam of the step and one more token.
        for prompt in range(2):
            own = processed[step][prompt * N_BEAMS : (prompt + 1) * N_BEAMS]
            for row in rows[prompt * 2 * N_BEAMS : (prompt + 1) * 2 * N_BEAMS]:
                assert row[:-1] in own


def test_a_processor_decides() -> None:
    """Each beam's row goes to that beam: a letter that follows from its own last token."""

    def process(token_ids: Any, scores: Any) -> Any:
        allowed = 65 + token_ids[:, -1] % 26
        scores[:] = np.where(np.arange(N_VOCAB) % 26 == (allowed % 26)[:, None], scores, -np.inf)
        return scores

    out = generate(logits_processor=process, eos_token_id=[], num_return_sequences=N_BEAMS)
    for row in out.tolist():
        for before, after in zip(row[WIDTH - 1 : -1], row[WIDTH:], strict=True):
            assert after % 26 == (65 + before % 26) % 26


def test_a_criterion_ends_candidates() -> None:
    """Texts end with a multiple of three, and say that they were stopped."""
    out = generate(
        stopping_criteria=lambda token_ids, _: token_ids[:, -1] % 3 == 0,
        eos_token_id=[],
        num_return_sequences=N_BEAMS,
        max_new_tokens=12,
        return_dict_in_generate=True,
    )
    assert "stop" in out.finish_reasons
    for row, beams, reason in zip(out.sequences, out.beam_indices, out.finish_reasons, strict=True):
        new = row[WIDTH : WIDTH + (beams >= 0).sum()]
        assert (new[-1] % 3 == 0) == (reason == "stop")
        assert all(token_id % 3 for token_id in new[:-1].tolist())


def test_a_prompt_that_is_over_is_padded() -> None:
    """The others go on beside it."""
    lengths: list[int] = []

    def check(token_ids: Any, _: Any) -> Any:
        lengths.append(token_ids.shape[1] - WIDTH)
        first = np.arange(len(token_ids)) < 2 * N_BEAMS
        if lengths[-1] > 2:
            assert (token_ids[first, -1] == PAD).all()
        return first & (lengths[-1] == 2)

    out = generate(stopping_criteria=check, eos_token_id=[], return_dict_in_generate=True)
    assert lengths == [1, 2, 3, 4, 5]
    assert out.finish_reasons == ["stop", "length"]
    assert (out.sequences[0, WIDTH + 2 :] == PAD).all()


def test_a_criterion_gets_the_scores_that_are_kept() -> None:
    seen: list[int] = []

    def check(token_ids: Any, scores: Any) -> Any:
        seen.append(len(scores))
        assert {step.shape for step in scores} == {(2 * N_BEAMS, N_VOCAB)}
        return np.zeros(len(token_ids), bool)

    out = generate(
        stopping_criteria=check,
        return_dict_in_generate=True,
        output_scores=True,
        eos_token_id=[],
    )
    assert seen == [1, 2, 3, 4, 5]
    assert len(out.scores) == 5


@pytest.mark.parametrize("loss", ["lost", "restarted"])
@pytest.mark.parametrize("number", range(2, 9))
def test_a_cache_that_is_lost_while_a_prompt_rests(
    number: int, loss: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The short prompt waits for the long one, whose tokens take passes more: also to be computed
    again."""
    monkeypatch.setattr(fakes, "hashed_logits", flat_logits)
    ids = np.full((2, 60), PAD)
    ids[0, -3:], ids[1] = list(b"abc"), np.arange(60) + 65
    mask = np.ones((2, 60), int)
    mask[0, :-3] = 0
    options: dict[str, Any] = {"num_beams": 3, "max_new_tokens": 7, "pad_token_id": PAD}
    plain = fake_model(max_sequences=8).generate(ids, mask, **options)
    used = fake_model(max_sequences=8)
    before_step(number, used, used.backend.lose_all if loss == "lost" else engine_of(used).restart)
    found = used.generate(ids, mask, logits_processor=lambda _, scores: scores, **options)
    np.testing.assert_array_equal(found, plain)


def test_all_beams_must_fit_together() -> None:
    with pytest.raises(ValueError, match="decodes all its sequences together, got 10, and max_seq"):
        generate(num_beams=5, stopping_criteria=lambda *_: False)


def test_functions_of_complete_see_one_text_at_a_time() -> None:
    """A criterion of the text API gets each candidate as a batch of one."""
    shapes: set[tuple[int, ...]] = set()

    def check(token_ids: Any, scores: Any) -> bool:
        shapes.add(token_ids.shape)
        return bool(token_ids[0, -1] % 3 == 0)

    done = fake_model(max_sequences=8).complete(
        ["abc", "x"],
        num_beams=3,
        num_return_sequences=3,
        stopping_criteria=check,
        eos_token_id=[],
        max_new_tokens=6,
    )
    assert {rows for rows, _ in shapes} == {1}
    stopped = [each for each in done if each.finish_reason == "stop"]
    assert stopped
    assert all(each.token_ids[-1] % 3 == 0 for each in stopped)
