"""gpt-oss's replies: messages with a header each, which names a channel or a tool."""

from __future__ import annotations

import re

from localgen.text.replies.calls import Calls
from localgen.text.replies.json_text import is_closed, read_json
from localgen.text.replies.parts import Part
from localgen.text.replies.reader import Reader, Steps

MESSAGE = "<|message|>"
ENDS = ("<|end|>", "<|call|>", "<|return|>", "<|start|>", "<|channel|>")
# What a header begins with, after the prompt's "<|start|>assistant".
HEADERS = ("<|channel|>", "<|start|>", MESSAGE, "<|constrain|>", "to=")
_RECIPIENT = re.compile(r"to=([^\s<]+)")
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)")


def harmony(reader: Reader, calls: Calls, text: Part, reasoning: Part) -> Steps[None]:
    """Read a reply: the analysis is reasoning, a message to a function a call, the rest text."""
    if not (yield from reader.sees(HEADERS)):  # the prompt has the header
        yield from reader.until(ENDS, text.push)
        text.mark()
    mark: str | None = ""
    while mark is not None:
        header, mark = yield from reader.text_until([MESSAGE])
        if mark is None:
            return
        recipient, channel = _RECIPIENT.search(header), _CHANNEL.search(header)
        if recipient is not None:
            mark = yield from _call(reader, calls, recipient[1].removeprefix("functions."))
        else:
            is_analysis = channel is not None and channel[1] == "analysis"
            part = reasoning if is_analysis else text
            part.mark()
            mark = yield from reader.until(ENDS, part.push)
        if mark is not None:
            text.mark()
            reasoning.mark()
            if mark in HEADERS:
                reader.put_back(mark)


def _call(reader: Reader, calls: Calls, name: str) -> Steps[str | None]:
    """Read the arguments of a call; return the mark after them."""
    call = calls.open()
    yield from call.set_name(name)
    if (yield from reader.space()) == "{":  # a mark in one of its strings is text
        yield from read_json(reader, call.add, ENDS)
    mark = yield from reader.until(ENDS, call.add)
    # <|call|> ends the reply, so it is a token that has no text.
    is_cut_off = mark is None and not is_closed(call.arguments)
    yield from call.close(call.arguments, is_cut_off=is_cut_off)
    return mark
