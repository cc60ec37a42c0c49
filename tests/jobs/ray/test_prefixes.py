"""What rows have in common, and windows of them: texts alone."""

from __future__ import annotations

from itertools import takewhile
from typing import Any

import pytest

from localgen.jobs.ray.prefixes import beginning_of, windows

CHAT = [{"role": "system", "content": "Rules"}, {"role": "user", "content": "Hi"}]


def in_common(one: dict[str, Any], other: dict[str, Any]) -> str:
    pairs = zip(beginning_of(one), beginning_of(other), strict=False)
    return "".join(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"prompt": "Rules: a"}, {"prompt": "Rules: b"}),
        ({"messages": CHAT}, {"messages": [CHAT[0], {"role": "user", "content": "Ho"}]}),
        ({"messages": CHAT, "tools": ["t"]}, {"messages": CHAT[:1], "tools": ["t"]}),
        ({"prompt_token_ids": [5, 6, 7]}, {"prompt_token_ids": [5, 6, 8]}),
    ],
)
def test_prompts_that_begin_alike_have_beginnings_that_do(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    assert len(in_common(one, other)) > 5


def test_a_chat_with_other_tools_begins_differently() -> None:
    assert "Rules" not in in_common({"messages": CHAT}, {"messages": CHAT, "tools": ["t"]})


def test_what_is_no_prompt_is_no_error() -> None:
    for fields in ({}, {"prompt": 7}, {"messages": "x"}, {"prompt_token_ids": None}):
        assert isinstance(beginning_of(fields), str)


def test_a_beginning_is_bounded() -> None:
    assert len(beginning_of({"prompt": "x" * 10**6})) < 10**4


def test_windows_are_bounded_in_items_and_bytes_and_lose_nothing() -> None:
    items = ["a" * n for n in (1, 1, 1, 9, 1, 1)]
    found = list(windows(items, len, most_items=3, most_bytes=8))
    assert found == [items[:3], items[3:4], items[4:]]
    assert list(windows([], len, most_items=3, most_bytes=8)) == []
