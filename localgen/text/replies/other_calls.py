"""Calls with the name before the arguments, and those in the languages of Google's models."""

from __future__ import annotations

import ast
import json
from collections.abc import Sequence
from typing import Any

from localgen.text.replies.calls import Calls, OpenCall
from localgen.text.replies.json_calls import broken, json_calls
from localgen.text.replies.json_text import read_json
from localgen.text.replies.reader import Reader, Steps

_MAX_DEPTH = 50
_MAX_CODE_CHARS, _MAX_BRACKETS = 20_000, 200
MISTRAL_NAME_ENDS = ("[ARGS]", "[CALL_ID]", "{")
_FENCE = "```"


def deepseek_mark(words: str) -> str:
    """Return one of DeepSeek's marks, which have full-width bars and low lines of their own."""
    return f"<\uff5c{words.replace(' ', chr(0x2581))}\uff5c>"


DEEPSEEK_SEPARATOR = deepseek_mark("tool sep")


# --- the name, then JSON ---


def mistral_calls(reader: Reader, calls: Calls, ends: Sequence[str]) -> Steps[None]:
    """Read a list of objects, or ``name[ARGS]{arguments}``, with ``[CALL_ID]id`` between."""
    if (yield from reader.space()) in ("[", "{"):
        yield from json_calls(reader, calls, ends)
        return
    reader.start_keeping()
    call = calls.open()
    name, mark = yield from reader.text_until(MISTRAL_NAME_ENDS)
    if mark == "[CALL_ID]":
        own_id, mark = yield from reader.text_until(["[ARGS]"])
        call.id = own_id.strip() or call.id
    if mark == "{":
        reader.put_back(mark)
    if mark is not None:
        yield from call.set_name(name.strip())
    if (yield from reader.space()) != "{" or not (yield from read_json(reader, call.add)):
        yield from broken(reader, call, ends)
        return
    yield from call.close(reader.kept)


def deepseek_calls(reader: Reader, calls: Calls, ends: Sequence[str]) -> Steps[None]:
    """Read V3.1's ``name<sep>{arguments}``, or R1's ``function<sep>name``, a line feed and a
    fenced block of JSON."""
    reader.start_keeping()
    call = calls.open()
    head, mark = yield from reader.text_until([DEEPSEEK_SEPARATOR, *ends])
    if mark != DEEPSEEK_SEPARATOR:
        reader.put_back(mark or "")
        yield from broken(reader, call, ends)
        return
    if (yield from reader.space()) == "{":
        yield from call.set_name(head.strip())
    else:
        name, mark = yield from reader.text_until(["\n", *ends])
        if mark != "\n":
            reader.put_back(mark or "")
            yield from broken(reader, call, ends)
            return
        yield from call.set_name(name.strip())
        yield from reader.space()
        yield from reader.mark([f"{_FENCE}json", _FENCE])
        yield from reader.space()
    if not (yield from read_json(reader, call.add, ends)):
        yield from broken(reader, call, ends)
        return
    junk, mark = yield from reader.text_until(ends)
    is_junk = junk.strip() not in ("", _FENCE)
    yield from call.close(
        reader.kept.removesuffix(mark or ""), error="text follows the call" if is_junk else None
    )


# --- FunctionGemma's and Gemma 3's own notations ---


def gemma_calls(reader: Reader, calls: Calls, ends: Sequence[str]) -> Steps[None]:
    """Read ``call:name{key:<escape>text<escape>,other:3}``."""
    call = calls.open()
    raw, mark = yield from reader.text_until(ends)
    name, brace, rest = raw.strip().removeprefix("call:").partition("{")
    if brace:
        yield from call.set_name(name.strip())
    if mark is None:
        yield from call.close(raw, is_cut_off=True)
        return
    try:
        value, rest = _gemma_value(brace + rest, 0)
        if rest.strip():
            raise ValueError("text follows the call")
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        yield from call.close(raw, error=f"the call cannot be read: {error}")
        return
    yield from call.add(text)
    yield from call.close(raw)


def _gemma_value(text: str, depth: int) -> tuple[Any, str]:
    """Return the value that ``text`` begins with, and what follows it."""
    text = text.lstrip()
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deeply")
    if text.startswith("<escape>"):
        value, mark, rest = text[8:].partition("<escape>")
        if not mark:
            raise ValueError("a text does not end")
        return value, rest
    if text.startswith("["):
        return _gemma_list(text[1:], depth)
    if text.startswith("{"):
        return _gemma_object(text[1:], depth)
    n_chars = min((text.find(each) for each in ",}]" if each in text), default=len(text))
    return _gemma_scalar(text[:n_chars].strip()), text[n_chars:]


def _gemma_scalar(text: str) -> Any:
    if not text:
        raise ValueError("a value is missing")
    try:
        return json.loads(text)
    except ValueError:
        return {"True": True, "False": False, "None": None}.get(text, text)


def _gemma_list(text: str, depth: int) -> tuple[list[Any], str]:
    items: list[Any] = []
    while not (text := text.lstrip(", \n")).startswith("]"):
        if not text:
            raise ValueError("a list does not end")
        item, text = _gemma_value(text, depth + 1)
        items.append(item)
    return items, text[1:]


def _gemma_object(text: str, depth: int) -> tuple[dict[str, Any], str]:
    found: dict[str, Any] = {}
    while not (text := text.lstrip(", \n")).startswith("}"):
        key, colon, rest = text.partition(":")
        if not colon:
            raise ValueError("an argument has no value")
        name = key.strip().removeprefix("<escape>").removesuffix("<escape>")
        found[name], text = _gemma_value(rest, depth + 1)
    return found, text[1:]


def python_calls(reader: Reader, calls: Calls, ends: Sequence[str]) -> Steps[None]:
    """Read calls as Python writes them, ``weather(city="Lima")``, also inside ``print()`` or a
    list."""
    raw, mark = yield from reader.text_until(ends)
    try:
        nodes = _python_calls(raw)
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        call = calls.open()
        yield from call.close(
            raw, is_cut_off=mark is None, error=f"the call is not Python: {error}"
        )
        return
    for node in nodes:
        call = calls.open()
        yield from call.set_name(ast.unparse(node.func))
        yield from _python_arguments(call, node, calls.order(call.name))


def _python_arguments(call: OpenCall, node: ast.Call, order: list[str]) -> Steps[None]:
    raw = ast.unparse(node)
    try:
        if len(node.args) > len(order):
            raise ValueError
        values = dict(zip(order, map(ast.literal_eval, node.args), strict=False))
        for keyword in node.keywords:
            if keyword.arg is None:
                raise ValueError
            values[keyword.arg] = ast.literal_eval(keyword.value)
        text = json.dumps(values, ensure_ascii=False, allow_nan=False)
    except (ValueError, TypeError):
        yield from call.close(raw, error="the arguments are not literals with names that are known")
        return
    yield from call.add(text)
    yield from call.close(raw)


def _python_calls(code: str) -> list[ast.Call]:
    if len(code) > _MAX_CODE_CHARS or sum(map(code.count, "([{-+~")) > _MAX_BRACKETS:
        raise ValueError("it is too long")
    found: list[ast.Call] = []
    for statement in ast.parse(code.strip()).body:
        if not isinstance(statement, ast.Expr):
            raise ValueError("it has statements that are no calls")
        value = statement.value
        for each in value.elts if isinstance(value, ast.List | ast.Tuple) else [value]:
            found.append(_call_in(each))
    return found


def _call_in(node: ast.expr) -> ast.Call:
    """Return the call, or the one that it prints."""
    if not isinstance(node, ast.Call):
        raise ValueError("it has values that are no calls")
    is_print = isinstance(node.func, ast.Name) and node.func.id == "print"
    return _call_in(node.args[0]) if is_print and node.args else node
