"""Two tabs of the chat page: on one conversation, at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.browsers import needs_browser, resize
from tests.serve.fake_openai import Reply
from tests.serve.page.chat_page import CONTROL, ENTER, ChatPage
from tests.serve.page.test_conversations import FAST

pytestmark = [needs_browser, pytest.mark.slow]


@contextmanager
def _second_tab(page: ChatPage, address: str, script: str = "") -> Iterator[None]:
    """Do the block in a tab of its own, where a script runs first; the first tab stays as it is."""
    first = page.browser.current_window_handle
    page.browser.switch_to.new_window("tab")
    try:
        resize(page.browser, 1200)
        page.browser.execute_cdp_cmd("Page.enable", {})
        page.browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
        page.browser.get(address)
        page.until(lambda: page.find_all("#model option"))
        yield
    finally:
        page.browser.close()
        page.browser.switch_to.window(first)


def _begin(page: ChatPage) -> str:
    """Send a message whose reply stays at its second word; return the conversation's address."""
    page.server.script(Reply("one two three", hold_after=2), Reply("Later."))
    page.js(FAST)
    page.send("Count")
    page.wait_for_text("one two")
    address: str = page.browser.current_url
    return address


def test_a_reply_is_shown_in_both_tabs_and_the_next_one_waits_for_its_end(page: ChatPage) -> None:
    address = _begin(page)
    with _second_tab(page, address):
        page.until(lambda: page.replies() == ["one two"])
        page.until(lambda: not page.find_all('[aria-label="Continue this reply"]'))
        page.send("And then?")
        page.until(lambda: page.texts(".notice p"))
        assert "comes in another tab" in page.texts(".notice p")[0]
        assert page.find("#message").get_attribute("value") == "And then?", "nothing is lost"
        page.server.go()
        page.until(lambda: page.replies() == ["one two three"])
        page.until(lambda: page.texts(".facts"))
        page.find("#message").send_keys(ENTER)
        page.wait_for_text("Later.")
    page.until(lambda: page.replies() == ["one two three", "Later."])


def test_what_is_changed_in_another_tab_stays_when_the_reply_ends(page: ChatPage) -> None:
    address = _begin(page)
    with _second_tab(page, address):
        page.click('[aria-label="Rename: Count"]')
        page.find("#conversations input").send_keys(CONTROL, "a", CONTROL, "Numbers", ENTER)
        page.until(lambda: page.conversations() == ["Numbers"])
    page.until(lambda: page.conversations() == ["Numbers"])
    page.server.go()
    page.wait_for_end()
    page.reload()
    page.until(page.replies)
    assert (page.conversations(), page.replies()) == (["Numbers"], ["one two three"])


def test_replies_of_two_tabs_that_do_not_know_of_each_other_both_stay(page: ChatPage) -> None:
    """Without HTTPS, a page from another machine has no locks."""
    address = _begin(page)
    without_locks = "Object.defineProperty(navigator, 'locks', { value: undefined });"
    with _second_tab(page, address, without_locks):
        page.click('[aria-label="Generate another reply"]')
        page.wait_for_text("Later.")
        page.wait_for_end()
    page.server.go()
    page.wait_for_end()
    page.reload()
    page.until(lambda: page.texts(".count"))
    page.click('[aria-label="Previous version"], [aria-label="Next version"]:not(:disabled)')
    texts = {page.replies()[0]}
    page.click(".versions button:not(:disabled)")
    assert texts | {page.replies()[0]} == {"one two three", "Later."}


def test_a_conversation_that_another_tab_deletes_is_gone_and_its_reply_ends(page: ChatPage) -> None:
    address = _begin(page)
    with _second_tab(page, address):
        page.click('[aria-label="Delete: Count"]')
        page.click("#confirm-yes")
        page.until(lambda: page.conversations() == [])
    page.until(lambda: page.server.n_cut_by_client == 1)
    page.until(lambda: page.texts(".notice p"))
    assert page.texts(".notice p") == ["This conversation was deleted in another tab."]
    assert (page.conversations(), page.messages()) == ([], [])
    page.reload()
    assert page.conversations() == []


def test_a_deletion_that_another_tab_has_not_heard_of_is_not_undone(page: ChatPage) -> None:
    page.js("BroadcastChannel.prototype.postMessage = () => {};")
    page.server.script(Reply("One."), Reply("Two."))
    page.ask("Hi")
    with _second_tab(page, page.browser.current_url):
        page.js("BroadcastChannel.prototype.postMessage = () => {};")
        page.click('[aria-label="Delete: Hi"]')
        page.click("#confirm-yes")
        page.until(lambda: page.conversations() == [])
    page.send("More")
    page.until(lambda: page.texts(".notice p"))
    assert page.texts(".notice p") == ["This conversation was deleted in another tab."]
    page.wait_for_end()
    assert page.conversations() == []
    page.reload()
    assert page.conversations() == []
