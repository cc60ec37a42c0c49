"""What a person does on the chat page, through a browser."""

from __future__ import annotations

from typing import Any

from tests.serve.fake_openai import FakeServer

ENTER, ESCAPE, SHIFT, CONTROL = "\ue007", "\ue00c", "\ue008", "\ue009"
ARROW_UP = "\ue013"


class ChatPage:
    def __init__(self, browser: Any, server: FakeServer) -> None:
        self.browser = browser
        self.server = server

    def open(self, path: str = "/") -> None:
        self.browser.get(self.server.address + path)
        self.until(
            lambda: (
                self.js("return document.querySelector('#model').options.length") or self.errors()
            )
        )

    def reload(self) -> None:
        self.browser.refresh()
        self.until(lambda: self.find_all("#model option"))

    def reload_without_waiting(self) -> None:
        self.browser.refresh()

    def js(self, script: str, *arguments: Any) -> Any:
        return self.browser.execute_script(script, *arguments)

    def until(self, condition: Any) -> Any:
        """Wait until ``condition()`` holds; a node that was replaced is looked up again."""
        from selenium.common.exceptions import StaleElementReferenceException as Stale
        from selenium.webdriver.support.ui import WebDriverWait

        waiting = WebDriverWait(self.browser, 20, 0.02, ignored_exceptions=[Stale])
        return waiting.until(lambda _: condition())

    def find(self, selector: str) -> Any:
        return self.browser.find_element("css selector", selector)

    def find_all(self, selector: str) -> list[Any]:
        found: list[Any] = self.browser.find_elements("css selector", selector)
        return found

    def texts(self, selector: str) -> list[str]:
        script = "return [...document.querySelectorAll(arguments[0])].map((each) => each.innerText)"
        found: list[str] = self.js(script, selector)
        return [text.strip() for text in found]

    def click(self, selector: str) -> None:
        """Click what is visible, or appears when the pointer is over it."""
        self.js("document.querySelector(arguments[0]).click()", selector)

    def press(self, *keys: str) -> None:
        """Press keys together, wherever the focus is."""
        from selenium.webdriver import ActionChains

        actions = ActionChains(self.browser)
        for key in keys[:-1]:
            actions.key_down(key)
        actions.send_keys(keys[-1])
        for key in reversed(keys[:-1]):
            actions.key_up(key)
        actions.perform()

    def send(self, text: str) -> None:
        self.find("#message").send_keys(text, ENTER)

    def ask(self, text: str) -> str:
        """Send a message; return the reply once it is complete."""
        self.send(text)
        self.wait_for_end()
        return self.replies()[-1]

    def wait_for_end(self) -> None:
        self.until(lambda: self.find("#send").get_attribute("aria-label") == "Send the message")

    def wait_for_text(self, text: str) -> None:
        self.until(lambda: any(text in each for each in self.texts("#messages")))

    def messages(self) -> list[str]:
        return self.texts(".message .body")

    def replies(self) -> list[str]:
        return self.texts(".assistant .markdown:not(.reasoning .markdown)")

    def focused(self) -> str:
        """Return the label or the id of what has the focus."""
        script = (
            "const node = document.activeElement;"
            "return node.getAttribute('aria-label') || node.id || node.tagName"
        )
        label: str = self.js(script)
        return label

    def conversations(self) -> list[str]:
        return self.texts("#conversations .open")

    def errors(self) -> list[str]:
        return self.texts(".notice p, .error:not([hidden]) p, dialog[open] p")
