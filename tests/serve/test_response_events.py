"""The events of a response are those of OpenAI's API, and agree with the response at their end."""

from __future__ import annotations

from typing import Any

import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from localgen.serve.response_events import ResponseWriter
from localgen.serve.schemas.response_output import ResponseObject, ResponseUsage
from localgen.serve.schemas.response_stream import ResponseEvent
from localgen.text.replies.results import ReplyDelta, ToolCall

EVENTS: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
OWN_EVENTS: TypeAdapter[Any] = TypeAdapter(ResponseEvent)
USAGE: ResponseUsage = {
    "input_tokens": 5,
    "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 3},
    "output_tokens": 4,
    "output_tokens_details": {"reasoning_tokens": 1},
    "total_tokens": 9,
}
LOGPROB = {"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": []}


def text(piece: str) -> ReplyDelta:
    return ReplyDelta(kind="text", text=piece)


def reasoning(piece: str) -> ReplyDelta:
    return ReplyDelta(kind="reasoning", text=piece)


def call(index: int, name: str, *pieces: str, is_cut_off: bool = False) -> list[ReplyDelta]:
    whole = ToolCall(id="x", name=name, arguments={}, raw="", is_cut_off=is_cut_off)
    return [
        ReplyDelta(kind="tool_name", text=name, index=index),
        *(ReplyDelta(kind="tool_arguments", text=piece, index=index) for piece in pieces),
        ReplyDelta(kind="tool_call", index=index, tool_call=whole),
    ]


@pytest.fixture
def writer() -> ResponseWriter:
    response: ResponseObject = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "completed_at": None,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "model": "m",
        "output": [],
        "usage": None,
        "instructions": None,
        "tools": [],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "text": {"format": {"type": "text"}},
        "reasoning": {},
        "temperature": 1.0,
        "top_p": 1.0,
        "top_logprobs": 0,
        "max_output_tokens": None,
        "truncation": "disabled",
        "store": False,
        "background": False,
        "previous_response_id": None,
        "service_tier": "default",
        "metadata": {},
    }
    return ResponseWriter(response)


def written(
    writer: ResponseWriter, deltas: list[ReplyDelta], because: str | None = None
) -> list[dict[str, Any]]:
    events = writer.begin()
    for delta in deltas:
        events += writer.add(delta)
    return [*events, *writer.end(USAGE, because)]


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


def rebuilt(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a client that only reads deltas makes of them."""
    items: dict[int, dict[str, Any]] = {}
    for event in events:
        place = event.get("output_index", -1)
        if event["type"] == "response.output_item.added":
            items[place] = {"type": event["item"]["type"], "text": ""}
        elif event["type"].endswith(".delta"):
            items[place]["text"] += event["delta"]
    return [items[place] for place in range(len(items))]


def test_the_events_of_a_text(writer: ResponseWriter) -> None:
    events = written(writer, [text("Hel"), text("lo")])
    assert kinds(events) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[-4]["text"] == "Hello"


def test_events_are_of_openais_types_and_of_the_document(writer: ResponseWriter) -> None:
    deltas = [reasoning("Add"), reasoning("."), text("So: "), *call(0, "add", '{"x":', "1}")]
    events = written(writer, deltas)
    for event in events:
        EVENTS.validate_python(event)
        OWN_EVENTS.validate_python(event, strict=True)
    answer = Response.model_validate(events[-1]["response"])
    assert answer.output_text == "So: "
    assert answer.usage is not None
    assert [item.type for item in answer.output] == ["reasoning", "message", "function_call"]


def test_the_deltas_give_the_items_of_the_response(writer: ResponseWriter) -> None:
    deltas = [reasoning("Hm"), text("a"), *call(0, "f", "{", "}"), *call(1, "g"), text("b")]
    events = written(writer, deltas)
    items = events[-1]["response"]["output"]
    found = [
        {"type": i["type"], "text": i["arguments"] if "arguments" in i else i["content"][0]["text"]}
        for i in items
    ]
    assert rebuilt(events) == found
    assert [each["text"] for each in found] == ["Hm", "a", "{}", "", "b"]
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert done == items


def test_an_item_ends_before_the_next_begins(writer: ResponseWriter) -> None:
    events = written(writer, [reasoning("Hm"), text("a"), *call(0, "f"), text("b")])
    steps = [
        (event["output_index"], event["type"].rpartition(".")[2])
        for event in events
        if event["type"].startswith("response.output_item.")
    ]
    assert steps == [(place, step) for place in range(4) for step in ("added", "done")]


def test_what_an_event_says_does_not_change_later(writer: ResponseWriter) -> None:
    events = written(writer, [text("a"), text("b")])
    assert events[2]["item"]["content"] == []
    assert events[3]["part"]["text"] == ""
    assert [event["response"]["output"] for event in events[:2]] == [[], []]
    assert events[0]["response"]["status"] == "in_progress"


def test_a_reply_without_a_piece_is_an_empty_message(writer: ResponseWriter) -> None:
    (item,) = written(writer, [])[-1]["response"]["output"]
    assert item["content"][0]["text"] == ""


def test_a_reply_that_ended_too_early_is_incomplete(writer: ResponseWriter) -> None:
    last = written(writer, [reasoning("Hm")], "max_output_tokens")[-1]
    assert last["type"] == "response.incomplete"
    assert last["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert last["response"]["output"][0]["status"] == "incomplete"
    assert last["response"]["completed_at"] is None


def test_a_call_that_was_cut_off_is_incomplete(writer: ResponseWriter) -> None:
    last = written(writer, call(0, "f", '{"x', is_cut_off=True), "max_output_tokens")[-1]
    (item,) = last["response"]["output"]
    assert (item["status"], item["arguments"]) == ("incomplete", '{"x')


def test_a_call_without_a_name_is_still_an_item(writer: ResponseWriter) -> None:
    (item,) = written(writer, call(0, "")[-1:])[-1]["response"]["output"]
    assert (item["type"], item["name"]) == ("function_call", "")


def test_an_error_ends_the_stream_with_what_came(writer: ResponseWriter) -> None:
    writer.begin()
    writer.add(text("Half"))
    (event,) = writer.fail("server_error", "the model stopped", None)
    EVENTS.validate_python(event)
    assert event["type"] == "response.failed"
    assert event["response"]["error"] == {"code": "server_error", "message": "the model stopped"}
    assert event["response"]["output"][0]["content"][0]["text"] == "Half"


def test_logprobs_are_in_the_delta_and_in_the_message(writer: ResponseWriter) -> None:
    (*_, delta) = writer.add(text("Hi"), [LOGPROB])
    writer.add(text("!"))
    assert delta["logprobs"] == [LOGPROB]
    done, part, item, _ = writer.end(USAGE, None)
    assert done["logprobs"] == part["part"]["logprobs"] == [LOGPROB]
    assert item["item"]["content"][0]["logprobs"] == [LOGPROB]
