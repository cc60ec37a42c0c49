"""The items of a response while they come; each method returns the events of what it did."""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from localgen.serve.schemas.response_input import ItemStatus
from localgen.serve.schemas.response_output import (
    OutputFunctionCall,
    OutputMessage,
    OutputReasoning,
)

Event = dict[str, Any]


def new_id(prefix: str) -> str:
    """Return an id that nothing else has, such as "msg_…"."""
    return f"{prefix}_{secrets.token_hex(16)}"


class OpenItem(ABC):
    """An item that is being written. place: its index in the output."""

    prefix: str

    def __init__(self, place: int) -> None:
        self.id = new_id(self.prefix)
        self._place = place

    @abstractmethod
    def snapshot(self, status: ItemStatus) -> Any:
        """Return the item as it is."""

    def open(self) -> list[Event]:
        return [self._item_event("added", "in_progress")]

    @abstractmethod
    def add(self, text: str, logprobs: Sequence[Any] = ()) -> list[Event]:
        """Write more text."""

    def close(self, status: ItemStatus) -> list[Event]:
        return [self._item_event("done", status)]

    def _item_event(self, step: str, status: ItemStatus) -> Event:
        return {
            "type": f"response.output_item.{step}",
            "output_index": self._place,
            "item": self.snapshot(status),
        }

    def _event(self, kind: str, **fields: Any) -> Event:
        return {
            "type": f"response.{kind}",
            "item_id": self.id,
            "output_index": self._place,
            **fields,
        }


class _TextItem(OpenItem):
    """An item whose content is one part of text. part_type: the part's."""

    part_type: str

    def __init__(self, place: int) -> None:
        super().__init__(place)
        self._pieces: list[str] = []
        self._is_begun = False

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    @abstractmethod
    def _part(self) -> Any:
        """Return the part as it is."""

    def _parts(self) -> list[Any]:
        return [self._part()] if self._is_begun else []

    def open(self) -> list[Event]:
        added = super().open()
        self._is_begun = True
        return [*added, self._part_event("content_part.added", part=self._part())]

    def add(self, text: str, logprobs: Sequence[Any] = ()) -> list[Event]:
        self._pieces.append(text)
        return [self._part_event(f"{self.part_type}.delta", delta=text)]

    def close(self, status: ItemStatus) -> list[Event]:
        return [
            self._part_event(f"{self.part_type}.done", text=self.text),
            self._part_event("content_part.done", part=self._part()),
            *super().close(status),
        ]

    def _part_event(self, kind: str, **fields: Any) -> Event:
        return self._event(kind, content_index=0, **fields)


class OpenMessage(_TextItem):
    """A message."""

    prefix = "msg"
    part_type = "output_text"

    def __init__(self, place: int) -> None:
        super().__init__(place)
        self._logprobs: list[Any] = []

    def snapshot(self, status: ItemStatus) -> OutputMessage:
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": self._parts(),
        }

    def _part(self) -> Any:
        return {
            "type": "output_text",
            "text": self.text,
            "annotations": [],
            "logprobs": list(self._logprobs),
        }

    def add(self, text: str, logprobs: Sequence[Any] = ()) -> list[Event]:
        self._logprobs += logprobs
        (event,) = super().add(text)
        return [{**event, "logprobs": list(logprobs)}]

    def close(self, status: ItemStatus) -> list[Event]:
        done, *rest = super().close(status)
        return [{**done, "logprobs": list(self._logprobs)}, *rest]


class OpenReasoning(_TextItem):
    """The reasoning."""

    prefix = "rs"
    part_type = "reasoning_text"

    def snapshot(self, status: ItemStatus) -> OutputReasoning:
        return {
            "id": self.id,
            "type": "reasoning",
            "status": status,
            "summary": [],
            "content": self._parts(),
        }

    def _part(self) -> Any:
        return {"type": "reasoning_text", "text": self.text}


class OpenFunctionCall(OpenItem):
    """A call of a function. name: the function's, "" until ``add_name``."""

    prefix = "fc"

    def __init__(self, place: int, name: str) -> None:
        super().__init__(place)
        self._name = name
        self._call_id = secrets.token_hex(5)[:9]  # Mistral's templates take no other length
        self._pieces: list[str] = []

    @property
    def _arguments(self) -> str:
        return "".join(self._pieces)

    def snapshot(self, status: ItemStatus) -> OutputFunctionCall:
        return {
            "id": self.id,
            "type": "function_call",
            "status": status,
            "call_id": self._call_id,
            "name": self._name,
            "arguments": self._arguments,
        }

    def add(self, text: str, logprobs: Sequence[Any] = ()) -> list[Event]:
        self._pieces.append(text)
        return [self._event("function_call_arguments.delta", delta=text)]

    def close(self, status: ItemStatus) -> list[Event]:
        done = self._event(
            "function_call_arguments.done", name=self._name, arguments=self._arguments
        )
        return [done, *super().close(status)]
