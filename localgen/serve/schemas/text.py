"""Requests and answers of /tokenize, /detokenize and /apply-template, as llama-server has them."""

from __future__ import annotations

from typing import Any

from pydantic import Field, with_config
from typing_extensions import TypedDict

from localgen.serve.schemas.answers import EXACT
from localgen.serve.schemas.common import FunctionTool, RequestModel
from localgen.serve.schemas.messages import ChatMessage


class TokenizeRequest(RequestModel):
    """A text to tokenize."""

    content: str
    model: str | None = Field(None, description="The only one, if left out.")
    add_special: bool | None = Field(
        None, description="Add the tokens that the model expects around a text, such as BOS."
    )
    parse_special: bool | None = Field(
        None, description="Read special tokens in the text as such; true if left out."
    )
    with_pieces: bool | None = Field(None, description="Return the text of each token, too.")


@with_config(EXACT)
class Token(TypedDict):
    """A token and its text: a string, or its bytes where they are not UTF-8."""

    id: int
    piece: str | list[int]


@with_config(EXACT)
class TokenizeAnswer(TypedDict):
    """The token ids, with their texts if asked for."""

    tokens: list[int] | list[Token]


class DetokenizeRequest(RequestModel):
    """Token ids to decode."""

    tokens: list[int]
    model: str | None = Field(None, description="The only one, if left out.")


@with_config(EXACT)
class DetokenizeAnswer(TypedDict):
    """The text; bytes that are not UTF-8 become U+FFFD."""

    content: str


class TemplateRequest(RequestModel):
    """A conversation to write with the model's chat template."""

    messages: list[ChatMessage] = Field(min_length=1)
    model: str | None = Field(None, description="The only one, if left out.")
    tools: list[FunctionTool] | None = None
    documents: list[dict[str, Any]] | None = None
    chat_template_kwargs: dict[str, Any] | None = Field(
        None, description="Variables of the chat template."
    )
    add_generation_prompt: bool | None = Field(
        None, description="Begin the model's answer; true if left out."
    )


@with_config(EXACT)
class TemplateAnswer(TypedDict):
    """The text that the model would get."""

    prompt: str
