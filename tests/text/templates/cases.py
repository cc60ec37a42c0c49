"""The conversations that every template renders, for recording and for the test."""

from __future__ import annotations

import datetime
from typing import Any

NOW = datetime.datetime(2026, 1, 2, 3, 4, 5)
SPECIAL_TOKENS = {"bos_token": "<BOS>", "eos_token": "<EOS>", "pad_token": "<PAD>"}

_USER = {"role": "user", "content": 'What is 2 < 3 & "4"?'}
_SYSTEM = {"role": "system", "content": "You answer briefly.\nIn one line."}
_TURNS = [
    _USER,
    {"role": "assistant", "content": "It is true."},
    {"role": "user", "content": "  Und auf Deutsch? Größe, 漢字, 🙂  "},
]
_TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": 'Its name, as "Zürich".'},
                "days": {"type": "integer", "enum": [1, 3]},
            },
            "required": ["city"],
        },
    },
}
_CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {
            "id": "abcdef123",
            "type": "function",
            "function": {"name": "weather", "arguments": {"city": "Zürich", "days": 3}},
        }
    ],
}
_RESULT = {
    "role": "tool", "name": "weather", "tool_call_id": "abcdef123", "content": '{"sky": "clear"}'
}  # fmt: skip
_THOUGHT = {"role": "assistant", "content": "Yes.", "reasoning_content": "2 is less than 3."}
_PARTS = {"role": "user", "content": [{"type": "text", "text": "Hi"}]}

CASES: dict[str, dict[str, Any]] = {
    "one question": {"messages": [_USER], "add_generation_prompt": True},
    "system and turns": {"messages": [_SYSTEM, *_TURNS], "add_generation_prompt": True},
    "no generation prompt": {"messages": [_SYSTEM, *_TURNS[:2]]},
    "tools": {"messages": [_SYSTEM, _USER], "tools": [_TOOL], "add_generation_prompt": True},
    "a tool was called": {
        "messages": [_SYSTEM, _USER, _CALL, _RESULT],
        "tools": [_TOOL],
        "add_generation_prompt": True,
    },
    "documents": {
        "messages": [_USER],
        "documents": [{"doc_id": 1, "title": "Numbers", "text": "2 is less than 3."}],
        "add_generation_prompt": True,
    },
    "thought before": {"messages": [_USER, _THOUGHT, _TURNS[2]], "add_generation_prompt": True},
    "no thinking": {
        "messages": [_USER],
        "add_generation_prompt": True,
        "variables": {"enable_thinking": False, "thinking": False, "reasoning_effort": "low"},
    },
    "the answer goes on": {
        "messages": [_USER, {"role": "assistant", "content": "It is "}],
        "continue_final_message": True,
    },
    "content in parts": {"messages": [_PARTS], "add_generation_prompt": True},
    "two questions": {"messages": [_USER, _USER], "add_generation_prompt": True},
    "no messages": {"messages": [], "add_generation_prompt": True},
}
