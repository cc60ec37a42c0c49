"""What requests of several endpoints have in common.

Everywhere, ``null`` means that a field was not given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag


class RequestModel(BaseModel):
    """A part of a request: unknown fields and values of other types are errors.

    spellings: what the client calls fields that are named otherwise here.
    """

    spellings: ClassVar[Mapping[str, str]] = {}

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def text_or_list(value: Any) -> str:
    """Return which of two kinds a value is, for errors that speak of one alone."""
    return "list" if isinstance(value, list) else "text"


TextOrTexts = Annotated[
    Annotated[str, Tag("text")] | Annotated[list[str], Tag("list")],
    Discriminator(text_or_list),
]


def _bool(value: Any) -> Any:
    """Return a truth value; ``Literal`` alone takes the numbers 0 and 1 for one."""
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


OnlyTrue = Annotated[Literal[True], BeforeValidator(_bool)]
OnlyFalse = Annotated[Literal[False], BeforeValidator(_bool)]


# As OpenAI's API has it, for schemas and functions.
Name = Annotated[str, Field(pattern="^[a-zA-Z0-9_-]{1,64}$")]


class StreamOptions(RequestModel):
    """What a stream has besides its pieces."""

    include_usage: bool | None = Field(
        None, description="Send a last chunk with the usage, and no choices."
    )
    continuous_usage_stats: bool | None = Field(
        None, description="With include_usage: each chunk has the usage so far."
    )
    include_obfuscation: OnlyFalse | None = Field(
        None, description="Only false: streams have no padding."
    )


class JsonSchemaFormat(RequestModel):
    """A schema that the text must follow."""

    name: Name
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = Field(None, description="The schema is enforced in any case.")
    description: str | None = None


class TextResponse(RequestModel):
    type: Literal["text"]


class JsonObjectResponse(RequestModel):
    type: Literal["json_object"]


class JsonSchemaResponse(RequestModel):
    type: Literal["json_schema"]
    json_schema: JsonSchemaFormat


ResponseFormat = Annotated[
    TextResponse | JsonObjectResponse | JsonSchemaResponse, Discriminator("type")
]


def _schema_kind(value: Any) -> str:
    return "text" if isinstance(value, str) else "schema"


class StructuredOutputs(RequestModel):
    """What the text must be, as vLLM names it: one of these fields."""

    json_: (
        Annotated[
            Annotated[str, Tag("text")] | Annotated[dict[str, Any], Tag("schema")],
            Discriminator(_schema_kind),
        ]
        | None
    ) = Field(None, alias="json", description="A JSON Schema.")
    json_object: OnlyTrue | None = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = Field(None, description="A grammar: GBNF or Lark.")


class FunctionSchema(RequestModel):
    """A function that the model may call."""

    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = Field(None, description="The JSON Schema of its arguments.")
    strict: bool | None = Field(None, description="The schema is enforced in any case.")


class FunctionTool(RequestModel):
    type: Literal["function"]
    function: FunctionSchema


class FunctionName(RequestModel):
    name: str


class NamedToolChoice(RequestModel):
    type: Literal["function"]
    function: FunctionName


def _choice_kind(value: Any) -> str:
    return "mode" if isinstance(value, str) else "named"


ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("mode")]
    | Annotated[NamedToolChoice, Tag("named")],
    Discriminator(_choice_kind),
]
