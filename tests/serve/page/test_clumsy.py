"""Clicks and keys that come twice, too early or too late: nothing is lost or done twice."""

from __future__ import annotations

import pytest

from tests.browsers import needs_browser
from tests.serve.fake_openai import Reply
from tests.serve.page.chat_page import ARROW_UP, CONTROL, ENTER, ChatPage

pytestmark = [needs_browser, pytest.mark.slow]


def _double_click(page: ChatPage, selector: str) -> None:
    from selenium.webdriver import ActionChains

    ActionChains(page.browser).double_click(page.find(selector)).perform()


def _click_at(page: ChatPage, x: int, y: int) -> None:
    from selenium.webdriver import ActionChains

    actions = ActionChains(page.browser)
    actions.w3c_actions.pointer_action.move_to_location(x, y)
    actions.click().perform()


def test_a_double_click_sends_and_does_not_stop(page: ChatPage) -> None:
    page.server.script(Reply("one two", hold_after=1))
    page.find("#message").send_keys("Count")
    _double_click(page, "#send")
    page.wait_for_text("one")
    assert page.find("#send").get_attribute("aria-label") == "Stop the reply"
    page.server.go()
    page.wait_for_end()
    assert (page.replies(), page.server.n_cut_by_client) == (["one two"], 0)


def test_a_double_click_stops_and_does_not_send_what_is_being_written(page: ChatPage) -> None:
    page.server.script(Reply("one two", hold_after=1))
    page.send("Count")
    page.wait_for_text("one")
    page.find("#message").send_keys("not yet")
    _double_click(page, "#send")
    page.wait_for_end()
    assert page.messages() == ["Count", "one"]
    assert page.find("#message").get_attribute("value") == "not yet"


def test_a_key_that_is_pressed_again_sends_nothing_more(page: ChatPage) -> None:
    page.server.script(Reply("one two", hold_after=1))
    page.find("#message").send_keys("Count", ENTER, ENTER, ENTER)
    page.wait_for_text("one")
    page.find("#message").send_keys("More", ENTER)
    assert page.find("#message").get_attribute("value") == "More"
    page.server.go()
    page.wait_for_end()
    assert (page.messages(), len(page.server.bodies)) == (["Count", "one two"], 1)


def test_a_message_that_is_changed_while_a_reply_comes_can_be_sent_after_it(page: ChatPage) -> None:
    page.server.script(Reply("Hello."), Reply("one two", hold_after=1), Reply("Bonjour."))
    page.ask("Hi")
    page.click('[aria-label="Edit this message"]')
    page.find(".edit textarea").send_keys(" in French")
    page.send("Count")
    page.wait_for_text("one")
    page.find(".edit textarea").send_keys(ENTER)
    assert page.find(".edit textarea").get_attribute("value") == "Hi in French"
    assert not page.find(".edit .primary").is_enabled()
    assert page.texts(".edit .hint") == ["A reply is on its way: this can be sent after it."]
    page.server.go()
    page.wait_for_end()
    page.find(".edit textarea").send_keys(ENTER)
    page.wait_for_text("Bonjour.")
    page.wait_for_end()
    assert page.messages() == ["Hi in French", "Bonjour."]
    assert page.js("return document.activeElement.className") == "message user", (
        "the keyboard goes on from the new version"
    )


def test_a_message_that_is_being_changed_is_found_again(page: ChatPage) -> None:
    page.server.script(Reply("Hello."))
    page.ask("Hi")
    page.find("#message").send_keys(ARROW_UP)
    page.find(".edit textarea").send_keys(" again")
    page.find("#message").send_keys(ARROW_UP)
    assert page.focused() == "Your message, changed"
    assert page.find(".edit textarea").get_attribute("value") == "Hi again"


def test_only_a_click_outside_closes_a_dialog(page: ChatPage) -> None:
    page.press(CONTROL, ",")
    box = page.find("#settings").rect
    _click_at(page, int(box["x"]) + 6, 300)
    assert page.find("#settings").get_attribute("open"), "its edge is a part of it"
    _click_at(page, int(box["x"]) - 50, 300)
    page.until(lambda: not page.find("#settings").get_attribute("open"))


def test_a_text_that_is_marked_beyond_the_edge_of_a_dialog_leaves_it_open(page: ChatPage) -> None:
    from selenium.webdriver import ActionChains

    page.press(CONTROL, ",")
    page.find("#system").send_keys("Talk like a pirate.")
    left = int(page.find("#settings").rect["x"])
    actions = ActionChains(page.browser).click_and_hold(page.find("#system"))
    actions.w3c_actions.pointer_action.move_to_location(left - 60, 300)
    actions.release().perform()
    assert page.find("#settings").get_attribute("open")


def test_a_double_click_opens_a_dialog_and_leaves_it_open(page: ChatPage) -> None:
    _double_click(page, "#open-settings")
    page.press("a")
    assert page.find("#settings").get_attribute("open")


def test_a_reply_that_is_deleted_twice_or_stopped_twice_is_gone_once(page: ChatPage) -> None:
    page.server.script(Reply("one two", hold_after=1))
    page.send("Count")
    page.wait_for_text("one")
    page.js("const stop = document.querySelector('#send'); stop.click(); stop.click();")
    page.wait_for_end()
    page.until(lambda: page.server.n_cut_by_client == 1)
    assert page.messages() == ["Count", "one"]
    page.click('[aria-label="Delete: Count"]')
    page.js("const yes = document.querySelector('#confirm-yes'); yes.click(); yes.click();")
    page.until(lambda: page.conversations() == [])
    assert page.browser.get_log("browser") == []
