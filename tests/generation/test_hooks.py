"""The caller's functions get what transformers gives them: the whole batch, one step at a time."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from localgen import GenerationConfig, KvBudgetError
from tests.fakes import EOS, FakeBackend, fake_model, hashed_letter, reference_greedy, spelling

PAD = 7
# Two prompts of three and six tokens, padded on the left.
IDS = np.array([[PAD, PAD, PAD, *b"abc"], list(b"longer")])
MASK = np.array([[0, 0, 0, 1, 1, 1], [1] * 6])
WIDTH = IDS.shape[1]


def generate(model: Any, **options: Any) -> np.ndarray:
    result: np.ndarray = model.generate(IDS, MASK, pad_token_id=PAD, **options)
    return result


class Seen:
    """Writes down what a processor and a criterion are given, and changes nothing."""

    def __init__(self) -> None:
        self.processed: list[list[list[int]]] = []
        self.checked: list[list[list[int]]] = []
        self.scores: list[Any] = []

    def process(self, input_ids: Any, scores: Any) -> Any:
        assert (input_ids.dtype, scores.dtype) == (np.int64, np.float32)
        assert scores.shape == (len(input_ids), 259)
        self.processed.append(input_ids.tolist())
        return scores

    def check(self, input_ids: Any, scores: Any) -> Any:
        self.checked.append(input_ids.tolist())
        self.scores.append(scores)
        return np.zeros(len(input_ids), bool)


def test_whole_padded_batches() -> None:
    """Every row as the caller gave it, padding included, and all new tokens so far; the tokens are
    those of a call without functions."""
    seen, plain = Seen(), generate(fake_model(), max_new_tokens=4)
    out = generate(
        fake_model(),
        max_new_tokens=4,
        logits_processor=[seen.process],
        stopping_criteria=[seen.check],
    )
    assert out.tolist() == plain.tolist()
    assert seen.processed == [plain[:, : WIDTH + n].tolist() for n in range(4)]
    assert seen.checked == [plain[:, : WIDTH + n].tolist() for n in range(1, 5)]
    assert seen.scores == [None] * 4


def test_a_finished_row_is_padded_on() -> None:
    """It stays in the batch, with finite scores, and costs no forward pass."""
    seen = Seen()
    ends = lambda t: EOS if len(t) == 3 else hashed_letter(t)  # noqa: E731
    model = fake_model(ends)
    out = generate(model, max_new_tokens=3, logits_processor=[seen.process])
    assert out[0, WIDTH:].tolist() == [EOS, PAD, PAD]
    assert [ids[0][WIDTH:] for ids in seen.processed] == [[], [EOS], [EOS, PAD]]
    decoded = [slots for name, slots in model.backend.calls if name == "decode"]
    assert [len(slots) for slots in decoded[-2:]] == [1, 1]


@pytest.mark.parametrize("options", [{"n_batch": 4}, {"n_batch": 16}, {"can_truncate": False}])
def test_prompts_that_are_ready_at_different_times(options: dict[str, Any]) -> None:
    """A row whose prompt is computed rests until the others are."""
    seen = Seen()
    out = generate(
        fake_model(backend=FakeBackend(**options)),
        max_new_tokens=5,
        logits_processor=[seen.process],
    )
    for row, prompt in zip(out[:, WIDTH:].tolist(), (b"abc", b"longer"), strict=True):
        assert row == reference_greedy(list(prompt), 5)
    assert [len(ids[0]) for ids in seen.processed] == [WIDTH + n for n in range(5)]


def test_a_row_that_ends_while_another_rests_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time runs out in the middle of its prompt: the other goes on without it."""
    real, ahead = time.perf_counter, [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: real() + ahead[0])
    model = fake_model(n_batch=4)
    model.backend.on_decode = lambda: ahead.__setitem__(0, 1000.0)
    limits = [GenerationConfig(max_new_tokens=2, max_time=t, pad_token_id=PAD) for t in (None, 500)]
    out = model.generate(
        IDS,
        MASK,
        generation_config=limits,
        logits_processor=lambda ids, scores: scores,
        return_dict_in_generate=True,
    )
    assert out.finish_reasons == ["length", "time"]
    assert out.sequences[0, WIDTH:].tolist() == reference_greedy(list(b"abc"), 2)


@pytest.mark.parametrize("can_truncate", [True, False])
def test_a_row_that_gets_its_place_while_the_others_rest(can_truncate: bool) -> None:
    """Another call has the place at first. Then the row computes the prompt itself, since the one
    that computed it for all has it already."""
    model = fake_model(max_sequences=3, can_truncate=can_truncate)
    stream = model.stream("another", max_new_tokens=5)
    next(stream)
    options: dict[str, Any] = {"num_return_sequences": 3, "do_sample": True, "seed": 1}
    seen = Seen()
    out = model.generate([list(b"abc")], max_new_tokens=3, logits_processor=seen.process, **options)
    assert seen.processed[0] == [list(b"abc")] * 3
    assert (
        out.tolist() == fake_model().generate([list(b"abc")], max_new_tokens=3, **options).tolist()
    )
    assert len("".join(stream)) == 4


def test_rows_of_one_prompt() -> None:
    """num_return_sequences: a row each, in the order of the result."""
    seen = Seen()
    out = generate(
        fake_model(),
        max_new_tokens=2,
        num_return_sequences=2,
        do_sample=True,
        seed=3,
        logits_processor=[seen.process],
    )
    assert seen.processed[1] == out[:, : WIDTH + 1].tolist()
    plain = generate(fake_model(), max_new_tokens=2, num_return_sequences=2, do_sample=True, seed=3)
    assert out.tolist() == plain.tolist()


def test_processors_by_the_number_of_the_row() -> None:
    """As transformers' PrefixConstrainedLogitsProcessor does it."""

    def only_own_digit(input_ids: Any, scores: Any) -> Any:
        forced = np.full_like(scores, -np.inf)
        for row in range(len(scores)):
            forced[row, ord("0") + row] = 0.0
        return forced

    out = generate(fake_model(), max_new_tokens=3, logits_processor=only_own_digit)
    assert out[:, WIDTH:].tolist() == [[ord("0")] * 3, [ord("1")] * 3]


def test_criteria_by_the_width_of_the_batch() -> None:
    """Regression: a criterion that reads ``input_ids[:, width:]`` saw rows without their padding.
    One flag a row ends that row, a single one all of them."""

    def after_two(input_ids: Any, scores: Any) -> Any:
        return np.array([input_ids.shape[1] == WIDTH + 2, False])

    out = generate(fake_model(), max_new_tokens=4, stopping_criteria=[after_two])
    assert out[0, WIDTH + 2 :].tolist() == [PAD, PAD]
    assert PAD not in out[1]
    out = generate(fake_model(), max_new_tokens=4, stopping_criteria=lambda ids, scores: True)
    assert out.shape == (2, WIDTH + 1)


def test_criteria_get_the_scores_that_are_kept() -> None:
    """The tuple of all steps so far with output_scores, as in transformers; NaN where a row is
    over."""
    seen = Seen()
    ends = lambda t: EOS if len(t) == 3 else hashed_letter(t)  # noqa: E731
    out = fake_model(ends).generate(
        IDS,
        MASK,
        pad_token_id=PAD,
        max_new_tokens=3,
        stopping_criteria=[seen.check],
        return_dict_in_generate=True,
        output_scores=True,
    )
    assert [len(scores) for scores in seen.scores] == [1, 2, 3]
    np.testing.assert_array_equal(seen.scores[-1], out.scores)


def test_options_come_before_the_functions_and_filters_after() -> None:
    """As in transformers: processors of options, the caller's, temperature and filters."""

    def lift(input_ids: Any, scores: Any) -> Any:
        assert (scores[:, ord("x")] == -np.inf).all()
        scores[:, ord("x")] = 100.0
        return scores

    out = generate(
        fake_model(),
        max_new_tokens=2,
        suppress_tokens=[ord("x")],
        logits_processor=[lift],
        do_sample=True,
        top_k=1,
    )
    assert (out[:, WIDTH:] == ord("x")).all()


def test_a_score_of_infinity() -> None:
    """Regression: refused. Its token is certain, greedy or sampled; of several, each may come."""

    def certain(input_ids: Any, scores: Any) -> Any:
        scores[:, [ord("x"), ord("y")]] = np.inf
        return scores

    greedy = generate(fake_model(), max_new_tokens=2, logits_processor=certain)
    assert (greedy[:, WIDTH:] == ord("x")).all()
    options: dict[str, Any] = {"logits_processor": certain, "max_new_tokens": 20, "do_sample": True}
    for filters in ({}, {"top_k": 0}, {"top_k": 0, "top_p": 0.9}, {"min_p": 0.1}):
        sampled = generate(fake_model(), seed=1, **options, **filters)
        assert set(sampled[:, WIDTH:].flatten().tolist()) == {ord("x"), ord("y")}


def test_more_sequences_than_run_together() -> None:
    """Functions of the batch need all of it: said before anything is computed."""
    model = fake_model(max_sequences=1)
    with pytest.raises(ValueError, match="got 2, and max_sequences is 1: load the model with"):
        generate(model, logits_processor=lambda ids, scores: scores)
    assert not model.backend.count("decode")


def test_more_sequences_than_the_budget_allows() -> None:
    """Found while it runs: an error, not a call that never ends; the model stays usable."""
    model = fake_model(backend=FakeBackend(budget=14), max_sequences=4)
    with pytest.raises(KvBudgetError, match="sequences that a call decodes together"):
        generate(model, max_new_tokens=4, logits_processor=lambda ids, scores: scores)
    assert generate(model, max_new_tokens=4).shape == (2, WIDTH + 4)


@pytest.mark.parametrize("answer", [None, "yes", [True, False, True], 0.5])
def test_criteria_without_a_flag_for_each_row(answer: Any) -> None:
    """What is no answer ends the call, and only the call."""
    model = fake_model()
    with pytest.raises(ValueError, match="must return True or False for each of 2 rows"):
        generate(model, stopping_criteria=lambda ids, scores: answer)
    assert generate(model, max_new_tokens=1).shape == (2, WIDTH + 1)


def test_a_processor_for_one_row_of_two() -> None:
    """A matrix of another shape than the scores' is refused."""
    with pytest.raises(ValueError, match=r"shape \(2, 259\) like its scores, got float32 \(1, 259"):
        generate(fake_model(), logits_processor=lambda ids, scores: scores[:1])


def test_functions_may_change_what_they_are_given() -> None:
    """Their arrays are copies."""

    def spoil(input_ids: Any, scores: Any) -> Any:
        kept = scores.copy() if scores is not None else False
        input_ids[:] = 0
        if scores is not None:
            scores[:] = np.nan
        return kept

    out = generate(fake_model(), max_new_tokens=3, logits_processor=spoil, stopping_criteria=spoil)
    assert out.tolist() == generate(fake_model(), max_new_tokens=3).tolist()


# --- the text API: one sequence at a time ---


def test_functions_of_the_text_api() -> None:
    """Regression: complete() and chat() took none. Each prompt is a batch of one, without padding,
    so that any number of prompts can wait for a place."""
    widths = []

    def only_bang(input_ids: Any, scores: Any) -> Any:
        widths.append(input_ids.shape)
        forced = np.full_like(scores, -np.inf)
        forced[0, ord("!")] = 0.0
        return forced

    model = fake_model(max_sequences=1)
    done = model.complete(["abc", "longer"], max_new_tokens=2, logits_processor=only_bang)
    assert [each.text for each in done] == ["!!", "!!"]
    assert widths == [(1, 3), (1, 4), (1, 6), (1, 7)]
    stream = model.stream("abc", max_new_tokens=2, logits_processor=[only_bang])
    assert "".join(stream) == "!!"


def test_criteria_of_the_text_api() -> None:
    model = fake_model(spelling("one two three"))
    ends = lambda ids, scores: ids[0, -1] == ord("w")  # noqa: E731
    assert model.complete("?", stopping_criteria=ends).text == "one tw"
    (index, done), *_ = model.complete_iter(["?"], stopping_criteria=[ends])
    assert (index, done.text, done.finish_reason) == (0, "one tw", "stop")


@pytest.mark.parametrize("error", [StopIteration, StopAsyncIteration])
def test_what_a_function_raises_is_never_taken_for_the_end_of_a_stream(error: Any) -> None:
    def fail(input_ids: Any, scores: Any) -> Any:
        raise error

    with pytest.raises(RuntimeError, match=f"raised {error.__name__}"):
        list(fake_model().stream("abc", max_new_tokens=2, logits_processor=fail))


def test_classes_of_transformers_get_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the prompt is: they know nothing else. Their modules stand in for the real ones."""
    torch = pytest.importorskip("torch")
    seen = []

    class Processor:
        def __call__(self, input_ids: Any, scores: Any) -> Any:
            seen.append((type(input_ids), type(scores)))
            return scores

    class Own(Processor):
        pass

    Processor.__module__ = "transformers.generation.logits_process"
    fake_model().complete("abc", max_new_tokens=1, logits_processor=[Own()])
    fake_model().generate([[65]], max_new_tokens=1, logits_processor=[Own()])
    assert seen == [(torch.Tensor, torch.Tensor)] * 2
