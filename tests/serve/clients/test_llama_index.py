"""LlamaIndex's ``OpenAILike``."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

openai_like: Any = pytest.importorskip("llama_index.llms.openai_like")
pytestmark = pytest.mark.slow


class City(BaseModel):
    """A city."""

    name: str
    population: int


def add(x: int, y: int) -> int:
    """Add two numbers."""
    return x + y


def like(base_url: str, model: str, **options: Any) -> Any:
    return openai_like.OpenAILike(
        model=model,
        api_base=base_url,
        api_key="none",
        context_window=2048,
        temperature=0,
        **{"max_tokens": 100, "is_chat_model": True, **options},
    )


def messages(text: str) -> list[Any]:
    from llama_index.core.llms import ChatMessage

    return [ChatMessage(role="system", content="Be brief."), ChatMessage(content=text)]


def test_chat_and_its_stream(base_url: str, model: str) -> None:
    llm = like(base_url, model, max_tokens=12)
    assert llm.chat(messages("Say hello.")).message.content
    pieces = list(llm.stream_chat(messages("Say hello.")))
    assert "".join(piece.delta or "" for piece in pieces) == pieces[-1].message.content


def test_a_completion(base_url: str, model: str) -> None:
    llm = like(base_url, model, max_tokens=3, is_chat_model=False)
    assert llm.complete("1, 2, 3, 4,").text.startswith(" 5")


def test_a_tool(base_url: str, model: str) -> None:
    from llama_index.core.tools import FunctionTool

    llm = like(base_url, model, is_function_calling_model=True)
    tool = FunctionTool.from_defaults(add)
    answer = llm.chat_with_tools([tool], user_msg="2 + 3?", tool_required=True)
    calls = llm.get_tool_calls_from_response(answer)
    assert calls[0].tool_name == "add"
    assert set(calls[0].tool_kwargs) == {"x", "y"}


def test_structured_output(base_url: str, model: str) -> None:
    llm = like(base_url, model, is_function_calling_model=True, should_use_structured_outputs=True)
    made = llm.as_structured_llm(City).chat(messages("A large city."))
    assert isinstance(made.raw, City)
