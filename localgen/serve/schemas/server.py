"""What the server tells of itself: its models, its health, and its errors."""

from __future__ import annotations

from typing import Literal

from pydantic import with_config
from typing_extensions import NotRequired, TypedDict

from localgen.serve.schemas.answers import EXACT


@with_config(EXACT)
class ErrorBody(TypedDict):
    """Why a request is refused. param: the field that is wrong. code: the reason in one word."""

    message: str
    type: str
    param: str | None
    code: str | None


@with_config(EXACT)
class ErrorAnswer(TypedDict):
    """OpenAI's error object."""

    error: ErrorBody


@with_config(EXACT)
class ModelAnswer(TypedDict):
    """A model that requests can name. root: its own name, which ``id`` may be an alias of."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    root: str
    parent: str | None
    status: Literal["loaded", "loading", "unloaded"]
    max_model_len: NotRequired[int]


@with_config(EXACT)
class ModelList(TypedDict):
    """All models, under all of their names."""

    object: Literal["list"]
    data: list[ModelAnswer]


@with_config(EXACT)
class HealthAnswer(TypedDict):
    """Whether requests are served. progress: the fraction of the first model that is loaded."""

    status: Literal["ok", "loading", "stopping"]
    progress: NotRequired[float]
