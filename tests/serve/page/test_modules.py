"""The modules that compute and show nothing, run by a browser: streams, files, differences."""

from __future__ import annotations

import json
import re
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
    (_file(_with_message(usage={"prompt_tokens": -1})), "expected a whole number"),
    (_file(_with_message(usage={"prompt_tokens": 1e300})), "expected a whole number"),
    (_file(_with_message(model="x" * 2000)), "2000 characters are more than 1000"),
    (_file(_with(settings={"tools": [{"function": {"name": "a"}}, "DEEP"]})).replace(
        '"DEEP"', "[" * 20_000 + "]" * 20_000
    ), "nested too deeply"),
    ("[" * 100_000 + "]" * 100_000, "not exported from this page"),
    (_file("DEEP").replace('"DEEP"', "[" * 100_000 + "]" * 100_000), r"an object, found \[\["),
    (_file(_with_message(speed="fast")), "expected a number"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), BAD)
def test_a_file_of_another_form_is_refused_with_the_place(
    run: Any, text: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        run("conversation_check", "return m.importText(args[0])", text)


def test_a_time_that_is_still_to_come_is_now(run: Any) -> None:
    script = "return [m.importText(args[0])[0].updated <= Date.now()]"
    assert run("conversation_check", script, _file(_with(updated=1e300))) == [True]


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


MERGED = """
  const message = (id, parent, content, changed) => ({ id, parent, content, changed });
  const begun = message("b", "a", "one", 1);
  const ours = {
    id: "c", title: "old", leaf: "b", changed: 1, updated: 5,
    messages: [message("a", null, "Hi", 0), begun, message("d", "b", "only here", 2)],
  };
  const theirs = {
    id: "c", title: "new", leaf: "e", changed: 2, updated: 4,
    messages: [
      message("a", null, "Hi", 0), message("b", "a", "one two", 3), message("e", "a", "there", 1),
    ],
  };
"""


def test_what_two_tabs_wrote_is_merged_and_each_message_stays_the_same_object(run: Any) -> None:
    script = f"""{MERGED}
      const found = m.mergeInto(ours, theirs);
      return [
        found === ours, found.messages[1] === begun, found.title, found.leaf, found.updated,
        found.messages.map((each) => each.content),
      ];
    """
    assert run("merge", script) == [
        True, True, "new", "e", 5, ["Hi", "one two", "only here", "there"],
    ]  # fmt: skip


def test_an_older_version_changes_nothing(run: Any) -> None:
    script = f"""{MERGED}
      ours.changed = begun.changed = 9;
      const found = m.mergeInto(ours, theirs);
      return [found.title, found.leaf, found.messages.map((each) => each.content)];
    """
    assert run("merge", script) == ["old", "b", ["Hi", "one", "only here", "there"]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a":[1,{}],"b":"x, {y}"}', '{\n  "a": [\n    1,\n    {}\n  ],\n  "b": "x, {y}"\n}'),
        ('{"n": 12345678901234567890}', '{\n  "n": 12345678901234567890\n}'),
        ('{"a": 1, "a": 2}', '{\n  "a": 1,\n  "a": 2\n}'),
        ('{"a": "cut \\" here', '{\n  "a": "cut \\" here'),
        ("plain text, [not] JSON", "plain text, [not] JSON"),
        ("[]", "[]"),
    ],
)
def test_arguments_are_indented_and_else_as_they_are(run: Any, text: str, expected: str) -> None:
    assert run("json_text", "return m.indented(args[0])", text) == expected


@pytest.mark.parametrize("text", ["[" * 50_000, '{"a":' * 5000, "]" * 1000 + "[1]"])
def test_nested_arguments_are_not_longer_than_they_were(run: Any, text: str) -> None:
    assert run("json_text", "return m.indented(args[0])", text) == text


def test_what_takes_long_to_show_is_shown_less_often(run: Any) -> None:
    script = """
      let now = 0;
      performance.now = () => now;
      const delays = [];
      window.setTimeout = (act, delay) => delays.push(delay);
      const frames = [];
      window.requestAnimationFrame = (act) => frames.push(act);
      let cost = 100;
      const pacer = new m.Pacer(() => { now += cost; });
      pacer.request();
      pacer.request();
      frames[0]();
      pacer.request();
      pacer.cancel();
      now += 300;
      pacer.request();
      const nFrames = frames.length;
      cost = 10_000;
      pacer.run();
      pacer.request();
      return [nFrames, delays];
    """
    assert run("pacer", script) == [2, [300, 1000]]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("null", "The server answered 502."),
        ('{"error": null}', "The server answered 502."),
        ('{"error": "text"}', "The server answered 502."),
        ('{"error": {"message": {"a": 1}}}', "[object Object]"),
        ("<h1>Bad gateway</h1>", "The server answered 502."),
    ],
)
def test_an_error_in_any_form_has_a_message(run: Any, body: str, message: str) -> None:
    script = """
      window.fetch = async () => new Response(args[0], { status: 502 });
      await m.getJson("/x");
    """
    with pytest.raises(ValueError, match=re.escape(message)):
        run("server", script, body)


def test_a_stream_may_have_empty_events(run: Any) -> None:
    script = """
      window.fetch = async () => new Response('data: null\\n\\ndata: {"a": 1}\\n\\ndata: [DONE]\\n\\n');
      const found = [];
      for await (const chunk of m.postStream("/x", {})) found.push(chunk);
      return found;
    """  # noqa: E501
    assert run("server", script) == [{"a": 1}]
