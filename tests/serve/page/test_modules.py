"""The modules that compute and show nothing, run by a browser: streams, files, differences."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.browsers import needs_browser

pytestmark = [needs_browser, pytest.mark.slow]


EVENTS = [
    ("data: a\n\ndata: b\n\n", ["a", "b"]),
    ("data: a\r\n\r\ndata: b\r\n\r\n", ["a", "b"]),
    ("data: a\r\rdata: b\r\rx", ["a", "b"]),
    (": comment\n\nevent: x\nid: 1\ndata: a\ndata: b\n\n", ["a\nb"]),
    ("data:a\n\ndata:  b\n\n", ["a", " b"]),
    ("data: ä🙂\n\n", ["ä🙂"]),
    ("data: cut", []),
    ("data: cut\n", []),
    ("\n\n\n", []),
]


@pytest.mark.parametrize(("text", "events"), EVENTS)
def test_events_however_the_network_cuts_them(run: Any, text: str, events: list[str]) -> None:
    script = """
      const found = [];
      const bytes = new TextEncoder().encode(args[0]);
      for (const size of [1, 2, 3, 5, bytes.length]) {
        const parts = [];
        for (let at = 0; at < bytes.length; at += size) parts.push(bytes.slice(at, at + size));
        const body = new ReadableStream({
          pull(controller) {
            if (parts.length) controller.enqueue(parts.shift());
            else controller.close();
          },
        });
        const events = [];
        for await (const data of m.readEvents(body)) events.push(data);
        found.push(events);
      }
      return found;
    """
    assert run("events", script, text) == [events] * 5


GOOD: dict[str, Any] = {
    "title": "t", "created": 1, "updated": 2, "model": "small", "system": "", "leaf": "b",
    "settings": {"temperature": 0.5, "stop": ["a"], "unknown": 1},
    "messages": [
        {"id": "a", "parent": None, "created": 1, "role": "user", "content": "Hi"},
        {"id": "b", "parent": "a", "created": 1, "role": "assistant", "content": "Hello",
         "model": "small", "reasoning": "", "finishReason": "stop", "speed": 3.5,
         "toolCalls": [{"id": "c", "name": "f", "arguments": "{}"}],
         "usage": {"prompt_tokens": 1, "completion_tokens": 2}},
    ],
}  # fmt: skip


def _file(conversation: Any) -> str:
    return json.dumps(
        {"format": "localgen-conversations", "version": 1, "conversations": [conversation]}
    )


def test_an_exported_conversation_comes_back_under_new_ids(run: Any) -> None:
    script = "return m.importText(m.exportText(m.importText(args[0])))[0]"
    found = run("conversation_check", script, _file(GOOD))
    first, second = found["messages"]
    assert (first["content"], second["content"], found["title"]) == ("Hi", "Hello", "t")
    assert found["settings"] == {"temperature": 0.5, "stop": ["a"]}
    assert (second["parent"], found["leaf"]) == (first["id"], second["id"])
    assert second["toolCalls"] == GOOD["messages"][1]["toolCalls"]
    assert not {"a", "b"} & {first["id"], second["id"], found["id"]}


def _with(**fields: Any) -> Any:
    return {**GOOD, **fields}


def _with_message(**fields: Any) -> Any:
    first, second = GOOD["messages"]
    return _with(messages=[first, {**second, **fields}])


BAD = [
    ("{", "not JSON"),
    ("null", "not exported from this page"),
    ('{"format": "localgen-conversations", "version": 2}', "has version 2"),
    (_file(None), "conversation 1: expected an object, found null"),
    (_file([]), r"expected an object, found \[\]"),
    (_file(_with(title={"toString": 1})), "title of conversation 1: expected a text"),
    (_file(_with(messages="x")), "messages of conversation 1: expected a list"),
    (_file(_with(leaf="nowhere")), 'no message "nowhere"'),
    (_file(_with(leaf="__proto__")), 'no message "__proto__"'),
    (_file(_with(settings={"temperature": "<b>"})), "Temperature is a number"),
    (_file(_with(settings={"stop": "x"})), "Stop texts is a list"),
    (_file(_with(settings={"tools": [1]})), "Tools is a list"),
    (_file(_with(created="now")), "expected a number"),
    (_file(_with_message(id="a")), '"a" is empty or used twice'),
    (_file(_with_message(parent="b")), 'no message "b" before it'),
    (_file(_with_message(role="system")), 'role is "system"'),
    (_file(_with_message(content=["x"])), "content of message 2 of conversation 1: expected"),
    (_file(_with_message(toolCalls=[{"id": 1}])), "expected a text, found 1"),
    (_file(_with_message(usage={"prompt_tokens": -1})), "expected a number"),
    (_file(_with_message(speed="fast")), "expected a number"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), BAD)
def test_a_file_of_another_form_is_refused_with_the_place(
    run: Any, text: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        run("conversation_check", "return m.importText(args[0])", text)


def test_fields_that_no_one_knows_are_left_behind(run: Any) -> None:
    """Nor can they reach what all objects share."""
    text = _file(GOOD).replace('"title"', '"__proto__": {"harmed": 1}, "constructor": 1, "title"')
    script = (
        "const [found] = m.importText(args[0]);"
        "return [Object.keys(found), ({}).harmed ?? null, found.harmed ?? null]"
    )
    keys, *harmed = run("conversation_check", script, text)
    assert harmed == [None, None]
    assert set(keys) == {
        "id",
        "title",
        "created",
        "updated",
        "model",
        "system",
        "settings",
        "leaf",
        "messages",
    }


@pytest.mark.parametrize(
    ("left", "right", "is_ended", "expected"),
    [
        ("a quick fox", "a lazy fox", False, (1, [2, 7], [2, 6])),
        ("a waves b", "a wavelengths b", False, (1, [2, 7], [2, 13])),
        ("a wave", "a wavelength", False, (1, None, None)),
        ("a wave", "a wavelength", True, (1, [2, 6], [2, 12])),
        ("same", "same", True, (1, None, None)),
        ("one", "one two", True, (1, [3, 3], [3, 7])),
        ("", "", False, (0, None, None)),
        ("", "a", True, (0, [0, 0], [0, 1])),
        ("b", "a", True, (0, [0, 1], [0, 1])),
        ("a  b", "a\n\nb", True, (1, [1, 4], [1, 4])),
    ],
)
def test_the_first_different_word(
    run: Any, left: str, right: str, is_ended: bool, expected: Any
) -> None:
    found = run("difference", "return m.firstDifference(...args)", left, right, is_ended)
    assert (found["nSameWords"], found["left"], found["right"]) == expected
    assert found["isSame"] == (is_ended and left == right)


def test_a_character_of_several_tokens_is_the_text_of_the_last(run: Any) -> None:
    entries = [
        {"token": "\ufffd", "bytes": [0xF0, 0x9F], "logprob": -1},
        {"token": "\ufffd", "bytes": [0x99, 0x82], "logprob": -2},
        {
            "token": " a",
            "bytes": None,
            "logprob": -3,
            "top_logprobs": [{"token": "b", "logprob": -4}],
        },
    ]
    script = (
        "const t = new m.TokenTexts(); t.add(args[0]);"
        "return [t.tokens.map((x) => x.text), t.text, t.perplexity]"
    )
    texts, text, perplexity = run("token_texts", script, entries)
    assert (texts, text) == (["", "🙂", " a"], "🙂 a")
    assert perplexity == pytest.approx(2.718281828**2)
