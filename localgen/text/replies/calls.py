"""The calls of one reply while they come: their numbers, ids and deltas."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from localgen.text.replies.arguments import as_json, properties_by_tool, types_of
from localgen.text.replies.results import ReplyDelta, checked_call


class OpenCall:
    """One call that is not complete yet. Its methods return the deltas that follow from them."""

    def __init__(self, index: int, call_id: str) -> None:
        self._index = index
        self._pieces: list[str] = []
        self._n_given = 0
        self.id = call_id
        self.name = ""

    def set_name(self, name: str) -> list[ReplyDelta]:
        """The name is known; the first one counts."""
        if self.name or not name:
            return []
        self.name = name
        return [ReplyDelta(kind="tool_name", text=name, index=self._index), *self._arguments()]

    def add(self, piece: str) -> list[ReplyDelta]:
        """A piece of the arguments, as JSON text; it waits until the name is known."""
        self._pieces.append(piece)
        return self._arguments() if self.name else []

    def close(
        self, raw: str, *, is_cut_off: bool = False, error: str | None = None
    ) -> list[ReplyDelta]:
        """Nothing follows; see ``checked_call``."""
        call = checked_call(
            call_id=self.id,
            name=self.name,
            arguments="".join(self._pieces),
            raw=raw.strip(),
            is_cut_off=is_cut_off,
            error=error,
        )
        return [ReplyDelta(kind="tool_call", index=self._index, tool_call=call)]

    @property
    def arguments(self) -> str:
        """Their JSON text so far."""
        return "".join(self._pieces)

    def _arguments(self) -> list[ReplyDelta]:
        new, self._n_given = self._pieces[self._n_given :], len(self._pieces)
        return [
            ReplyDelta(kind="tool_arguments", text=piece, index=self._index)
            for piece in new
            if piece
        ]


class Calls:
    """Numbers the calls of a reply.

    tools: JSON schemas. seed: what ids are made of, so that two replies do not have the same ones
    and the same reply always has.
    """

    def __init__(self, tools: Sequence[Mapping[str, Any]] = (), seed: bytes = b"") -> None:
        self._seed = seed
        self._properties = properties_by_tool(tools)
        self.n_opened = 0

    @property
    def names(self) -> list[str]:
        """The names of the tools."""
        return list(self._properties)

    def open(self) -> OpenCall:
        """Begin the next call."""
        index = self.n_opened
        self.n_opened += 1
        # Nine letters and digits: Mistral's templates refuse other ids.
        made = hashlib.blake2b(b"%d %s" % (index, self._seed), digest_size=5).hexdigest()[:9]
        return OpenCall(index, made)

    def argument(self, call: OpenCall, name: str, text: str) -> str:
        """Return the JSON text of an argument of a call that was written as plain text."""
        return as_json(text, self._properties.get(call.name, {}).get(name))

    def is_nested(self, call: OpenCall, name: str) -> bool:
        """Return whether an argument must be an array or an object."""
        types = types_of(self._properties.get(call.name, {}).get(name)) - {"null"}
        return bool(types) and types <= {"array", "object"}

    def order(self, name: str) -> list[str]:
        """Return the names of a tool's arguments, in its own order."""
        return list(self._properties.get(name, ()))
