"""astream_rows(): its updates together are the completions, whatever the rows are."""

from __future__ import annotations

import asyncio
import threading
from contextlib import aclosing
from typing import Any

import pytest

from localgen import ContextFullError, DecodeError
from localgen.completion import Completion
from localgen.generation.row_stream import RowStream, RowUpdate
from localgen.text.replies.results import ReplyBuilder
from tests.fakes import FakeBackend, FakeModel, constrain, engine_of, fake_model, spelling
from tests.generation.replying import replying_model

CALL = '<tool_call>{"name": "weather", "arguments": {"city": "Lima"}}</tool_call>'
REPLY = f"<think>Hm.</think>\n\nI look.\n{CALL}"
ASK = [{"role": "user", "content": "Lima?"}]


async def read(rows: RowStream) -> list[list[RowUpdate]]:
    async with aclosing(rows):
        return [updates async for updates in rows]


def run(model: FakeModel, prompts: Any, **options: Any) -> tuple[list[RowUpdate], list[Completion]]:
    """All updates, and the completions; both must say the same."""

    async def main() -> tuple[list[RowUpdate], list[Completion]]:
        rows = model.astream_rows(prompts, **options)
        return [each for updates in await read(rows) for each in updates], rows.completions

    updates, done = asyncio.run(main())
    check_same(updates, done)
    return updates, done


def check_same(updates: list[RowUpdate], done: list[Completion]) -> None:
    for index, completion in enumerate(done):
        own = [each for each in updates if each.row == index]
        built = ReplyBuilder()
        built.add(delta for each in own for delta in each.deltas)
        reply = built.reply
        assert (reply.text, reply.reasoning) == (completion.text, completion.reasoning)
        assert reply.tool_calls == completion.tool_calls
        assert [token for each in own for token in each.token_ids] == completion.token_ids
        logprobs = [logprob for each in own for logprob in each.logprobs]
        assert logprobs == (completion.logprobs or [])
        assert [each.finish_reason for each in own][:-1] == [None] * (len(own) - 1)
        assert own[-1].finish_reason == completion.finish_reason
    assert {each.row for each in updates} == set(range(len(done)))


def test_rows_of_several_prompts_and_sequences() -> None:
    model = fake_model()
    options: dict[str, Any] = {
        "max_new_tokens": 12,
        "num_return_sequences": 2,
        "do_sample": True,
        "seed": 5,
    }
    updates, done = run(model, ["abc", [65, 66]], **options)
    same = model.complete(["abc", [65, 66]], **options)
    assert [each.token_ids for each in done] == [each.token_ids for each in same]
    assert len(updates) >= 4


def test_logprobs_come_with_their_tokens() -> None:
    updates, done = run(fake_model(), ["abc"], max_new_tokens=6, logprobs=2)
    assert all(len(each.logprobs) == len(each.token_ids) for each in updates)
    assert done[0].logprobs is not None


def test_text_that_waits_comes_at_the_end() -> None:
    """What could become a stop string, or is half a character."""
    model = fake_model(spelling("stö"))
    _, done = run(model, ["a?"], stop_strings=["stöp"], max_new_tokens=10)
    assert done[0].text == "stö"
    _, done = run(model, ["a?"], max_new_tokens=3)
    assert done[0].text == "st"
    _, done = run(model, ["a?"], stop_strings=["ö"])
    assert (done[0].text, done[0].finish_reason, done[0].stop_match) == ("st", "stop", "ö")


def test_replies_are_taken_apart_beside_plain_texts() -> None:
    model = replying_model(REPLY)
    chat = asyncio.run(model.achat_prompt(ASK))
    assert chat == model.chat_prompt(ASK)
    updates, done = run(model, [chat, chat.token_ids], max_new_tokens=200)
    assert (done[0].text, done[0].reasoning) == ("I look.", "Hm.")
    assert "<think>" in done[1].text
    assert {delta.kind for each in updates if each.row for delta in each.deltas} == {"text"}


def test_constrained_rows() -> None:
    model = fake_model()
    constrain(model)
    updates, done = run(model, ["?"], choices=["spring", "summer"], logprobs=0)
    assert done[0].is_valid
    assert len(updates) < len(done[0].token_ids), "forced tokens come together"


def test_rows_of_beams_come_at_their_end() -> None:
    options: dict[str, Any] = {"num_beams": 3, "num_return_sequences": 2, "max_new_tokens": 5}
    updates, done = run(fake_model(), ["abc"], **options)
    assert [each.row for each in updates] == [0, 1]
    assert [each.text for each in done] == [
        each.text for each in fake_model().complete(["abc"], **options)
    ]


def test_leaving_ends_the_call_and_leaves_what_came() -> None:
    backend, leaving = FakeBackend(), threading.Event()

    def wait_for_it() -> None:
        if backend.n_decoded > 6:
            assert leaving.wait(60)

    backend.on_decode = wait_for_it
    model = fake_model(backend=backend)

    async def leave() -> tuple[list[RowUpdate], list[Completion]]:
        rows = model.astream_rows(["abc"], max_new_tokens=400)
        assert rows.completions == []
        first = await anext(rows)
        leaving.set()
        await rows.aclose()
        while not engine_of(model).idle:
            await asyncio.sleep(0)
        return first, rows.completions

    (update,), (done,) = asyncio.run(leave())
    assert done.finish_reason == "cancelled"
    assert done.token_ids[: len(update.token_ids)] == list(update.token_ids)


def test_arguments_are_checked_when_it_is_read() -> None:
    model = fake_model(n_ctx=64)
    cases: list[tuple[type[Exception], Any, dict[str, Any]]] = [
        (TypeError, "a", {"temprature": 1.0}),
        (ValueError, "a", {"temperature": -1.0}),
        (ContextFullError, [65] * 65, {}),
    ]
    for error, prompt, options in cases:
        with pytest.raises(error):
            asyncio.run(read(model.astream_rows([prompt], **options)))


def test_an_error_comes_after_what_came_and_carries_it() -> None:
    backend = FakeBackend()

    def fail() -> None:
        if backend.n_decoded > 6:
            raise DecodeError("planned")

    backend.on_decode = fail
    updates: list[RowUpdate] = []

    async def main() -> None:
        async for some in fake_model(backend=backend).astream_rows(["abc"], max_new_tokens=40):
            updates.extend(some)

    with pytest.raises(DecodeError, match="planned") as caught:
        asyncio.run(main())
    (partial,) = caught.value.partial
    assert partial.finish_reason == "cancelled"
    assert [token for each in updates for token in each.token_ids] == partial.token_ids
    assert len(partial.token_ids) == 4
    assert {each.finish_reason for each in updates} == {None}


def test_a_call_is_built_beside_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokenizing a long prompt must not stop other tasks."""
    model, threads = fake_model(), set[int]()
    encode = model.tokenizer.encode

    def noting(*args: Any, **options: Any) -> list[int]:
        threads.add(threading.get_ident())
        return encode(*args, **options)

    monkeypatch.setattr(model.tokenizer, "encode", noting)
    run(model, ["abc"], max_new_tokens=2)
    assert threads
    assert threading.get_ident() not in threads
