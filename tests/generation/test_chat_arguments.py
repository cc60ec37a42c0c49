"""The arguments of a chat are the same for all methods, and for one conversation or several."""

from __future__ import annotations

import inspect
from typing import get_type_hints

import pytest

from localgen import LocalModel
from localgen.generation.chat_arguments import ChatArguments, chat_call

ASK = [{"role": "user", "content": "Hi"}]


def test_a_chat_takes_the_arguments_of_its_prompt_and_options() -> None:
    """They are listed twice: one list ends with options that the other lacks."""
    *of_call, options = inspect.signature(chat_call).parameters.values()
    of_prompt = inspect.signature(ChatArguments).parameters.values()
    assert [(each.name, each.kind, each.default) for each in of_call] == [
        (each.name, each.kind, each.default) for each in of_prompt
    ]
    types, own = get_type_hints(chat_call), get_type_hints(ChatArguments)
    assert [types[each.name] for each in of_call] == [own[each.name] for each in of_prompt]
    assert options.kind is inspect.Parameter.VAR_KEYWORD


def test_all_methods_take_them() -> None:
    names = ["self", *inspect.signature(ChatArguments).parameters]
    for name in ("chat_prompt", "achat_prompt"):
        assert [*inspect.signature(getattr(LocalModel, name)).parameters] == names
    for name in ("chat", "chat_stream", "achat", "achat_stream"):
        assert [*inspect.signature(getattr(LocalModel, name)).parameters] == [*names, "options"]


def test_what_is_given_is_kept() -> None:
    call = chat_call(ASK, tool_choice="none", max_new_tokens=3)
    assert call.chat == ChatArguments(ASK, tool_choice="none")
    assert call.options == {"max_new_tokens": 3}


def test_each_conversation_has_the_arguments() -> None:
    for messages, several in ((ASK, False), ([ASK, ASK], True)):
        chats = ChatArguments(messages, reasoning=3).of_each()
        assert chats == ([ChatArguments(ASK, reasoning=3)] * (1 + several), several)
    with pytest.raises(TypeError, match="messages must be a list of dicts"):
        ChatArguments("Hi").of_each()
