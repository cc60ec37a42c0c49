"""Refusal: a request that the server does not serve, as OpenAI's error object."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

INVALID, RATE_LIMIT, SERVER = "invalid_request_error", "rate_limit_error", "server_error"


# Characters: a message may repeat what the client sent.
_MOST_SAID, _MOST_OF_PARAM = 2000, 200


class Refusal(Exception):
    """A request is refused with an HTTP status and OpenAI's error object.

    type: ``INVALID``, ``RATE_LIMIT`` or ``SERVER``. param: the field that is wrong. code: the
    reason in one word, for programs. retry_after: seconds after which a retry makes sense.
    closes: the connection ends with the answer, since the rest of the request is not read.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = INVALID,  # noqa: A002
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
        closes: bool = False,
    ) -> None:
        super().__init__(_shortened(message, _MOST_SAID))
        self.status = status
        self.type = type
        self.param = None if param is None else _shortened(param, _MOST_OF_PARAM)
        self.code = code
        self.retry_after = retry_after
        self.closes = closes

    def rename(self, names: Mapping[str, str]) -> None:
        """Call the field as its client does, in a message that begins with it as well."""
        own = names.get(self.param or "")
        if self.param is not None and own is not None:
            text = str(self)
            if text.startswith(f"{self.param} "):
                self.args = (f"{own}{text[len(self.param) :]}",)
            self.param = own

    def body(self) -> dict[str, Any]:
        """Return the error object, as JSON takes it."""
        error = {"message": str(self), "type": self.type, "param": self.param, "code": self.code}
        return {"error": error}

    def headers(self) -> dict[str, str]:
        """Return the headers that the answer has beside its content type."""
        found = {}
        if self.retry_after is not None:
            found["retry-after"] = str(max(1, math.ceil(self.retry_after)))
        if self.status == 401:
            found["www-authenticate"] = "Bearer"
        if self.closes:
            found["connection"] = "close"
        return found

    async def answer(self, send: Any) -> None:
        """Send the refusal as a complete ASGI response."""
        body = json.dumps(self.body()).encode()  # ASCII: a text may have a lone surrogate
        fixed = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ]
        own = [(name.encode(), value.encode()) for name, value in self.headers().items()]
        await send(
            {"type": "http.response.start", "status": self.status, "headers": [*fixed, *own]}
        )
        await send({"type": "http.response.body", "body": body})


def stopping() -> Refusal:
    """Return the refusal of a request while the server stops."""
    return Refusal(
        503,
        "the server is stopping; send the request again once it runs",
        type=SERVER,
        code="server_stopping",
        retry_after=5,
        closes=True,
    )


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}…"
