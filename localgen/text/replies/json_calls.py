"""Calls that a model writes as JSON: objects with a name and arguments, or a list of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from localgen.text.replies.calls import Calls, OpenCall
from localgen.text.replies.json_text import read_json
from localgen.text.replies.reader import Reader, Steps, nowhere
from localgen.text.replies.results import ReplyDelta, json_value

_ARGUMENTS = ("arguments", "parameters")
_NOT_JSON = "the call is not JSON"
_AFTER_A_CALL = "text follows the call"

# Reads what is inside the braces of a call; returns whether the object is complete.
ReadObject = Callable[[Reader, OpenCall], Steps[bool]]


def named_object(reader: Reader, call: OpenCall, ends: Sequence[str]) -> Steps[bool]:
    """Read ``{"name": …, "arguments": {…}}``, in any order, also as OpenAI's API nests it."""
    reader.skip(1)
    while True:
        key = yield from _key(reader, ends)
        if key is None:
            return (yield from _closing_brace(reader))
        if key == "function" and (yield from reader.space()) == "{":
            is_whole = yield from named_object(reader, call, ends)
        elif key in _ARGUMENTS:
            is_whole = yield from read_json(reader, call.add, ends)
        else:
            pieces: list[str] = []
            is_whole = yield from read_json(reader, _into(pieces), ends)
            if is_whole:
                yield from _set(call, key, "".join(pieces))
        if not is_whole:
            return False


def keyed_object(reader: Reader, call: OpenCall, ends: Sequence[str]) -> Steps[bool]:
    """Read ``{"name of the tool": {arguments}}``."""
    reader.skip(1)
    key = yield from _key(reader, ends)
    if key is None:
        return (yield from _closing_brace(reader))
    yield from call.set_name(key)
    if not (yield from read_json(reader, call.add, ends)):
        return False
    yield from reader.space()
    return (yield from _closing_brace(reader))


def _key(reader: Reader, ends: Sequence[str]) -> Steps[str | None]:
    """Read the next key and its colon; None if there is none, with what comes instead unread."""
    if (yield from reader.space(", \t\r\n")) != '"':
        return None
    pieces: list[str] = []
    if not (yield from read_json(reader, _into(pieces), ends)):
        return None
    if (yield from reader.space()) != ":":
        return None
    reader.skip(1)
    yield from reader.space()
    return _text("".join(pieces))


def _closing_brace(reader: Reader) -> Steps[bool]:
    return (yield from reader.mark(["}"])) is not None


def _set(call: OpenCall, key: str, text: str) -> Iterable[ReplyDelta]:
    """Take the name or the id of a call from JSON text."""
    if key == "id" and (own := _text(text)):
        call.id = own
    return call.set_name(_text(text)) if key in ("name", "function") else ()


def _text(text: str) -> str:
    """Return the text of a JSON string, "" if it is none."""
    try:
        value = json_value(text)
    except ValueError:
        return ""
    return value if isinstance(value, str) else ""


def _into(pieces: list[str]) -> Callable[[str], Iterable[ReplyDelta]]:
    def keep(piece: str) -> Iterable[ReplyDelta]:
        pieces.append(piece)
        return ()

    return keep


def json_calls(
    reader: Reader,
    calls: Calls,
    ends: Sequence[str],
    read_object: Callable[[Reader, OpenCall, Sequence[str]], Steps[bool]] = named_object,
) -> Steps[None]:
    """Read objects, in a list or one after the other, and the mark of ``ends`` after them.

    Without ``ends``, what follows the last object is left unread.
    """
    reader.start_keeping()
    is_list = (yield from reader.space()) == "["
    if is_list:
        reader.skip(1)
    n_before = calls.n_opened
    while (yield from reader.space()) == "{":
        reader.start_keeping()
        call = calls.open()
        if not (yield from read_object(reader, call, ends)):
            yield from broken(reader, call, ends)
            return
        raw = reader.kept
        junk = yield from _junk(reader, ends)
        yield from call.close(raw + junk, error=_AFTER_A_CALL if junk else _invalid(raw))
        if junk:
            return
    if calls.n_opened > n_before:
        yield from _end_of_list(reader, ends, is_list=is_list)
        return
    yield from _no_object(reader, calls, ends, is_list=is_list)


def _invalid(raw: str) -> str | None:
    try:
        json_value(raw)
    except ValueError as error:
        return f"{_NOT_JSON}: {error}"
    return None


def _junk(reader: Reader, ends: Sequence[str]) -> Steps[str]:
    """Read a comma or semicolon after an object; return what neither ends nor continues there."""
    following = yield from reader.space()
    if following and following in ",;":
        reader.skip(1)
        following = yield from reader.space()
    if not ends or following in ("", "{", "]") or (yield from reader.sees(ends)):
        return ""
    text, _ = yield from reader.text_until(ends)
    return text


def _end_of_list(reader: Reader, ends: Sequence[str], *, is_list: bool) -> Steps[None]:
    if is_list:
        yield from reader.mark(["]"])
    if ends:
        yield from reader.until(ends, nowhere)


def _no_object(reader: Reader, calls: Calls, ends: Sequence[str], *, is_list: bool) -> Steps[None]:
    """Read to the end of something that holds no call; an empty list is nothing at all."""
    if is_list and (yield from reader.mark(["]"])):
        yield from _end_of_list(reader, ends, is_list=False)
        return
    yield from broken(reader, calls.open(), ends)


def broken(
    reader: Reader, call: OpenCall, ends: Sequence[str], error: str = _NOT_JSON
) -> Steps[None]:
    """Close a call that cannot be read on: it goes to the next end mark, or the reply's end."""
    has_ended = reader.is_over and not reader.text
    _, mark = yield from reader.text_until(ends)
    raw = reader.kept.removesuffix(mark or "")
    is_cut_off = has_ended or (mark is None and bool(ends))
    yield from call.close(raw, is_cut_off=is_cut_off, error=error)
