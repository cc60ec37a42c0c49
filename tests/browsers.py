"""A headless Chromium for tests, driven through its own driver; and what tests ask it."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests.systems import is_root

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(
    BROWSER is None or DRIVER is None, reason="chromium or chromedriver is not installed"
)


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """A headless Chromium that keeps a log of its console and of its requests."""
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = str(BROWSER)
    options.add_argument("--headless=new")
    if is_root():
        options.add_argument("--no-sandbox")  # root cannot have one
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options=options, service=Service(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


def resize(browser: Any, width: int, height: int = 800) -> None:
    """Show pages at this size; as a phone does if it is narrow."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def prefer(browser: Any, **features: str) -> None:
    """Set media features: ``prefer(browser, prefers_color_scheme="dark")``."""
    named = [{"name": key.replace("_", "-"), "value": value} for key, value in features.items()]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": named})


def requests_of(browser: Any) -> list[str]:
    """Return the addresses that were requested since the last call."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]
