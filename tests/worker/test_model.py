"""An isolated model: it answers as the model itself does, and outlives its process."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localgen import LocalModel
from localgen.completion import Completion
from localgen.errors import (
    ClosedError,
    ContextFullError,
    ModelNotFoundError,
    WorkerCrashedError,
)
from localgen.generation.row_stream import RowUpdate
from localgen.model.module_methods import ModuleMethods
from localgen.worker.model import IsolatedModel
from tests.worker import functions
from tests.worker.conftest import load_isolated

GREEDY: dict[str, Any] = {"max_new_tokens": 8, "do_sample": False}
MESSAGES = [{"role": "user", "content": "the cat"}]
TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"


def same(completion: Completion) -> tuple[Any, ...]:
    """What two runs of one call have in common."""
    return completion.text, completion.token_ids, completion.finish_reason, completion.logprobs


# --- the same answers ---


def test_every_public_method_is_isolated_inherited_on_purpose_or_refused() -> None:
    """A new method of LocalModel must be thought of here: its own would use what only it has."""
    inherited = {
        # They use other methods of this list alone.
        *("chat", "chat_prompt", "achat_prompt", "run_tools", "compute_transition_scores"),
        *("generation_config", "sampling_defaults", "n_sequences_that_fit", "from_pretrained"),
    }
    kinds = [kind for kind in LocalModel.__mro__ if kind not in (ModuleMethods, object)]
    methods = {name for kind in kinds for name in vars(kind)}
    public = {name for name in methods if not name.startswith("_")} | {"__call__"}
    assert public - set(vars(IsolatedModel)) == inherited


@pytest.fixture(scope="module")
def tiny(tiny_bpe_path: Path) -> Iterator[LocalModel]:
    """The model of the worker, with the same fixed settings, in this process."""
    fixed: dict[str, Any] = {"n_threads": 1, "flash_attention": "off"}
    with LocalModel.from_pretrained(tiny_bpe_path, n_ctx=512, **fixed) as model:
        yield model


def test_signatures_are_those_of_a_model_in_this_process() -> None:
    for name in ("complete", "stream", "acomplete", "choose", "aclassify", "generate", "chat"):
        own, original = getattr(IsolatedModel, name), getattr(LocalModel, name)
        assert inspect.signature(own) == inspect.signature(original)
        assert own.__doc__ == original.__doc__


def test_texts_are_those_of_a_model_in_this_process(
    tiny: LocalModel, isolated: IsolatedModel
) -> None:
    cases: list[Any] = ["the cat", ["the", "a dog", [5, 6, 7]]]
    for prompts in cases:
        options = {**GREEDY, "logprobs": 2}
        here: Any = tiny.complete(prompts, **options)
        there: Any = isolated.complete(prompts, **options)
        assert type(here) is type(there)
        if isinstance(here, Completion):
            here, there = [here], [there]
        assert [same(each) for each in here] == [same(each) for each in there]


def test_streams_give_the_text_in_pieces(tiny: LocalModel, isolated: IsolatedModel) -> None:
    with_pieces = isolated.stream("the cat", **GREEDY)
    pieces = list(with_pieces)
    assert len(pieces) > 1
    assert "".join(pieces) == with_pieces.completion.text == tiny.complete("the cat", **GREEDY).text


def test_rows_come_as_they_finish(tiny: LocalModel, isolated: IsolatedModel) -> None:
    prompts = ["the", "cat", "dog"]
    found = dict(isolated.complete_iter(prompts, **GREEDY))
    wanted = tiny.complete(prompts, **GREEDY)
    assert [found[i].text for i in range(3)] == [each.text for each in wanted]


def test_chats_are_rendered_alike(tiny: LocalModel, isolated: IsolatedModel) -> None:
    given = {"chat_template": TEMPLATE, **GREEDY}
    here, there = tiny.chat(MESSAGES, **given), isolated.chat(MESSAGES, **given)
    assert same(here) == same(there)
    assert "".join(isolated.chat_stream(MESSAGES, **given)) == here.text
    assert asyncio.run(isolated.achat(MESSAGES, **given)).text == here.text


def test_the_tokenizer_has_the_same_tokens(tiny: LocalModel, isolated: IsolatedModel) -> None:
    text = "the cat sat, naïvely"
    assert isolated.tokenizer.encode(text) == tiny.tokenizer.encode(text)
    assert isolated.tokenizer.decode(tiny.tokenizer.encode(text)) == text
    assert isolated.tokenizer.get_vocab() == tiny.tokenizer.get_vocab()
    assert isolated.tokenizer.special_tokens_map == tiny.tokenizer.special_tokens_map


def test_choices_and_scores_are_the_same(tiny: LocalModel, isolated: IsolatedModel) -> None:
    choices = [" dog", " cat"]
    assert isolated.choose("the", choices).choices == tiny.choose("the", choices).choices
    assert np.array_equal(isolated.score("the cat sat"), tiny.score("the cat sat"))
    pairs = [([5, 6], [7, 8])]
    assert isolated.score_continuations(pairs) == tiny.score_continuations(pairs)
    scored = asyncio.run(isolated.ascore_tokens([5, 6, 7], top=2))
    assert [each.token_id for each in scored] == [6, 7]
    labels = isolated.classify(["the cat", "a dog"], ["x", "y"])
    assert [each.probabilities for each in labels] == [
        each.probabilities for each in tiny.classify(["the cat", "a dog"], ["x", "y"])
    ]


def test_generate_returns_token_ids(tiny: LocalModel, isolated: IsolatedModel) -> None:
    ids = [[5, 6, 7], [8, 9, 10]]
    assert np.array_equal(isolated.generate(ids, **GREEDY), tiny.generate(ids, **GREEDY))
    with pytest.raises(ValueError, match="sends no logits"):
        isolated.generate(ids, output_scores=True, return_dict_in_generate=True, **GREEDY)


def test_generate_puts_tokens_to_a_streamer(isolated: IsolatedModel) -> None:
    class Streamer:
        def __init__(self) -> None:
            self.seen: list[Any] = []
            self.is_over = False

        def put(self, token_ids: Any) -> None:
            self.seen += np.ravel(token_ids).tolist()

        def end(self) -> None:
            self.is_over = True

    streamer = Streamer()
    out = isolated.generate([[5, 6, 7]], streamer=streamer, **GREEDY)
    assert streamer.is_over
    assert streamer.seen == out[0].tolist()


def test_asyncio_runs_calls_in_one_batch(tiny: LocalModel, isolated: IsolatedModel) -> None:
    async def run() -> list[Completion]:
        calls = [isolated.acomplete(text, **GREEDY) for text in ("the", "cat", "dog")]
        return await asyncio.gather(*calls)

    wanted = tiny.complete(["the", "cat", "dog"], **GREEDY)
    assert [each.text for each in asyncio.run(run())] == [each.text for each in wanted]


def test_rows_are_streamed_with_their_tokens(tiny: LocalModel, isolated: IsolatedModel) -> None:
    async def run() -> tuple[list[list[int]], list[str], list[Completion]]:
        ids: list[list[int]] = [[], []]
        texts = ["", ""]
        rows = isolated.astream_rows(["the", "cat"], logprobs=1, **GREEDY)
        async with aclosing(rows):
            async for updates in rows:
                for each in updates:
                    ids[each.row] += each.token_ids
                    texts[each.row] += "".join(delta.text for delta in each.deltas)
                    assert len(each.logprobs) == len(each.token_ids)
        return ids, texts, rows.completions

    ids, texts, completions = asyncio.run(run())
    wanted = tiny.complete(["the", "cat"], logprobs=1, **GREEDY)
    assert [same(each) for each in completions] == [same(each) for each in wanted]
    assert ids == [each.token_ids for each in wanted]
    assert texts == [each.text for each in wanted]


def test_default_options_reach_the_worker(isolated: IsolatedModel) -> None:
    isolated.generation_config.max_new_tokens = 3
    try:
        assert len(isolated.complete("the", do_sample=False).token_ids) <= 3
    finally:
        isolated.generation_config.max_new_tokens = None


def test_objects_of_the_callers_classes_are_made_in_the_program(isolated: IsolatedModel) -> None:
    @dataclass
    class Answer:
        yes: bool

    done = isolated.complete("the", json_schema=Answer, max_new_tokens=64, do_sample=False)
    if done.is_valid:
        assert isinstance(done.parsed, Answer)
    else:
        assert done.parsed is None


# --- arguments, errors and warnings ---


def test_errors_of_arguments_come_with_their_type(isolated: IsolatedModel) -> None:
    with pytest.raises(ContextFullError) as error:
        isolated.complete([[5] * 600])
    assert error.value.n_prompt == 600
    with pytest.raises(TypeError, match="max_tokens"):
        isolated.complete("the", max_tokens=3)
    with pytest.raises(ValueError, match="temperature"):
        isolated.stream("the", temperature=-1)


def test_a_missing_file_is_reported_as_without_a_worker(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError):
        LocalModel.from_pretrained(tmp_path / "none.gguf", isolated=True)


def test_functions_run_in_the_worker(isolated: IsolatedModel) -> None:
    done = isolated.complete(
        "the", logits_processor=functions.favour_five, max_new_tokens=3, do_sample=False
    )
    assert done.token_ids == [5, 5, 5]


def test_an_error_of_a_function_ends_its_call_alone(isolated: IsolatedModel) -> None:
    with pytest.raises(LookupError, match="no such score") as error:
        isolated.complete("the", logits_processor=functions.fail)
    assert error.value.partial[0].finish_reason == "cancelled"  # type: ignore[attr-defined]


def test_a_function_that_raises_keyboard_interrupt_ends_its_call_alone(
    isolated: IsolatedModel,
) -> None:
    """No Ctrl-C comes in the process, whose thread drives for another call."""
    other = isolated.stream("the cat", max_new_tokens=400, min_new_tokens=400)
    next(other)
    with pytest.raises(KeyboardInterrupt):
        isolated.complete("the", logits_processor=functions.interrupt)
    list(other)
    assert other.completion.finish_reason == "length"


def test_rows_give_all_that_came_before_an_error_and_no_end_of_their_own(
    isolated: IsolatedModel,
) -> None:
    updates: list[RowUpdate] = []

    async def run() -> None:
        rows = isolated.astream_rows(["the"], logits_processor=functions.FailAfter(3), **GREEDY)
        async with aclosing(rows):
            async for some in rows:
                updates.extend(some)

    with pytest.raises(LookupError) as error:
        asyncio.run(run())
    (partial,) = error.value.partial  # type: ignore[attr-defined]
    assert [token for each in updates for token in each.token_ids] == partial.token_ids
    assert len(partial.token_ids) == 3
    assert "".join(delta.text for each in updates for delta in each.deltas) == partial.text
    assert {each.finish_reason for each in updates} == {None}


def test_a_function_that_cannot_be_sent_is_refused_before_it_is(isolated: IsolatedModel) -> None:
    with pytest.raises(TypeError, match=r"logits_processor cannot be sent .* isolated=True"):
        isolated.complete("the", logits_processor=lambda ids, scores: scores)


def test_what_is_not_offered_says_how_to_have_it(isolated: IsolatedModel) -> None:
    with pytest.raises(TypeError, match="without isolated=True"):
        isolated.prefill("the")
    with pytest.raises(TypeError, match="logits do not leave"):
        isolated([[5, 6]])


def test_warnings_point_at_the_callers_line(isolated: IsolatedModel) -> None:
    with pytest.warns(UserWarning, match="max_new_tokens") as caught:
        isolated.complete("the", max_new_tokens=5, max_length=20, do_sample=False)
    assert caught[0].filename == __file__


def test_cancel_ends_a_call_with_what_it_has(isolated: IsolatedModel) -> None:
    cancel = threading.Event()
    stream = isolated.stream("the", max_new_tokens=400, min_new_tokens=400, cancel=cancel)
    next(stream)
    cancel.set()
    for _ in stream:
        pass
    assert stream.completion.finish_reason == "cancelled"


def test_leaving_a_stream_frees_its_row(isolated: IsolatedModel) -> None:
    async def run() -> None:
        rows = isolated.astream_rows(["the"], max_new_tokens=400, min_new_tokens=400)
        async with aclosing(rows):
            async for _ in rows:
                break

    asyncio.run(run())
    assert not isolated._client.supervisor._calls


# --- ends of the process ---


def test_a_crash_ends_the_calls_in_flight_with_what_they_had(isolated: IsolatedModel) -> None:
    before = isolated.n_restarts
    with pytest.raises(WorkerCrashedError, match="SIGABRT") as error:
        isolated.complete(
            "the", logits_processor=functions.AbortAfter(3), max_new_tokens=9, do_sample=False
        )
    assert error.value.signal == "SIGABRT"
    assert len(error.value.partial[0].token_ids) == 3
    assert "Abort" in error.value.output
    assert len(isolated.complete("the", **GREEDY).token_ids) > 0
    assert isolated.n_restarts == before + 1


def test_a_call_that_ended_the_worker_twice_is_refused(isolated: IsolatedModel) -> None:
    given: dict[str, Any] = {"logits_processor": functions.abort, "max_new_tokens": 7}
    for _ in range(2):
        with pytest.raises(WorkerCrashedError, match="SIGABRT"):
            isolated.complete("refuse me", **given)
    isolated.complete("the", **GREEDY)  # the worker runs again
    before = isolated.n_restarts
    with pytest.raises(WorkerCrashedError, match="refused") as error:
        isolated.complete("refuse me", **given)
    assert error.value.is_refused
    assert isolated.n_restarts == before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV", "SIGTERM"])
def test_each_way_to_end_is_named(isolated: IsolatedModel, name: str) -> None:
    hang = functions.HangAfter(4)
    stream = isolated.stream(
        f"the {name}",
        logits_processor=hang,
        min_new_tokens=9,  # an end token must not come first
        max_new_tokens=9,
    )
    next(stream)
    assert isolated.worker_pid is not None
    os.kill(isolated.worker_pid, getattr(signal, name))
    with pytest.raises(WorkerCrashedError, match=name) as error:
        for _ in stream:
            pass
    assert error.value.partial[0].text.startswith(stream.completion.text)


@pytest.mark.slow
def test_close_ends_the_process_and_all_calls(tiny_bpe_path: Path) -> None:
    model = load_isolated(tiny_bpe_path)
    stream = model.stream("the", max_new_tokens=400, min_new_tokens=400)
    next(stream)
    pid = model.worker_pid
    model.close()
    model.close()
    with pytest.raises(ClosedError):
        for _ in stream:
            pass
    with pytest.raises(ClosedError):
        model.complete("the")
    assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
