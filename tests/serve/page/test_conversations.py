"""Conversations on the chat page: kept, found, renamed, deleted, exported and imported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.browsers import needs_browser
from tests.serve.fake_openai import Reply
from tests.serve.page.chat_page import CONTROL, ENTER, ESCAPE, SHIFT, ChatPage

pytestmark = [needs_browser, pytest.mark.slow]

BREAKOUT = "</script><script>window.harmed = 1</script><img src=x onerror='window.harmed = 1'>"


# Seconds pass between any two looks at the clock, so that each piece of a reply is saved.
FAST = "let now = Date.now(); Date.now = () => (now += 2000);"
SAVED = (
    "const done = arguments[0]; indexedDB.open('localgen').onsuccess = (event) => {"
    "const all = event.target.result.transaction('conversations')"
    ".objectStore('conversations').getAll();"
    "all.onsuccess = () => done(all.result[0]?.messages.at(-1).content ?? ''); }"
)


def _two_conversations(page: ChatPage) -> None:
    page.server.script(Reply("About the sea."), Reply("About hills."))
    page.ask("First topic")
    page.press(CONTROL, SHIFT, "o")
    page.ask("Second topic")


def _import(page: ChatPage, path: Path, content: Any) -> None:
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    page.find("#import-file").send_keys(str(path))
    page.until(lambda: page.texts(".notice p"))


def _downloaded(page: ChatPage, folder: Path, button: str) -> Any:
    page.browser.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)}
    )
    page.click(button)
    page.until(lambda: list(folder.glob("*.json")))
    [path] = folder.glob("*.json")
    return json.loads(path.read_text("utf-8"))


def test_conversations_survive_a_reload_and_the_address_names_one(page: ChatPage) -> None:
    _two_conversations(page)
    assert page.conversations() == ["Second topic", "First topic"]
    page.reload()
    page.until(lambda: len(page.conversations()) == 2)
    assert page.messages() == ["Second topic", "About hills."]
    page.click("#conversations li:nth-child(2) .open")
    assert page.messages() == ["First topic", "About the sea."]
    page.reload()
    page.until(page.messages)
    assert page.messages() == ["First topic", "About the sea."]
    page.open()
    assert page.messages() == [], "without a name in the address, a new one"


def test_an_interrupted_page_keeps_what_came(page: ChatPage) -> None:
    """A reply is saved while it grows, so that a closed tab loses about a second of it."""
    page.server.script(Reply(" ".join(map(str, range(200))), hold_after=100))
    page.js(FAST)
    page.send("Count")
    page.wait_for_text("98 99")
    page.until(lambda: page.browser.execute_async_script(SAVED).startswith("0 1 2"))


def test_a_reply_whose_page_was_closed_is_continued(page: ChatPage) -> None:
    page.server.script(Reply("one two three", hold_after=2), Reply(" and more"))
    page.js(FAST)
    page.send("Count")
    page.until(lambda: page.browser.execute_async_script(SAVED) == "one two")
    page.reload()
    page.until(page.replies)
    assert "interrupted" in page.texts(".facts")[0]
    page.click('[aria-label="Continue this reply"]')
    page.wait_for_text("and more")
    page.wait_for_end()
    assert page.replies() == ["one two and more"]
    assert "interrupted" not in page.texts(".facts")[0]


def test_a_reply_goes_on_while_another_conversation_is_shown(page: ChatPage) -> None:
    page.server.script(Reply("one two three", hold_after=1), Reply("Meanwhile."))
    page.send("Count")
    page.wait_for_text("one")
    page.press(CONTROL, SHIFT, "o")
    assert page.messages() == []
    page.send("Hi")
    page.server.go()
    page.wait_for_text("Meanwhile.")
    page.js(
        "document.querySelector('[aria-label=\"Delete: Count\"]').parentNode.firstChild.click()"
    )
    page.wait_for_text("one two three")


def test_search_finds_words_of_titles_and_messages(page: ChatPage) -> None:
    _two_conversations(page)
    for query, found in [("hills", ["Second topic"]), ("TOPIC first", ["First topic"]), ("x", [])]:
        page.find("#search").clear()
        page.find("#search").send_keys(query)
        assert page.conversations() == found
    assert page.texts("#none-found") == ["No conversation has these words."]


def test_rename_and_delete(page: ChatPage) -> None:
    _two_conversations(page)
    page.click('[aria-label="Rename: First topic"]')
    field = page.find("#conversations input")
    field.send_keys("The sea", ENTER)  # the old title is selected
    assert page.conversations() == ["Second topic", "The sea"]
    page.click('[aria-label="Rename: Second topic"]')
    page.find("#conversations input").send_keys("unwanted", ESCAPE)
    assert page.conversations() == ["Second topic", "The sea"]
    page.click('[aria-label="Delete: Second topic"]')
    assert page.texts("#confirm-question") == ["Delete “Second topic”? This cannot be undone."]
    page.press(ESCAPE)
    assert len(page.conversations()) == 2
    page.click('[aria-label="Delete: Second topic"]')
    page.click("#confirm-yes")
    page.until(lambda: page.conversations() == ["The sea"])
    assert page.messages() == [], "the one that was shown is gone"
    page.reload()
    page.until(lambda: page.conversations() == ["The sea"])


def test_a_question_is_not_answered_by_the_end_of_the_one_before(page: ChatPage) -> None:
    """The event of a dialog's end comes later than its end; here the next question is before it."""
    _two_conversations(page)
    delete = "document.querySelector('[aria-label=\"Delete: {}\"]').click();"
    page.js(
        delete.format("First topic")
        + "document.querySelector('#confirm').close();"
        + delete.format("Second topic")
    )
    page.click("#confirm-yes")
    page.until(lambda: page.conversations() == ["First topic"])


def test_a_question_that_another_one_replaces_is_not_answered_with_it(page: ChatPage) -> None:
    _two_conversations(page)
    page.click('[aria-label="Delete: First topic"]')
    page.click('[aria-label="Delete: Second topic"]')
    page.click("#confirm-yes")
    page.until(lambda: page.conversations() == ["First topic"])


def test_a_title_that_is_being_written_stays_when_a_reply_ends(page: ChatPage) -> None:
    page.server.script(Reply("one two", hold_after=1))
    page.send("Count")
    page.wait_for_text("one")
    page.click('[aria-label="Rename: Count"]')
    page.find("#conversations input").send_keys("Numb")
    page.server.go()
    page.wait_for_end()
    page.find("#conversations input").send_keys("ers", ENTER)
    page.until(lambda: page.conversations() == ["Numbers"])


def test_a_conversation_that_is_deleted_while_its_reply_comes_stays_deleted(page: ChatPage) -> None:
    page.server.script(Reply("one two three", hold_after=1))
    page.send("Count")
    page.wait_for_text("one")
    page.click('[aria-label="Delete: Count"]')
    page.click("#confirm-yes")
    page.until(lambda: page.server.n_cut_by_client == 1)
    assert page.conversations() == []
    page.reload()
    assert page.conversations() == []


def test_an_export_comes_back_with_its_branches(page: ChatPage, tmp_path: Path) -> None:
    page.server.script(Reply("First.", reasoning="Because."), Reply("Second."))
    page.ask("Hi")
    page.click('[aria-label="Generate another reply"]')
    page.wait_for_text("Second.")
    page.wait_for_end()
    exported = _downloaded(page, tmp_path, "#export")
    assert (exported["format"], exported["version"]) == ("localgen-conversations", 1)
    page.click('[aria-label="Delete: Hi"]')
    page.click("#confirm-yes")
    page.until(lambda: page.conversations() == [])
    _import(page, tmp_path / "in.json", exported)
    assert page.texts(".notice p") == ["Imported 1 conversation."]
    assert (page.messages(), page.texts(".count")) == (["Hi", "Second."], ["2/2"])
    page.click('[aria-label="Previous version"]')
    assert page.replies() == ["First."]
    page.reload()
    page.until(lambda: page.conversations() == ["Hi"])


def test_all_conversations_are_exported_at_once(page: ChatPage, tmp_path: Path) -> None:
    _two_conversations(page)
    exported = _downloaded(page, tmp_path, "#export-all")
    assert len(exported["conversations"]) == 2


def test_a_file_that_is_none_changes_nothing(page: ChatPage, tmp_path: Path) -> None:
    _import(page, tmp_path / "in.json", '{"format": "localgen-conversations", "version": 1}')
    assert page.texts(".notice p") == [
        "Nothing was imported. conversations: expected a list, found nothing."
    ]
    assert page.conversations() == []


def test_an_imported_text_is_never_markup(page: ChatPage, tmp_path: Path) -> None:
    reply = {
        "reasoning": BREAKOUT, "model": BREAKOUT, "error": BREAKOUT, "finishReason": BREAKOUT,
        "toolCalls": [{"id": BREAKOUT, "name": BREAKOUT, "arguments": BREAKOUT}],
    }  # fmt: skip
    messages = [
        {"id": "1", "parent": None, "role": "user", "content": BREAKOUT},
        {"id": "2", "parent": "1", "role": "assistant", "content": BREAKOUT, **reply},
        {"id": "3", "parent": "2", "role": "tool", "content": BREAKOUT, "toolCallId": BREAKOUT},
    ]
    conversation = {
        "title": BREAKOUT, "model": BREAKOUT, "system": BREAKOUT, "leaf": "3", "messages": messages,
    }  # fmt: skip
    exported = {"format": "localgen-conversations", "version": 1, "conversations": [conversation]}
    _import(page, tmp_path / "in.json", exported)
    shown = page.js("return document.body.textContent")
    assert shown.count(BREAKOUT) >= 9
    assert page.js("return window.harmed ?? null") is None
    assert page.js("return document.querySelectorAll('img, #messages script').length") == 0
    assert page.browser.get_log("browser") == []


def test_what_changes_in_one_tab_is_shown_in_the_other(page: ChatPage) -> None:
    page.server.script(Reply("First."), Reply("Second."))
    page.ask("Hi")
    first = page.browser.current_window_handle
    address = page.browser.current_url
    page.browser.switch_to.new_window("tab")
    try:
        page.browser.get(address)
        page.until(lambda: page.replies() == ["First."])
        page.ask("More")
    finally:
        page.browser.close()
        page.browser.switch_to.window(first)
    page.until(lambda: page.replies() == ["First.", "Second."])


FULL = (
    "IDBObjectStore.prototype.put = () => {throw new DOMException('full', 'QuotaExceededError'); };"
)


def test_a_full_disk_is_said_once_and_the_conversation_goes_on(page: ChatPage) -> None:
    page.js(FULL + FAST)
    page.js(
        "window.nNotices = 0;"
        "new MutationObserver((all) => { window.nNotices += all.length; })"
        ".observe(document.querySelector('#notice'), { childList: true });"
    )
    page.server.script(Reply("Hello my friend."), Reply("Again."))
    assert page.ask("Hi") == "Hello my friend."
    assert page.texts(".notice p") == [
        "Not saved: the browser's storage is full. Export this conversation to keep it."
    ]
    assert page.js("return window.nNotices") == 1
    page.click(".notice button")
    assert page.ask("Hi") == "Again."
    assert page.texts(".notice p") == []


def test_an_import_that_cannot_be_saved_leaves_nothing(page: ChatPage, tmp_path: Path) -> None:
    page.js(FULL)
    _import(page, tmp_path / "in.json", _one_message("Hi"))
    assert page.texts(".notice p") == [
        "Nothing was imported. They cannot be saved: the browser's storage is full."
    ]
    assert page.conversations() == []


def _one_message(*texts: str) -> Any:
    """Return a file of conversations of one message each."""
    conversations = [
        {"title": "", "model": "", "system": "", "leaf": "1", "updated": n, "messages": [
            {"id": "1", "parent": None, "role": "user", "content": text},
        ]}
        for n, text in enumerate(texts)
    ]  # fmt: skip
    return {"format": "localgen-conversations", "version": 1, "conversations": conversations}


def test_of_very_many_conversations_the_newest_are_listed(page: ChatPage, tmp_path: Path) -> None:
    _import(page, tmp_path / "in.json", _one_message(*(f"number {n}" for n in range(201))))
    assert page.texts(".notice p") == ["Imported 201 conversations."]
    assert len(page.conversations()) == 200
    assert "number 0" not in page.conversations()
    assert page.texts("#none-found") == ["200 of 201 are shown: search for the others."]
    page.find("#search").send_keys("number 0")
    page.until(lambda: "number 0" in page.conversations())


def test_a_message_that_is_sent_before_the_others_are_here_is_kept(page: ChatPage) -> None:
    """The page may be used before the browser has read its database."""
    source = (
        "const getAll = IDBObjectStore.prototype.getAll;"
        "let waiting = () => {}; window.open_now = () => waiting();"
        "IDBObjectStore.prototype.getAll = function () {"
        "  const request = getAll.call(this);"
        "  const transaction = request.transaction;"
        "  let complete = null;"
        "  Object.defineProperty(transaction, 'oncomplete', { set(act) { complete = act; } });"
        "  waiting = () => complete();"
        "  return request; };"
    )
    added = page.browser.execute_cdp_cmd(
        "Page.addScriptToEvaluateOnNewDocument", {"source": source}
    )
    try:
        page.reload()
        page.server.script(Reply("one two", hold_after=1))
        page.send("Count")
        page.wait_for_text("one")
        page.js("window.open_now()")
        page.server.go()
        page.wait_for_end()
        assert (page.messages(), page.errors()) == (["Count", "one two"], [])
        assert "#" in page.browser.current_url
    finally:
        page.browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)
    page.reload()
    page.until(lambda: page.conversations() == ["Count"])


def test_a_browser_that_keeps_nothing_chats_all_the_same(page: ChatPage) -> None:
    refused = "indexedDB.open = () => { throw new DOMException('refused', 'SecurityError'); };"
    added = page.browser.execute_cdp_cmd(
        "Page.addScriptToEvaluateOnNewDocument", {"source": refused}
    )
    try:
        page.reload()
        page.until(lambda: page.texts(".notice p"))
        assert page.texts(".notice p") == [
            "This browser keeps no conversations for this page (refused)."
        ]
        page.server.script(Reply("Hello."))
        assert page.ask("Hi") == "Hello."
    finally:
        page.browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)


def test_options_hold_where_the_browser_keeps_no_more_values(page: ChatPage) -> None:
    page.js(
        "for (let size = 2 ** 22; size >= 1; size /= 2)"
        " try { for (let n = 0; ; n += 1) localStorage.setItem(`${size} ${n}`, 'x'.repeat(size)); }"
        " catch { /* full */ }"
    )
    page.press(CONTROL, ",")
    page.find("#setting-temperature").send_keys("0.5")
    page.press(ESCAPE)
    assert page.texts("#settings-count") == ["1"]
    page.press(CONTROL, SHIFT, "o")
    page.server.script(Reply("Hello."))
    page.ask("Hi")
    assert page.server.bodies[0]["temperature"] == 0.5


def test_a_value_that_another_program_left_is_passed_over(page: ChatPage) -> None:
    for value in ("{", "null", "[]", '{"model": {}, "settings": {"temperature": "<b>"}}'):
        page.js("localStorage.setItem('localgen.defaults', arguments[0])", value)
        page.js("localStorage.setItem('localgen.theme', arguments[0])", value)
        page.reload()
    page.server.script(Reply("Hello."))
    assert page.ask("Hi") == "Hello."
    assert page.browser.get_log("browser") == []


def test_a_title_cannot_turn_the_sentence_around_it(page: ChatPage) -> None:
    page.server.script(Reply("Hello."))
    page.js("document.querySelector('#message').value = arguments[0]", "a\u202eb\u2066c")
    page.press(ENTER)
    page.wait_for_text("Hello.")
    page.wait_for_end()
    assert page.conversations() == ["abc"]
    page.click('[aria-label="Delete: abc"]')
    assert page.texts("#confirm-question") == ["Delete “abc”? This cannot be undone."]
