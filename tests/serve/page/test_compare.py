"""The comparison in a real browser, with a server whose replies are scripted."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from tests.browsers import needs_browser
from tests.serve.fake_openai import Failure, Reply
from tests.serve.page.chat_page import ENTER, ESCAPE, SHIFT, ChatPage

pytestmark = [needs_browser, pytest.mark.slow]


def _reply(text: str, logprob: float = -0.1, **options: Any) -> Reply:
    tokens = [
        {"token": each, "bytes": list(each.encode()), "logprob": logprob,
         "top_logprobs": [{"token": each, "logprob": logprob}, {"token": "\n", "logprob": -5.0}]}
        for each in re.findall(r"\s*\S+", text)
    ]  # fmt: skip
    return Reply(logprobs=tokens, **options)


class Comparison(ChatPage):
    def compare(self, prompt: str, left: Reply, right: Reply) -> str:
        """Return the sentence that says where the replies differ."""
        self.server.by_model = {"small": left, "large": right}
        self.find("#prompt").send_keys(prompt, ENTER)
        self.until(lambda: self.find("#run").text == "Compare" and self.server.bodies)
        return self.find("#verdict").text

    def marks(self) -> list[list[str]]:
        return [self.texts(f"#{side}-reply mark") for side in ("left", "right")]


@pytest.fixture
def comparison(page: ChatPage) -> Comparison:
    page.browser.get(f"{page.server.address}/compare")
    page.until(lambda: page.find_all("#right-model option"))
    return Comparison(page.browser, page.server)


def test_both_models_get_the_prompt_and_the_first_different_word_is_marked(
    comparison: Comparison,
) -> None:
    left, right = _reply("The sky is blue today"), _reply("The sky is bluish today")
    verdict = comparison.compare("Colour of the sky?", left, right)
    assert verdict == (
        "The first 3 words are the same, then “blue” on the left and “bluish” on the right."
    )
    assert comparison.marks() == [["blue"], ["bluish"]]
    assert comparison.texts(".heat") == ["The sky is blue today", "The sky is bluish today"]
    sent = {body.pop("model"): body for body in comparison.server.bodies}
    assert sent["small"] == sent["large"]
    assert sent["small"] == {
        "messages": [{"role": "user", "content": "Colour of the sky?"}],
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        "logprobs": True, "top_logprobs": 5, "temperature": 0, "max_completion_tokens": 256,
    }  # fmt: skip


def test_equal_replies_are_said_to_be_equal(comparison: Comparison) -> None:
    assert comparison.compare("Hi", _reply("a b"), _reply("a b")) == "Both replies are the same."
    assert comparison.marks() == [[], []]


def test_a_reply_that_ends_first_is_marked_at_its_end(comparison: Comparison) -> None:
    verdict = comparison.compare("Hi", _reply("a b"), _reply("a b c"))
    assert (
        verdict == "The first 2 words are the same, then the end on the left and “c” on the right."
    )
    assert comparison.marks() == [["ends here"], ["c"]]


def test_the_less_probable_a_token_the_warmer(comparison: Comparison) -> None:
    comparison.compare("Hi", _reply("a", logprob=-0.5), _reply("a", logprob=-3.0))
    script = (
        "return [...document.querySelectorAll('.token')]"
        ".map((each) => parseFloat(each.style.getPropertyValue('--warmth')))"
    )
    warmths = comparison.js(script)
    least = math.log(0.01)
    assert warmths == pytest.approx([100 * -0.5 / least, 100 * -3.0 / least])
    assert comparison.texts("#left-facts, #right-facts") == [
        "1 token · perplexity 1.65", "1 token · perplexity 20.09",
    ]  # fmt: skip


def test_the_keyboard_moves_between_tokens_and_shows_what_else_was_likely(
    comparison: Comparison,
) -> None:
    comparison.compare("Hi", _reply("one two three"), _reply("x"))
    comparison.js("document.querySelector('#left-reply .token').focus()")
    for key, text in [("\ue014", " two"), ("\ue010", " three"), ("\ue012", " two")]:
        comparison.press(key)
        assert comparison.js("return document.activeElement.textContent") == text
    details = comparison.find("#token-details")
    assert details.text.splitlines()[0] == "␣two 90.5 % log-probability -0.100"
    assert "↵ 0.7 %" in details.text
    described = comparison.js("return document.activeElement.getAttribute('aria-describedby')")
    assert described == "token-details"
    comparison.press(ESCAPE)
    assert not details.is_displayed()
    assert (
        comparison.js("return document.querySelectorAll('#left-reply [tabindex=\"0\"]').length")
        == 1
    )


def test_the_pointer_shows_it_too(comparison: Comparison) -> None:
    from selenium.webdriver import ActionChains

    comparison.compare("Hi", _reply("one two three"), _reply("x"))
    ActionChains(comparison.browser).move_to_element(comparison.find_all(".token")[1]).perform()
    assert comparison.find("#token-details").text.startswith("␣two 90.5 %")
    ActionChains(comparison.browser).move_to_element(comparison.find("h1")).perform()
    assert not comparison.find("#token-details").is_displayed()


def test_one_model_with_two_settings(comparison: Comparison) -> None:
    comparison.find("#right-model").send_keys("small")
    comparison.click("#right-settings")
    comparison.js("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    field = comparison.find("#right-temperature")
    field.clear()
    field.send_keys("0.9")
    comparison.find("#system").send_keys("Be brief.")
    comparison.compare("Hi", _reply("a"), _reply("never asked"))
    left, right = comparison.server.bodies
    assert {left["model"], right["model"]} == {"small"}
    assert sorted([left["temperature"], right["temperature"]]) == [0, 0.9]
    assert left["messages"][0] == {"role": "system", "content": "Be brief."}


def test_replies_are_shown_as_they_grow_and_escape_stops_both(comparison: Comparison) -> None:
    comparison.server.script()
    comparison.server.by_model = {
        "small": _reply("a b c d", hold_after=2), "large": _reply("a x c d", hold_after=3),
    }  # fmt: skip
    comparison.find("#prompt").send_keys("one", SHIFT + ENTER + SHIFT, "two", ENTER)
    comparison.until(lambda: comparison.texts(".heat") == ["a b", "a x c"])
    assert comparison.marks() == [["b"], ["x"]]
    comparison.press(ESCAPE)
    comparison.until(lambda: comparison.find("#run").text == "Compare")
    comparison.until(lambda: comparison.server.n_cut_by_client == 2)
    assert comparison.texts(".heat") == ["a b", "a x c"]
    assert comparison.server.bodies[0]["messages"][0]["content"] == "one\ntwo"


def test_an_error_of_one_side_leaves_the_other(comparison: Comparison) -> None:
    comparison.compare("Hi", _reply("a b", ends="error"), _reply("a b c"))
    assert comparison.texts(".error:not([hidden])") == ["The model's process ended."]
    assert comparison.texts(".heat") == ["a b", "a b c"]


NO_ROOM = Failure(503, "the model large cannot be loaded now", code="no_room_for_model")


def test_models_that_have_no_room_together_come_one_after_the_other(comparison: Comparison) -> None:
    comparison.server.script()
    comparison.server.by_model = {
        "small": _reply("a b", hold_after=1), "large": [NO_ROOM, _reply("a c")],
    }  # fmt: skip
    comparison.js(
        "window.errors = [];"
        "const shown = () => [...document.querySelectorAll('.error:not([hidden])')];"
        "new MutationObserver(() => window.errors.push(...shown().map((each) => each.textContent)))"
        ".observe(document.querySelector('#sides'),"
        " { attributes: true, childList: true, subtree: true });"
    )
    comparison.find("#prompt").send_keys("Hi", ENTER)
    comparison.until(lambda: "Waits for the other reply" in comparison.texts("#right-reply")[0])
    comparison.until(lambda: comparison.texts(".heat") == ["a", ""])
    assert "The reply on the right waits for the other one" in comparison.texts("#announcer p")
    comparison.server.go()
    comparison.until(lambda: comparison.find("#run").text == "Compare")
    assert comparison.texts("#left-reply, #right-reply") == ["a b", "a c"]
    assert comparison.js("return window.errors") == [], "nor for a moment"
    assert comparison.marks() == [["b"], ["c"]]


def test_a_reply_that_waits_for_the_other_is_stopped_with_it(comparison: Comparison) -> None:
    comparison.server.script()
    comparison.server.by_model = {"small": _reply("a b", hold_after=1), "large": [NO_ROOM]}
    comparison.find("#prompt").send_keys("Hi", ENTER)
    comparison.until(lambda: "Waits for the other reply" in comparison.texts("#right-reply")[0])
    comparison.until(lambda: comparison.texts(".heat") == ["a", ""])
    comparison.press(ESCAPE)
    comparison.until(lambda: comparison.find("#run").text == "Compare")
    assert comparison.texts("#left-reply, #right-reply") == ["a", ""]
    assert len(comparison.server.bodies) == 2


def test_a_model_that_never_has_room_is_said_to_have_none(comparison: Comparison) -> None:
    comparison.js("window.setTimeout = (act) => { queueMicrotask(act); return 0; };")
    comparison.server.by_model = {"small": _reply("a b"), "large": [NO_ROOM] * 30}
    comparison.find("#prompt").send_keys("Hi", ENTER)
    comparison.until(lambda: comparison.texts(".error:not([hidden])") == [NO_ROOM.message])
    comparison.until(lambda: comparison.find("#run").text == "Compare")
    assert comparison.texts("#left-reply")[0] == "a b"


def test_a_server_without_probabilities_gives_plain_texts(comparison: Comparison) -> None:
    verdict = comparison.compare("Hi", Reply("a b", reasoning="Hm. "), Reply("a c"))
    assert verdict == "From the start: “Hm.” on the left and “a” on the right."
    assert comparison.texts("#left-facts") == ["4 tokens"]


def test_what_a_model_writes_is_text(comparison: Comparison) -> None:
    hostile = "<img src=x onerror='window.harmed=1'><script>window.harmed=1</script>"
    comparison.compare("Hi", _reply(hostile), _reply("x"))
    comparison.js("document.querySelector('.token').focus()")
    assert comparison.texts(".heat")[0] == hostile
    assert comparison.js("return window.harmed ?? null") is None
    assert comparison.js("return document.querySelectorAll('main img, main script').length") == 0
    assert comparison.browser.get_log("browser") == []
