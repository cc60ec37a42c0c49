"""The chat page in a real browser, with a server whose replies are scripted."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browsers import needs_browser, requests_of
from tests.serve.fake_openai import Failure, Reply
from tests.serve.page.chat_page import ARROW_UP, CONTROL, ENTER, ESCAPE, SHIFT, ChatPage

pytestmark = [needs_browser, pytest.mark.slow]


def _said(body: dict[str, Any]) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in body["messages"]]


def test_a_message_gets_a_reply_and_the_next_one_has_both_before_it(page: ChatPage) -> None:
    page.server.script(Reply("Hello **you**."), Reply("Fine."))
    assert page.ask("Hi") == "Hello you."
    assert page.ask("How are you?") == "Fine."
    first, second = page.server.bodies
    assert first == {
        "model": "small",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    }
    assert _said(second) == [
        ("user", "Hi"), ("assistant", "Hello **you**."), ("user", "How are you?"),
    ]  # fmt: skip


def test_a_reply_is_shown_as_it_grows(page: ChatPage) -> None:
    page.server.script(Reply("one two three four", hold_after=2))
    page.send("Count")
    page.wait_for_text("one two")
    assert page.replies() == ["one two"]
    assert page.find("#send").get_attribute("aria-label") == "Stop the reply"
    page.server.go()
    page.wait_for_end()
    assert page.replies() == ["one two three four"]
    assert "4 tokens" in page.texts(".facts")[0]


@pytest.mark.parametrize("how", ["button", "key"])
def test_a_stopped_reply_keeps_what_came_and_frees_the_server(page: ChatPage, how: str) -> None:
    page.server.script(Reply("one two three four", hold_after=2))
    page.send("Count")
    page.wait_for_text("one two")
    page.press(ESCAPE) if how == "key" else page.click("#send")
    page.wait_for_end()
    page.until(lambda: page.server.n_cut_by_client == 1)
    assert page.replies() == ["one two"]
    facts = page.texts(".facts")[0]
    assert "2 tokens" in facts
    assert "stopped by you" in facts
    assert page.texts("#context-text") == ["Context: 22 of 4,096 tokens"]
    page.reload()
    page.until(page.replies)
    assert (page.replies(), page.texts(".facts")) == (["one two"], [facts])


def test_a_reply_says_that_its_model_is_being_loaded(page: ChatPage) -> None:
    page.server.models = [{"id": "small", "status": "loading"}, {"id": "large"}]
    page.server.script(Reply("Hello.", hold_after=0))
    page.send("Hi")
    page.wait_for_text("Loading small")
    assert "Loading small" in page.texts("#announcer p")
    page.server.models = [{"id": "small", "status": "loaded"}, {"id": "large"}]
    page.until(lambda: not any("Loading" in each for each in page.texts("#messages")))
    page.server.go()
    page.wait_for_end()
    assert page.replies() == ["Hello."]


CONTINUE = '[aria-label="Continue this reply"]'


def test_a_reply_that_was_cut_is_continued(page: ChatPage) -> None:
    page.server.script(Reply("one two", finish_reason="length"), Reply(" three."), Reply("Fine."))
    assert page.ask("Count") == "one two"
    page.click(CONTINUE)
    page.wait_for_text("three.")
    page.wait_for_end()
    assert page.replies() == ["one two three."]
    body = page.server.bodies[1]
    assert _said(body) == [("user", "Count"), ("assistant", "one two")]
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
    assert "3 tokens" in page.texts(".facts")[0]
    assert not page.find_all(CONTINUE), "it has ended by itself"
    page.ask("And you?")
    assert _said(page.server.bodies[2])[1] == ("assistant", "one two three.")
    assert "continue_final_message" not in page.server.bodies[2]


def test_a_reply_that_was_stopped_can_be_continued(page: ChatPage) -> None:
    page.server.script(Reply("one two three", hold_after=2), Reply(" and more"))
    page.send("Count")
    page.wait_for_text("one two")
    page.press(ESCAPE)
    page.wait_for_end()
    page.click(CONTINUE)
    page.wait_for_text("and more")
    page.wait_for_end()
    assert page.replies() == ["one two and more"]


def test_regenerate_adds_a_version_and_one_can_switch_between_them(page: ChatPage) -> None:
    page.server.script(Reply("First."), Reply("Second."), Reply("After the first."))
    page.ask("Hi")
    page.click('[aria-label="Generate another reply"]')
    page.wait_for_text("Second.")
    page.wait_for_end()
    assert page.texts(".count") == ["2/2"]
    page.click('[aria-label="Previous version"]')
    assert (page.replies(), page.texts(".count")) == (["First."], ["1/2"])
    page.ask("And then?")
    assert _said(page.server.bodies[-1])[1] == ("assistant", "First.")
    page.click('[aria-label="Next version"]')
    assert page.replies() == ["Second."]
    page.click('[aria-label="Previous version"]')
    assert page.replies() == ["First.", "After the first."], "a branch is shown down to its end"


def test_an_edited_message_starts_a_branch_and_the_old_one_stays(page: ChatPage) -> None:
    page.server.script(Reply("Paris."), Reply("You are welcome."), Reply("Lima."))
    page.ask("Capital of France?")
    page.ask("Thanks")
    page.click('[aria-label="Edit this message"]')
    field = page.find(".edit textarea")
    assert field.get_attribute("value") == "Capital of France?"
    field.clear()
    field.send_keys("Capital of Peru?", ENTER)
    page.wait_for_text("Lima.")
    page.wait_for_end()
    assert _said(page.server.bodies[-1]) == [("user", "Capital of Peru?")]
    assert page.messages() == ["Capital of Peru?", "Lima."]
    page.click('[aria-label="Previous version"]')
    assert page.messages() == ["Capital of France?", "Paris.", "Thanks", "You are welcome."]


def test_the_system_prompt_and_settings_are_sent_once_they_are_set(page: ChatPage) -> None:
    page.server.script(Reply("Ay."), Reply("Ay again."))
    page.press(CONTROL, ",")
    page.find("#system").send_keys("Talk like a pirate.")
    page.find("#setting-temperature").send_keys("0.5")
    page.find("#setting-top_k").send_keys("40")
    page.find("#setting-stop").send_keys("END")
    page.find("#setting-reasoning_effort").send_keys("low")
    page.find("#setting-seed").send_keys("-1")
    assert "Seed is a whole number" in page.texts(".problem")[5]
    page.press(ESCAPE)
    page.ask("Hi")
    body = page.server.bodies[0]
    assert _said(body)[0] == ("system", "Talk like a pirate.")
    sent = {
        name: body[name]
        for name in body
        if name not in ("model", "messages", "stream", "stream_options")
    }
    assert sent == {"temperature": 0.5, "top_k": 40, "stop": ["END"], "reasoning_effort": "low"}
    page.press(CONTROL, SHIFT, "o")
    page.ask("Hi")
    assert page.server.bodies[1]["temperature"] == 0.5
    assert _said(page.server.bodies[1]) == [("user", "Hi")], (
        "a system prompt is for its conversation"
    )


def test_the_model_that_is_chosen_is_asked(page: ChatPage) -> None:
    page.server.script(Reply("Yes."))
    page.find("#model").send_keys("large")
    page.ask("Are you large?")
    assert page.server.bodies[0]["model"] == "large"
    page.reload()
    assert page.js("return document.querySelector('#model').value") == "large"


def test_a_model_that_is_no_longer_served_is_named(page: ChatPage) -> None:
    page.server.script(Reply("Yes."))
    page.ask("Hi")
    page.server.models = [{"id": "another"}]
    page.reload()
    page.until(lambda: "small (not served)" in page.texts("#model option"))


def test_reasoning_is_folded(page: ChatPage) -> None:
    page.server.script(Reply("Four.", reasoning="Two and two."))
    page.ask("2+2?")
    fold = page.find(".reasoning")
    assert fold.get_attribute("open") is None
    fold.find_element("tag name", "summary").click()
    assert "Two and two." in fold.text
    page.server.script(Reply("Yes."))
    page.ask("Sure?")
    assert _said(page.server.bodies[1])[1] == ("assistant", "Four."), "reasoning is not sent back"


def test_tool_calls_are_shown_and_their_results_sent(page: ChatPage) -> None:
    calls = [("weather", '{"city": "Lima"}'), ("time", '{"zone": "PET"}')]
    page.server.script(Reply(tool_calls=calls, finish_reason="tool_calls"), Reply("Sunny at noon."))
    page.send("How is it in Lima?")
    page.wait_for_end()
    assert page.texts(".call code") == ["weather", "time"]
    assert page.texts(".call pre") == ['{\n  "city": "Lima"\n}', '{\n  "zone": "PET"\n}']
    for field, result in zip(page.find_all(".results textarea"), ("sunny", "12:00"), strict=True):
        field.send_keys(result)
    page.click(".results button")
    page.wait_for_text("Sunny at noon.")
    page.wait_for_end()
    assert page.server.bodies[1]["messages"][1:] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": f"call_{n}",
                    "type": "function",
                    "function": {"name": name, "arguments": given},
                }
                for n, (name, given) in enumerate(calls)
            ],
        },
        {"role": "tool", "tool_call_id": "call_0", "content": "sunny"},
        {"role": "tool", "tool_call_id": "call_1", "content": "12:00"},
    ]
    assert page.find_all(".results") == []


def test_an_error_of_the_server_is_shown_with_its_message_and_a_retry(page: ChatPage) -> None:
    page.server.script(Failure(429, "The queue is full.", {"Retry-After": "2"}), Reply("Hello."))
    page.send("Hi")
    page.wait_for_text("The queue is full.")
    page.wait_for_end()
    page.click(".error button")
    page.wait_for_text("Hello.")
    page.wait_for_end()
    assert page.messages() == ["Hi", "Hello."]
    assert page.find_all(".count") == [], "a reply that said nothing leaves no version"


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        ("cut", "The connection ended before the reply was complete."),
        ("error", "The model's process ended."),
    ],
)
def test_an_interrupted_reply_keeps_what_came(page: ChatPage, ends: str, message: str) -> None:
    page.server.script(Reply("one two", ends=ends), Reply("one two three"))
    page.ask("Count")
    assert (page.replies(), page.texts(".error p")) == (["one two"], [message])
    assert page.texts(".error button") == ["Continue", "Retry"]
    page.click(".error button + button")
    page.wait_for_text("three")
    page.wait_for_end()
    assert (page.replies(), page.texts(".count")) == (["one two three"], ["2/2"])


def test_an_interrupted_reply_is_continued(page: ChatPage) -> None:
    page.server.script(Reply("one two", ends="error"), Failure(503, "No."), Reply(" three"))
    page.ask("Count")
    page.click(".error button")
    page.wait_for_text("No.")
    page.wait_for_end()
    assert page.replies() == ["one two"], "what was there stays"
    assert "2 tokens" in page.texts(".facts")[0]
    page.click(".error button")
    page.wait_for_text("three")
    page.wait_for_end()
    assert (page.replies(), page.errors()) == (["one two three"], [])
    assert page.server.bodies[-1]["continue_final_message"] is True
    assert "3 tokens" in page.texts(".facts")[0]


def test_a_server_that_is_away_is_named(page: ChatPage) -> None:
    page.browser.execute_cdp_cmd("Network.enable", {})
    conditions = {"latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    page.browser.execute_cdp_cmd(
        "Network.emulateNetworkConditions", {"offline": True, **conditions}
    )
    page.send("Hi")
    page.wait_for_text("The server cannot be reached.")
    conditions = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    page.browser.execute_cdp_cmd(
        "Network.emulateNetworkConditions", {"offline": False, **conditions}
    )
    page.server.script(Reply("Hello."))
    page.click(".error button")
    page.wait_for_text("Hello.")


def test_a_key_is_asked_for_and_kept_until_the_tab_is_closed(page: ChatPage) -> None:
    page.server.api_key = "right"
    page.reload_without_waiting()
    page.until(lambda: page.find("#key-dialog").get_attribute("open"))
    page.find("#key").send_keys("wrong", ENTER)
    page.until(
        lambda: (
            page.find("#key").get_attribute("value") == ""
            and page.find("#key-dialog").get_attribute("open")
        )
    )
    page.find("#key").send_keys("right", ENTER)
    page.until(lambda: page.find_all("#model option"))
    page.server.script(Reply("Hello."))
    assert page.ask("Hi") == "Hello."
    page.reload()
    assert (
        page.js("return [sessionStorage.getItem('localgen.key'), localStorage.length]")[0]
        == "right"
    )
    assert "right" not in page.js("return JSON.stringify(localStorage)")


def test_a_key_that_stopped_working_is_asked_for_and_the_message_sent_again(page: ChatPage) -> None:
    page.server.api_key = "new"
    page.send("Hi")
    page.until(lambda: page.find("#key-dialog").get_attribute("open"))
    page.server.script(Reply("Hello."))
    page.find("#key").send_keys("“new”", ENTER)
    page.until(lambda: "Copy it again" in page.texts("#key-message")[0])
    page.find("#key").send_keys(" new ", ENTER)
    page.wait_for_text("Hello.")
    assert page.messages() == ["Hi", "Hello."]


def test_the_context_meter_and_the_speed(page: ChatPage) -> None:
    page.server.script(Reply("one two three"))
    page.ask("Count")
    assert page.texts("#context-text") == ["Context: 23 of 4,096 tokens"]
    assert "3 tokens" in page.texts(".facts")[0]


def test_keys(page: ChatPage) -> None:
    page.server.script(Reply("Hello."), Reply("Hello again."))
    assert page.focused() == "Message"
    page.find("#message").send_keys("one", SHIFT + ENTER + SHIFT, "two", ENTER)
    page.wait_for_text("Hello.")
    page.wait_for_end()
    assert page.server.bodies[0]["messages"][0]["content"] == "one\ntwo"
    page.find("#message").send_keys(ARROW_UP)
    assert page.focused() == "Your message, changed"
    page.press(ESCAPE)
    assert page.focused() == "Edit this message"
    page.press("?")
    assert page.find("#shortcuts").get_attribute("open")
    page.press(ESCAPE)
    page.press("/")
    assert page.focused() == "Message"
    page.find("#message").send_keys("?")
    assert not page.find("#shortcuts").get_attribute("open"), "a text is being written"
    page.press(CONTROL, "k")
    assert page.focused() == "Search conversations"
    page.press(CONTROL, SHIFT, "o")
    assert (page.focused(), page.messages()) == ("Message", [])


def test_it_asks_nobody_else_and_breaks_no_policy(page: ChatPage) -> None:
    page.server.script(Reply("![a](http://example.org/a.png) [b](https://example.org) <img src=x>"))
    requests_of(page.browser)
    page.open()
    page.ask("Hi")
    paths = {url.removeprefix(page.server.address) for url in requests_of(page.browser)}
    assert {path for path in paths if not path.startswith("data:")} == {
        "/",
        "/v1/models",
        "/v1/chat/completions",
    }
    assert page.browser.get_log("browser") == []


def test_the_end_stays_in_sight_unless_one_scrolls_away(page: ChatPage) -> None:
    page.server.script(Reply("\n\n".join(f"line {n}" for n in range(60)), hold_after=100))
    page.send("Write")
    page.wait_for_text("line 48")
    at_end = (
        "const frame = document.querySelector('#thread');"
        "return frame.scrollHeight - frame.scrollTop - frame.clientHeight < 2"
    )
    assert page.js(at_end)
    page.js("document.querySelector('#thread').scrollTop = 0")
    page.until(lambda: page.find("#to-end").is_displayed())
    page.server.go()
    page.wait_for_end()
    assert page.js("return document.querySelector('#thread').scrollTop") == 0
    page.find("#to-end").click()
    assert page.js(at_end)
