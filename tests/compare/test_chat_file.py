"""Files of chats: a line that is none is told by its number, before anything is measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from localgen import CompareError
from localgen.compare.chat_file import OWN_CHATS, read_chats

CHAT = {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]}

CONTENT = '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": %s}]}'


def test_a_file_of_chats(tmp_path: Path) -> None:
    """Empty lines are no chats."""
    file = tmp_path / "chats.jsonl"
    file.write_text(f"{json.dumps(CHAT)}\n\n{json.dumps(CHAT)}\n", "utf-8")
    found = read_chats(file)
    assert (found.name, found.chats) == ("chats.jsonl", (tuple(CHAT["messages"]),) * 2)
    file.write_text(json.dumps(CHAT), "utf-8")
    assert read_chats(file).sha256 != found.sha256


def test_chats_of_our_own() -> None:
    found = read_chats("auto")
    assert [chat[0]["content"] for chat in found.chats] == list(OWN_CHATS)
    assert len(set(OWN_CHATS)) == len(OWN_CHATS)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2 is not JSON"),
        ("[" * 10**5, "line 2 is not JSON"),
        ("[]", "line 2 is not a chat: a line must be"),
        ('"Hi"', "line 2 is not a chat"),
        ('{"prompt": "Hi"}', "line 2 is not a chat"),
        ('{"messages": []}', "line 2 is not a chat"),
        ('{"messages": "Hi"}', "line 2 is not a chat"),
        ('{"messages": ["Hi"]}', "line 2 is not a chat: message 1 has no role"),
        ('{"messages": [{"content": "Hi"}]}', "line 2 is not a chat: message 1 has no role"),
        ('{"messages": [{"role": "user"}]}', "line 2 is not a chat: message 1 must have text"),
        (CONTENT % "null", "line 2 is not a chat: message 2 must have text as its content"),
        (CONTENT % "7", "line 2 is not a chat: message 2 must have text as its content, got 7"),
        (CONTENT % '["Hi"]', "line 2 is not a chat: message 2 must have text"),
        (CONTENT % '[{"type": "image"}]', "line 2 is not a chat: message 2 must have text"),
        (CONTENT % "1".ljust(400, "0"), "line 2 is not JSON: the number 10000"),
        ('{"messages": [{"role": "user"}], "seed": 1}', "line 2 has 'seed'"),
    ],
)
def test_what_is_no_chat(line: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "chats.jsonl"
    file.write_text(f"{json.dumps(CHAT)}\n{line}\n", "utf-8")
    with pytest.raises(CompareError, match=rf"chats\.jsonl, {message}"):
        read_chats(file)


def test_tool_calls_stand_in_for_text(tmp_path: Path) -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f"}}]}
    file = tmp_path / "chats.jsonl"
    file.write_text(json.dumps({"messages": [call]}), "utf-8")
    assert read_chats(file).chats == ((call,),)


def test_a_file_without_chats(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n", "utf-8")
    with pytest.raises(CompareError, match=r"empty\.jsonl has no chats: each line must be"):
        read_chats(tmp_path / "empty.jsonl")
    (tmp_path / "bad.jsonl").write_bytes(b"\xff\xff")
    with pytest.raises(CompareError, match=r"bad\.jsonl cannot be chats: it is not UTF-8"):
        read_chats(tmp_path / "bad.jsonl")
    with pytest.raises(OSError, match="none"):
        read_chats(tmp_path / "none.jsonl")
