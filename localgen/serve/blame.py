"""Which field of a request an error of the library speaks of, so that its refusal can name it."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager

from localgen.errors import ConstraintError, ContextFullError, TemplateError
from localgen.generation.row_stream import RowStream, RowUpdate
from localgen.serve.problems import refusal_of
from localgen.serve.refusals import Refusal
from localgen.serve.schemas.common import RequestModel
from localgen.serve.wording import as_fields, field_from

_FIRST_NAME = re.compile(r"\w+")
_UNREAD = re.compile(r"the chat template does not read '?(\w+)")
_OF_TOOLS = ("the arguments of the tool ", "the parameters of the tool ", "two tools are named ",
             "the chat template shows no format of tool calls")  # fmt: skip

_OF_CONTINUING = "so continue_final_message cannot"
_OF_TEXTS = re.compile(r"(the )?(prompt|text)\b|token_ids\b")


def field_of(message: str, given: RequestModel, subject: str | None) -> str | None:
    """Return the field of a request that an error's message speaks of, None if it names none.

    subject: the field with the text.
    """
    if unread := _UNREAD.match(message):
        name = unread[1]
        is_variable = name in (getattr(given, "chat_template_kwargs", None) or ())
        return f"chat_template_kwargs.{name}" if is_variable else name
    if message.startswith(_OF_TOOLS):
        return "tools"
    if _OF_CONTINUING in message:
        return "continue_final_message"
    if _OF_TEXTS.match(message):
        return subject
    first = _FIRST_NAME.match(message)
    return field_from(first[0], given) if first else None


def refused(
    error: Exception,
    given: RequestModel,
    *,
    subject: str | None = None,
    otherwise: str | None = None,
) -> Refusal:
    """Return the refusal of a request for a wrong value.

    subject: the field with the text. otherwise: the field, if the error names none.
    """
    message = str(error)
    param = field_of(message, given, subject) or otherwise
    return Refusal(400, as_fields(message, given), param=param)


@contextmanager
def blaming_fields(
    given: RequestModel, subject: str, kinds: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Refuse what the block raises because of a request, with the field that is wrong.

    subject: the field with the text. kinds: of errors that speak of it, unless they name another.
    """
    try:
        yield
    except ContextFullError as error:
        refusal = refusal_of(error)
        refusal.param = subject
        raise refusal from None
    except (TemplateError, ValueError, ConstraintError, TypeError) as error:
        if isinstance(error, (TemplateError, *kinds)):
            raise refused(error, given, subject=subject, otherwise=subject) from None
        if isinstance(error, TypeError):
            raise
        raise refused(error, given, subject=subject) from None


def rows_blaming_fields(rows: RowStream, given: RequestModel, subject: str) -> RowStream:
    """Return the same rows, whose errors are refusals that name a field."""

    async def updates() -> AsyncGenerator[list[RowUpdate], None]:
        with blaming_fields(given, subject):
            async with aclosing(rows):
                async for each in rows:
                    yield each

    return RowStream(updates(), lambda: rows.completions, lambda: rows.is_over)
