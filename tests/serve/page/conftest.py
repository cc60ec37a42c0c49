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
const opening = indexedDB.open("localgen");
opening.onupgradeneeded = () => opening.transaction.abort();  // there was none
opening.onerror = () => arguments[0]();
opening.onsuccess = () => {
  const transaction = opening.result.transaction("conversations", "readwrite");
  transaction.objectStore("conversations").clear();
  transaction.oncomplete = () => { opening.result.close(); arguments[0](); };
};
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


@pytest.fixture
def run(browser: Any, server: FakeServer) -> Any:
    """``run(module, script, *arguments)`` returns what a script returns; ``m`` is the module."""
    browser.get(f"{server.address}/blank")

    def run(module: str, script: str, *arguments: Any) -> Any:
        code = f"""
            const [args, done] = [[...arguments].slice(0, -1), arguments[arguments.length - 1]];
            import("/modules/{module}.js").then(async (m) => {{ {script} }})
              .then((value) => done({{ value }}), (error) => done({{ error: error.message }}));
        """
        found = browser.execute_async_script(code, *arguments)
        if "error" in found:
            raise ValueError(found["error"])
        return found["value"]

    return run
