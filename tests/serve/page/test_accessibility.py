"""Both pages as people with a screen reader, a keyboard, a phone or a dark room use them."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import pytest

from tests.browsers import needs_browser, prefer, resize
from tests.serve.fake_openai import Failure, Reply
from tests.serve.page.chat_page import CONTROL, ENTER, ESCAPE, SHIFT, ChatPage

pytestmark = [needs_browser, pytest.mark.slow]

TEXT = """## Title

A *short* text with `code` and a [link](https://example.org).

> quoted

1. one
   - two

```python
print("a long line of code that is wider than the screen of any phone, so that it scrolls by itself")
```

| level | size of the file in gigabytes | loss against the reference | speed on this machine |
|---|--:|--:|--:|
| Q4_K_M | 4.9 | 0.012 | 38 |

- [x] done
"""  # fmt: skip  # noqa: E501
CALL = ("weather", '{"city": "Lima"}')


def _findings(page: ChatPage) -> list[str]:
    """Return what axe finds on the page as it is now."""
    pytest.importorskip("axe_playwright_python")
    script = files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
    source = (
        f"{script};\nconst done = arguments[arguments.length - 1];"
        "axe.run(document, {resultTypes: ['violations']}).then((found) => done(found.violations));"
    )
    violations = page.browser.execute_async_script(source)
    return [
        f"{each['id']}: {each['help']}: {json.dumps([node['html'] for node in each['nodes']][:3])}"
        for each in violations
    ]


def _filled(page: ChatPage) -> None:
    page.server.script(
        Reply(TEXT, reasoning="Let me think."), Reply("Again."),
        Reply(tool_calls=[CALL], finish_reason="tool_calls"), Failure(429, "The queue is full."),
    )  # fmt: skip
    page.ask("Show me everything")
    page.click('[aria-label="Generate another reply"]')
    page.wait_for_text("Again.")
    page.wait_for_end()
    page.click('[aria-label="Previous version"]')
    page.send("And a call")
    page.until(lambda: page.find_all(".results"))
    page.click(".results button")
    page.wait_for_text("The queue is full.")
    page.wait_for_end()
    page.js("document.querySelector('details').open = true")


def _loading(page: ChatPage) -> None:
    page.server.models = [{"id": "small", "status": "loading"}]
    page.server.script(Reply("one two", hold_after=0))
    page.send("Count")
    page.wait_for_text("Loading small")


def _cut(page: ChatPage) -> None:
    page.server.script(Reply("one two", finish_reason="length"))
    page.ask("Count")
    assert page.find_all('[aria-label="Continue this reply"]')


def _interrupted(page: ChatPage) -> None:
    page.server.script(Reply("one two", ends="error"))
    page.ask("Count")
    assert page.texts(".error button") == ["Continue", "Retry"]


def _edited_while_a_reply_comes(page: ChatPage) -> None:
    page.server.script(Reply("Hello."), Reply("one two", hold_after=1))
    page.ask("Hi")
    page.click('[aria-label="Edit this message"]')
    page.send("Count")
    page.wait_for_text("one")
    assert page.texts(".edit .hint") != [""]


STATES: dict[str, Callable[[ChatPage], Any]] = {
    "empty": lambda page: None,
    "filled": _filled,
    "loading": _loading,
    "cut": _cut,
    "interrupted": _interrupted,
    "edited while a reply comes": _edited_while_a_reply_comes,
    "settings": lambda page: page.press(CONTROL, ","),
    "shortcuts": lambda page: page.click("[data-opens=shortcuts]"),
    "drawer": lambda page: page.click("#sidebar-toggle"),
    "no results": lambda page: page.find("#search").send_keys("x"),
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 360])
@pytest.mark.parametrize("state", STATES)
def test_axe_finds_nothing_on_the_chat_page(
    page: ChatPage, scheme: str, width: int, state: str
) -> None:
    if state == "drawer" and width > 500:
        pytest.skip("the list of conversations is always there")
    prefer(page.browser, prefers_color_scheme=scheme, prefers_reduced_motion="reduce")
    resize(page.browser, width)
    if state == "no results" and width < 500:
        page.click("#sidebar-toggle")
        page.until(lambda: page.find("#search").is_displayed())
    STATES[state](page)
    assert _findings(page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 360])
def test_axe_finds_nothing_on_the_comparison(page: ChatPage, scheme: str, width: int) -> None:
    prefer(page.browser, prefers_color_scheme=scheme, prefers_reduced_motion="reduce")
    resize(page.browser, width)
    tokens = [
        {"token": each, "bytes": list(each.encode()), "logprob": -float(n),
         "top_logprobs": [{"token": "x", "logprob": -0.5}]}
        for n, each in enumerate(["The", " sky", " is", " blue", " and", " wide"])
    ]  # fmt: skip
    page.server.by_model = {"small": Reply(logprobs=tokens), "large": Reply(logprobs=tokens[:-1])}
    page.browser.get(f"{page.server.address}/compare")
    page.until(lambda: page.find_all("#right-model option"))
    assert _findings(page) == []
    page.find("#prompt").send_keys("Sky?", ENTER)
    page.until(lambda: "end" in page.find("#verdict").text)
    page.js("document.querySelectorAll('.token')[5].focus()")
    page.js("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert _findings(page) == []
    assert not _scrolls_sideways(page)


def test_axe_finds_nothing_while_one_reply_waits_for_the_other(page: ChatPage) -> None:
    prefer(page.browser, prefers_reduced_motion="reduce")
    no_room = Failure(503, "No room.", code="no_room_for_model")
    page.server.script()
    page.server.by_model = {"small": Reply("one two", hold_after=1), "large": [no_room]}
    page.browser.get(f"{page.server.address}/compare")
    page.until(lambda: page.find_all("#right-model option"))
    page.find("#prompt").send_keys("Sky?", ENTER)
    page.until(lambda: "Waits" in page.texts("#right-reply")[0])
    assert _findings(page) == []


def _scrolls_sideways(page: ChatPage) -> bool:
    return bool(page.js("return document.documentElement.scrollWidth > window.innerWidth"))


def test_a_phone_scrolls_only_vertically(page: ChatPage) -> None:
    resize(page.browser, 360, 740)
    _filled(page)
    assert page.js("return window.innerWidth") == 360
    assert not _scrolls_sideways(page)
    wide = (
        "return [...document.querySelectorAll('#messages *')].filter((node) =>"
        "!node.closest('pre, .table, .hidden, textarea') &&"
        "node.getBoundingClientRect().right > window.innerWidth).map((node) => node.outerHTML)"
    )
    assert page.js(wide) == []


def test_a_smaller_screen_still_shows_the_end(page: ChatPage) -> None:
    """A phone's keys take half of its screen while one writes."""
    page.server.script(Reply("\n\n".join(f"line {n}" for n in range(60))))
    page.ask("Write")
    for width, height in ((1200, 400), (360, 740), (360, 400)):
        resize(page.browser, width, height)
        page.until(lambda: page.js(AT_END))


AT_END = (
    "const frame = document.querySelector('#thread');"
    "return frame.scrollHeight - frame.scrollTop - frame.clientHeight < 2"
)


def test_on_a_phone_the_conversations_open_and_close(page: ChatPage) -> None:
    prefer(page.browser, prefers_reduced_motion="reduce")
    resize(page.browser, 360, 740)
    page.server.script(Reply("Hello."))
    page.ask("Hi")
    assert not page.find("#new").is_displayed()
    page.find("#sidebar-toggle").click()
    assert page.focused() == "New conversation"
    assert page.find("#sidebar-toggle").get_attribute("aria-expanded") == "true"
    assert page.js("return document.querySelector('#main').inert"), (
        "what lies below is out of reach"
    )
    page.press(ESCAPE)
    assert page.focused() == "Conversations"
    assert not page.find("#new").is_displayed()
    page.find("#sidebar-toggle").click()
    page.find("#conversations .open").click()
    assert page.messages() == ["Hi", "Hello."]
    assert not page.find("#new").is_displayed()


def test_a_reply_is_announced_by_paragraphs_and_at_its_end(page: ChatPage) -> None:
    page.server.script(Reply("One a.\n\nTwo b.\n\n```py\nx\n```\n\nThree c.", hold_after=3))
    page.send("Write")
    page.until(lambda: page.texts("#announcer p") == ["Waiting for the reply", "One a."])
    page.server.go()
    page.wait_for_end()
    said = page.js(
        "return [...document.querySelectorAll('#announcer p')].map((p) => p.textContent)"
    )
    assert said[1:5] == ["One a.", "Two b.", "Code, py", "Three c."]
    assert said[5].startswith("Reply complete, ")
    region = page.find("#announcer")
    assert (region.get_attribute("aria-live"), region.get_attribute("role")) == ("polite", "status")


def test_each_message_has_a_heading_and_headings_of_replies_are_below(page: ChatPage) -> None:
    page.server.script(Reply("# Title"))
    page.ask("Hi")
    script = (
        "return [...document.querySelectorAll('main :is(h1, h2, h3, h4)')]"
        ".map((each) => [each.localName, each.textContent])"
    )
    assert page.js(script) == [["h1", "Hi"], ["h2", "You"], ["h2", "Reply"], ["h3", "Title"]]


def test_the_focus_stays_with_the_versions_while_one_switches(page: ChatPage) -> None:
    page.server.script(Reply("One."), Reply("Two."), Reply("Three."))
    page.ask("Hi")
    for text in ("Two.", "Three."):
        page.click('[aria-label="Generate another reply"]')
        page.wait_for_text(text)
        page.wait_for_end()
    page.js("document.querySelector('[aria-label=\"Previous version\"]').focus()")
    page.press(ENTER)
    assert (page.replies(), page.focused()) == (["Two."], "Previous version")
    page.press(ENTER)
    assert page.replies() == ["One."]
    assert page.js("return document.activeElement.className") == "message assistant"


def test_dialogs_give_the_focus_back(page: ChatPage) -> None:
    page.find("#open-settings").click()
    assert page.js("return document.activeElement.closest('dialog').id") == "settings"
    page.press(ESCAPE)
    assert page.focused() == "Settings"


def test_the_switch_of_colours_is_kept(page: ChatPage) -> None:
    colour = "return getComputedStyle(document.body).backgroundColor"
    light = page.js(colour)
    prefer(page.browser, prefers_color_scheme="dark")
    dark = page.js(colour)
    assert (light, dark) == ("rgb(255, 254, 251)", "rgb(23, 22, 20)")
    page.click("#theme")
    assert (page.js(colour), page.find("#theme").get_attribute("title")) == (
        light,
        "Colours: light",
    )
    page.reload()
    assert page.js(colour) == light
    page.click("#theme")
    prefer(page.browser, prefers_color_scheme="light")
    assert page.js(colour) == dark
    page.click("#theme")
    assert page.js(colour) == light
    assert page.find("#theme").get_attribute("title") == "Colours: as the system"


def test_everything_is_reached_with_the_tab_key(page: ChatPage) -> None:
    page.server.script(Reply("Hello."))
    page.ask("Hi")
    page.js("document.activeElement.blur()")
    reached = set()
    for _ in range(40):
        page.press("\ue004")
        reached.add(page.focused())
    assert reached >= {
        "New conversation", "Search conversations", "Rename: Hi", "Delete: Hi", "Message", "Model",
        "Import conversations", "Export all conversations", "Compare two models", "Settings",
        "Keyboard shortcuts", "Export this conversation", "Messages", "Copy your message",
        "Edit this message", "Copy this reply", "Generate another reply", "Send the message",
    }  # fmt: skip


def test_shift_and_escape_reach_the_message_box(page: ChatPage) -> None:
    page.find("#search").click()
    page.press(SHIFT, ESCAPE)
    assert page.focused() == "Message"
