"""Which field of a request an error of the library speaks of, so that its refusal can name it."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager

from localgen.config import CONSTRAINTS
from localgen.errors import ConstraintError, ContextFullError, TemplateError
from localgen.generation.row_stream import RowStream, RowUpdate
from localgen.serve.problems import refusal_of
from localgen.serve.refusals import Refusal
from localgen.serve.schemas.common import RequestModel

# Options → the fields that they come from; of several, the one that the request has.
_FIELDS: dict[str, tuple[str, ...]] = {
    "sequence_bias": ("logit_bias",),
    "eos_token_id": ("stop_token_ids",),
    "num_return_sequences": ("n",),
    "max_new_tokens": ("max_completion_tokens", "max_tokens"),
    "min_new_tokens": ("min_tokens",),
    "stop_strings": ("stop",),
    "repetition_penalty": ("repetition_penalty", "repeat_penalty"),
    "reasoning": ("reasoning_effort", "reasoning_budget"),
    **dict.fromkeys(CONSTRAINTS, ("structured_outputs", "response_format")),
}
_FIRST_NAME = re.compile(r"\w+")
_UNREAD = re.compile(r"the chat template does not read '?(\w+)")
_OF_TOOLS = ("the arguments of the tool ", "the parameters of the tool ", "two tools are named ",
             "the chat template shows no format of tool calls")  # fmt: skip

_OF_CONTINUING = "so continue_final_message cannot"
_OF_PROMPTS = re.compile(r"(the )?prompt\b|token_ids\b")


def field_of(message: str, given: RequestModel) -> str | None:
    """Return the field of a request that an error's message speaks of, None if it names none."""
    if unread := _UNREAD.match(message):
        name = unread[1]
        is_variable = name in (getattr(given, "chat_template_kwargs", None) or ())
        return f"chat_template_kwargs.{name}" if is_variable else name
    if message.startswith(_OF_TOOLS):
        return "tools"
    if _OF_CONTINUING in message:
        return "continue_final_message"
    if _OF_PROMPTS.match(message):
        return "prompt" if hasattr(given, "prompt") else "messages"
    first = _FIRST_NAME.match(message)
    name = first[0] if first else ""
    fields = _FIELDS.get(name, (name,))
    return next((each for each in fields if getattr(given, each, None) is not None), None)


def refused(error: Exception, given: RequestModel, otherwise: str | None) -> Refusal:
    """Return the refusal of a request for a wrong value. otherwise: the field, if none is named."""
    message = str(error)
    field = field_of(message, given)
    name = _FIRST_NAME.match(message)
    if field is not None and name is not None and name[0] in _FIELDS:
        message = f"{field}{message[name.end() :]}"  # as the client calls it
    return Refusal(400, message, param=field or otherwise)


@contextmanager
def blaming_fields(given: RequestModel, subject: str) -> Iterator[None]:
    """Refuse what the block raises because of a request, with the field that is wrong. subject: the
    field with the text."""
    try:
        yield
    except ContextFullError as error:
        refusal = refusal_of(error)
        refusal.param = subject
        raise refusal from None
    except TemplateError as error:
        raise refused(error, given, subject) from None
    except (ValueError, ConstraintError) as error:
        raise refused(error, given, None) from None


def rows_blaming_fields(rows: RowStream, given: RequestModel, subject: str) -> RowStream:
    """Return the same rows, whose errors are refusals that name a field."""

    async def updates() -> AsyncGenerator[list[RowUpdate], None]:
        with blaming_fields(given, subject):
            async with aclosing(rows):
                async for each in rows:
                    yield each

    return RowStream(updates(), lambda: rows.completions)
