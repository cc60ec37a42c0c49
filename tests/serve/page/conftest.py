"""A browser, a server with scripted replies, and the chat page of that server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.browsers import chromium, prefer, resize
from tests.serve.fake_openai import FakeServer
from tests.serve.page.chat_page import ChatPage

CLEAR = """
localStorage.clear();
sessionStorage.clear();
const deletion = indexedDB.deleteDatabase("localgen");
deletion.onsuccess = () => arguments[0]();
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def running() -> Iterator[FakeServer]:
    with FakeServer().running() as server:
        yield server


@pytest.fixture
def server(running: FakeServer) -> FakeServer:
    running.reset()
    return running


@pytest.fixture
def page(browser: Any, server: FakeServer) -> Iterator[ChatPage]:
    """The chat page in a browser without any conversations, as wide as a laptop's."""
    browser.get(f"{server.address}/blank")
    browser.execute_async_script(CLEAR)
    prefer(browser, prefers_color_scheme="light")
    resize(browser, 1200)
    browser.get_log("browser")
    opened = ChatPage(browser, server)
    opened.open()
    yield opened
    browser.get(f"{server.address}/blank")  # ends what the page still reads
