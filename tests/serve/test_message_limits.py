"""The limits of chats."""

from __future__ import annotations

import pytest

from localgen.serve.config import ServeConfig
from localgen.serve.message_limits import check_messages
from localgen.serve.refusals import Refusal

CONFIG = ServeConfig(max_messages=3, max_message_chars=10)


def say(content: object) -> dict[str, object]:
    return {"role": "user", "content": content}


def test_what_is_within_the_limits() -> None:
    check_messages([say("x" * 6)] * 3, CONFIG)
    check_messages([], CONFIG)
    check_messages([say(None)], CONFIG)


def test_too_many_messages() -> None:
    with pytest.raises(Refusal, match="messages has 4 messages; this server takes at most 3") as it:
        check_messages([say("")] * 4, CONFIG)
    assert it.value.status == 400
    assert it.value.param == "messages"


@pytest.mark.parametrize(
    "content",
    ["x" * 7, [{"type": "text", "text": "xxx"}], [["x", ["y", [{"a": "zzzzzzzz"}]]]]],
)
def test_too_long_a_message_wherever_its_text_is(content: object) -> None:
    with pytest.raises(Refusal) as caught:
        check_messages([say(""), say(content)], CONFIG)
    assert caught.value.param == "messages[1]"
    assert caught.value.code == "string_above_max_length"
