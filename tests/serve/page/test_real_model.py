"""Both pages with the real server and SmolLM2's weights."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tests.browsers import needs_browser
from tests.real.conftest import smollm2, smollm2_path  # noqa: F401
from tests.serve.live import listening
from tests.serve.page.chat_page import CONTROL, ENTER, ESCAPE, ChatPage

pytestmark = [needs_browser, pytest.mark.slow, pytest.mark.real]

# A busy machine computes a few tokens a second.
N_TOKENS = "12"


@pytest.fixture
def url(smollm2: Any) -> Iterator[str]:  # noqa: F811
    with listening(smollm2) as (url, _):
        yield url


@pytest.fixture
def chat(browser: Any, url: str) -> ChatPage:
    page = ChatPage(browser, SimpleNamespace(address=url))  # type: ignore[arg-type]
    page.open()
    browser.get_log("browser")
    return page


def test_a_chat_with_regenerated_replies(chat: ChatPage) -> None:
    chat.press(CONTROL, ",")
    chat.find("#setting-temperature").send_keys("0")
    chat.find("#setting-max_completion_tokens").send_keys(N_TOKENS)
    chat.find("#setting-seed").send_keys("7")
    chat.press(ESCAPE)
    chat.send("What is the capital of France?")
    chat.wait_for_end()
    assert len(chat.replies()[0]) > 5
    chat.click('[aria-label="Generate another reply"]')
    chat.until(lambda: chat.texts(".count") == ["2/2"])
    chat.wait_for_end()
    assert len(chat.replies()[0]) > 5
    chat.until(lambda: "of 4,096 tokens" in chat.texts("#context-text")[0])
    assert chat.browser.get_log("browser") == []


def test_what_the_server_refuses_is_shown_in_its_words(chat: ChatPage) -> None:
    chat.press(CONTROL, ",")
    chat.find("#setting-stop").send_keys("x\n" * 100)
    chat.find("#setting-tools").send_keys('[{"type": "function", "function": {"name": ""}}]')
    chat.press(ESCAPE)
    chat.send("Hi")
    chat.wait_for_end()
    [message] = chat.texts(".error p")
    assert "tools" in message


def test_a_comparison_shows_the_probabilities_of_tokens(browser: Any, url: str) -> None:
    page = ChatPage(browser, SimpleNamespace(address=url))  # type: ignore[arg-type]
    browser.get(f"{url}/compare")
    page.until(lambda: page.find_all("#right-model option"))
    page.js("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    for side in ("left", "right"):
        field = page.find(f"#{side}-max_completion_tokens")
        field.clear()
        field.send_keys(N_TOKENS)
    page.find("#prompt").send_keys("What is the capital of France?", ENTER)
    page.until(lambda: page.texts("#left-facts") != [""] and page.find("#run").text == "Compare")
    assert page.find("#verdict").text
    assert len(page.find_all("#left-reply .token")) > 5
    assert "perplexity" in page.texts("#left-facts")[0]
    page.js("document.querySelector('#left-reply .token').focus()")
    assert len(page.find_all("#token-details tr")) == 5
