"""LangChain's ``ChatOpenAI``."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, Field

langchain_openai: Any = pytest.importorskip("langchain_openai")
pytestmark = pytest.mark.slow


class City(BaseModel):
    """A city."""

    name: str
    population: int


class GetWeather(BaseModel):
    """Return the weather of a city."""

    city: str = Field(description="the city's name", max_length=20)


@pytest.fixture(params=[False, True], ids=["chat", "responses"])
def chat(request: pytest.FixtureRequest, base_url: str, model: str) -> Any:
    """Make a chat model that speaks one of the two APIs."""

    def make(**options: Any) -> Any:
        return langchain_openai.ChatOpenAI(
            model=model,
            base_url=base_url,
            api_key="none",
            temperature=0,
            use_responses_api=request.param,
            stream_usage=True,
            **{"max_tokens": 100, **options},
        )

    return make


def test_invoke(chat: Any) -> None:
    answer = chat(max_tokens=12).invoke([("system", "Be brief."), ("human", "Say hello.")])
    assert answer.text
    assert answer.usage_metadata["output_tokens"] <= 12


def test_stream(chat: Any) -> None:
    pieces = list(chat(max_tokens=12).stream("Say hello."))
    assert any(piece.text for piece in pieces)
    whole = pieces[0]
    for piece in pieces[1:]:
        whole += piece
    assert whole.text == "".join(piece.text for piece in pieces)
    assert whole.usage_metadata["output_tokens"] <= 12


def test_tools_there_and_back(chat: Any) -> None:
    from langchain_core.messages import HumanMessage, ToolMessage

    bound = chat().bind_tools([GetWeather], tool_choice="GetWeather")
    question = HumanMessage("How is the weather in Lima?")
    asked = bound.invoke([question])
    assert asked.tool_calls
    assert asked.tool_calls[0]["name"] == "GetWeather"
    assert set(asked.tool_calls[0]["args"]) == {"city"}
    results = [ToolMessage("Sunny.", tool_call_id=each["id"]) for each in asked.tool_calls]
    free = chat(max_tokens=12).bind_tools([GetWeather])
    assert free.invoke([question, asked, *results]) is not None


def test_streamed_tools(chat: Any) -> None:
    bound = chat().bind_tools([GetWeather], tool_choice="any")
    whole: Any = None
    for piece in bound.stream("How is the weather in Lima?"):
        whole = piece if whole is None else whole + piece
    assert whole.tool_calls
    assert whole.tool_calls[0]["name"] == "GetWeather"


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_output(chat: Any, method: str) -> None:
    made = chat().with_structured_output(City, method=method)
    assert isinstance(made.invoke("A large city."), City)


def test_logprobs(base_url: str, model: str) -> None:
    chat = langchain_openai.ChatOpenAI(
        model=model, base_url=base_url, api_key="none", max_tokens=4, logprobs=True
    )
    answer = chat.invoke("Hi")
    assert answer.response_metadata["logprobs"]["content"]


def test_a_batch(chat: Any) -> None:
    answers = chat(max_tokens=6).batch(["Hi", "Hello", "Good day"])
    assert all(answer.text for answer in answers)
