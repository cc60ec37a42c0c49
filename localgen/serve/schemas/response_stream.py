"""The events of a streamed answer of /v1/responses."""

from __future__ import annotations

from typing import Literal

from pydantic import with_config
from typing_extensions import TypedDict

from localgen.serve.schemas.answers import EXACT, Logprob
from localgen.serve.schemas.response_output import (
    OutputItem,
    OutputTextPart,
    ReasoningTextPart,
    ResponseObject,
)


class Numbered(TypedDict):
    """What all events have; numbers begin with 0."""

    sequence_number: int


@with_config(EXACT)
class StateEvent(Numbered):
    """The response at its beginning and at its end."""

    type: Literal[
        "response.created",
        "response.in_progress",
        "response.completed",
        "response.incomplete",
        "response.failed",
    ]
    response: ResponseObject


@with_config(EXACT)
class ItemEvent(Numbered):
    """An item begins or ends."""

    type: Literal["response.output_item.added", "response.output_item.done"]
    output_index: int
    item: OutputItem


class OfItem(Numbered):
    """What the events of an item have."""

    item_id: str
    output_index: int


class OfPart(OfItem):
    """What the events of a part have."""

    content_index: int


@with_config(EXACT)
class PartEvent(OfPart):
    """A part of an item begins or ends."""

    type: Literal["response.content_part.added", "response.content_part.done"]
    part: OutputTextPart | ReasoningTextPart


@with_config(EXACT)
class TextDelta(OfPart):
    """A piece of text."""

    type: Literal["response.output_text.delta"]
    delta: str
    logprobs: list[Logprob]


@with_config(EXACT)
class TextDone(OfPart):
    """A whole text."""

    type: Literal["response.output_text.done"]
    text: str
    logprobs: list[Logprob]


@with_config(EXACT)
class ReasoningDelta(OfPart):
    """A piece of the reasoning."""

    type: Literal["response.reasoning_text.delta"]
    delta: str


@with_config(EXACT)
class ReasoningDone(OfPart):
    """The whole reasoning."""

    type: Literal["response.reasoning_text.done"]
    text: str


@with_config(EXACT)
class ArgumentsDelta(OfItem):
    """A piece of the arguments of a call."""

    type: Literal["response.function_call_arguments.delta"]
    delta: str


@with_config(EXACT)
class ArgumentsDone(OfItem):
    """The whole arguments of a call."""

    type: Literal["response.function_call_arguments.done"]
    name: str
    arguments: str


ResponseEvent = (
    StateEvent
    | ItemEvent
    | PartEvent
    | TextDelta
    | TextDone
    | ReasoningDelta
    | ReasoningDone
    | ArgumentsDelta
    | ArgumentsDone
)
