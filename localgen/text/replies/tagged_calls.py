"""Calls that a model writes with a tag for each argument: Qwen3-Coder's, Seed-OSS's and GLM's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from localgen.text.replies.calls import Calls, OpenCall
from localgen.text.replies.json_calls import broken
from localgen.text.replies.json_text import in_string
from localgen.text.replies.reader import Reader, Steps

_UNREADABLE = "the call cannot be read: a tag is missing, or is not where it belongs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tags:
    """The tags around the parts of a call.

    name, name_end: around the name of the tool; "" if it comes first, and the first argument ends
    it. key, key_end: around the name of an argument. value, value_end: around its value; "" if that
    follows the key. call_end: after the last argument; "" if the end of the block is the end of the
    call. pads: values are on lines of their own, so one line feed at either end is none of theirs.
    """

    name: str = ""
    name_end: str = ""
    key: str
    key_end: str
    value: str = ""
    value_end: str
    call_end: str = ""
    pads: bool = False


def tagged_calls(
    reader: Reader, calls: Calls, ends: Sequence[str], tags: Tags, name: str = ""
) -> Steps[None]:
    """Read calls up to the mark of ``ends`` that closes their block; a block of several calls has
    ``call_end`` after each. name: of the first one, if it was read already."""
    while True:
        reader.start_keeping()
        call = calls.open()
        is_named = bool(name)
        if is_named:
            yield from call.set_name(name)
            name = ""
        elif not (yield from _name(reader, call, ends, tags)):
            yield from broken(reader, call, ends, _UNREADABLE)
            return
        end = yield from _arguments(reader, calls, call, ends, tags)
        if end is None:
            yield from broken(reader, call, ends, _UNREADABLE)
            return
        yield from call.close(reader.kept.removesuffix(end if end in ends else ""))
        if end in ends or not (yield from _another(reader, ends, tags, is_bare=is_named)):
            return


def _another(reader: Reader, ends: Sequence[str], tags: Tags, *, is_bare: bool) -> Steps[bool]:
    """Return whether another call follows in the block; if none does, read the block's end."""
    if is_bare:  # no mark opened a block, yet one may close it
        if (yield from reader.sees(ends)):
            yield from reader.text_until(ends)
        return False
    if (yield from reader.sees([tags.name])):
        return True
    yield from reader.text_until(ends)
    return False


def _name(reader: Reader, call: OpenCall, ends: Sequence[str], tags: Tags) -> Steps[bool]:
    yield from reader.space()
    if tags.name and (yield from reader.mark([tags.name])) is None:
        return False
    if not tags.name:  # the name is what comes before the first argument
        name, mark = yield from reader.text_until([tags.key, *ends])
        if mark is not None:
            reader.put_back(mark)
    else:
        name, mark = yield from reader.text_until([tags.name_end, *ends])
        if mark in ends:
            reader.put_back(str(mark))
            return False
    if mark is None:
        return False
    yield from call.set_name(name.strip())
    return bool(name.strip())


def _arguments(
    reader: Reader, calls: Calls, call: OpenCall, ends: Sequence[str], tags: Tags
) -> Steps[str | None]:
    """Read the arguments and the mark after the last one, which is returned; None if it is not
    there. Each becomes a piece of a JSON object."""
    before = "{"
    last = [tags.call_end] if tags.call_end else list(ends)
    while True:
        yield from reader.space()
        mark = yield from reader.mark([tags.key, *last])
        if mark is None:
            return None
        if mark in last:
            yield from call.add("{}" if before == "{" else "}")
            return mark
        key = yield from _key(reader, ends, tags)
        if key is None:
            return None
        is_nested = calls.is_nested(call, key)
        text = yield from _value(reader, [tags.key, *last, *ends], ends, tags, is_nested=is_nested)
        if text is None:
            return None
        value = calls.argument(call, key, text)
        yield from call.add(f"{before}{json.dumps(key, ensure_ascii=False)}: {value}")
        before = ", "


def _key(reader: Reader, ends: Sequence[str], tags: Tags) -> Steps[str | None]:
    """Read the name of an argument, up to its value; None if that does not follow."""
    key, mark = yield from reader.text_until([tags.key_end, *ends])
    if mark != tags.key_end:
        reader.put_back(mark or "")
        return None
    if tags.value:
        yield from reader.space()
        if (yield from reader.mark([tags.value])) is None:
            return None
    return key.strip()


def _value(
    reader: Reader,
    following: Sequence[str],
    ends: Sequence[str],
    tags: Tags,
    *,
    is_nested: bool,
) -> Steps[str | None]:
    """Read a value and the tag after it; None if there is none.

    The tag inside a value is text: after the one that counts, something of ``following`` comes.
    is_nested: whether it must be JSON with brackets; what is inside a string of it is text, too.
    """
    text = ""
    while True:
        piece, mark = yield from reader.text_until([tags.value_end, *ends])
        if mark is not None and is_nested and in_string(text + piece):
            text += piece + mark
            continue
        if mark is None or mark in ends:
            reader.put_back(mark or "")
            return None
        text += piece
        if (yield from reader.sees(following)):
            break
        if reader.is_over and not reader.text.strip():
            break
        text += tags.value_end
    if tags.pads:
        text = text.removeprefix("\n").removesuffix("\n")
    return text
