"""The pieces of a reply → the items of a response, and the events of its stream.

A response that is not streamed is made in the same way, so that both have the same items.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

from localgen.serve.response_items import (
    Event,
    OpenFunctionCall,
    OpenItem,
    OpenMessage,
    OpenReasoning,
)
from localgen.serve.schemas.response_input import ItemStatus
from localgen.serve.schemas.response_output import ResponseObject, ResponseUsage
from localgen.text.replies.results import ReplyDelta


class ResponseWriter:
    """Writes one response. response: as it is before anything was generated; updated meanwhile."""

    def __init__(self, response: ResponseObject) -> None:
        self.response = response
        self._open: OpenItem | None = None
        self._n_events = 0

    def begin(self) -> list[Event]:
        """Return the events before the first piece."""
        return self._numbered([self._state("created"), self._state("in_progress")])

    def add(self, delta: ReplyDelta, logprobs: Sequence[Any] = ()) -> list[Event]:
        """Return the events of the next piece. logprobs: of its tokens, if it is text."""
        if delta.kind == "text":
            events = [*self._open_as(OpenMessage), *self._add(delta.text, logprobs)]
        elif delta.kind == "reasoning":
            events = [*self._open_as(OpenReasoning), *self._add(delta.text)]
        elif delta.kind == "tool_name":
            events = self._next(OpenFunctionCall(self._place, delta.text))
        elif delta.kind == "tool_arguments":
            events = self._add(delta.text)
        else:
            events = self._end_call(delta)
        return self._numbered(events)

    def end(self, usage: ResponseUsage, incomplete_because: str | None) -> list[Event]:
        """Return the last events. incomplete_because: a reason, None if the reply is complete."""
        status: ItemStatus = "completed" if incomplete_because is None else "incomplete"
        events = [] if self._open or self.response["output"] else self._open_as(OpenMessage)
        events += self._close(status)
        self.response["status"] = status
        self.response["usage"] = usage
        if incomplete_because is None:
            self.response["completed_at"] = int(time.time())
        else:
            self.response["incomplete_details"] = {"reason": incomplete_because}
        return self._numbered([*events, self._state(status)])

    def fail(self, code: str, message: str, usage: ResponseUsage | None) -> list[Event]:
        """Return the last event of a reply that ended in an error."""
        self._close("incomplete")
        self.response["status"] = "failed"
        self.response["usage"] = usage
        self.response["error"] = {"code": code, "message": message}
        return self._numbered([self._state("failed")])

    @property
    def is_in_text(self) -> bool:
        """Whether the item that is being written is a message."""
        return isinstance(self._open, OpenMessage)

    @property
    def _place(self) -> int:
        """The index of the next item."""
        return len(self.response["output"]) + (self._open is not None)

    def _open_as(self, kind: type[OpenMessage] | type[OpenReasoning]) -> list[Event]:
        return [] if isinstance(self._open, kind) else self._next(kind(self._place))

    def _next(self, item: OpenItem) -> list[Event]:
        events = self._close("completed")
        self._open = item
        return [*events, *item.open()]

    def _add(self, text: str, logprobs: Sequence[Any] = ()) -> list[Event]:
        assert self._open is not None
        return self._open.add(text, logprobs)

    def _end_call(self, delta: ReplyDelta) -> list[Event]:
        events = []
        if not isinstance(self._open, OpenFunctionCall):  # a call without a name
            events = self._next(OpenFunctionCall(self._place, ""))
        call = delta.tool_call
        is_cut_off = call is not None and call.is_cut_off
        return [*events, *self._close("incomplete" if is_cut_off else "completed")]

    def _close(self, status: ItemStatus) -> list[Event]:
        if self._open is None:
            return []
        item, self._open = self._open, None
        self.response["output"].append(item.snapshot(status))
        return item.close(status)

    def _state(self, step: str) -> Event:
        response = {**self.response, "output": list(self.response["output"])}
        return {"type": f"response.{step}", "response": response}

    def _numbered(self, events: Iterable[Event]) -> list[Event]:
        numbered = [
            {**event, "sequence_number": number}
            for number, event in enumerate(events, start=self._n_events)
        ]
        self._n_events += len(numbered)
        return numbered
