"""The body of a request → a checked object, or a Refusal that names the field."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError
from starlette.requests import Request

from localgen._util.suggestions import did_you_mean
from localgen.option_names import own_name
from localgen.serve.body_values import check_values
from localgen.serve.refusals import Refusal
from localgen.serve.schemas.common import RequestModel
from localgen.serve.wording import as_json_values

AnyRequest = TypeVar("AnyRequest", bound=RequestModel)

# Bytes of a body that would hold up others while it is checked.
_LONG_BODY = 2**16
# Fields of other servers and older APIs → what to write.
_INSTEAD = {
    "functions": "use tools",
    "function_call": "use tool_choice",
    "guided_json": "use structured_outputs.json, or response_format",
    "guided_regex": "use structured_outputs.regex",
    "guided_choice": "use structured_outputs.choice",
    "guided_grammar": "use structured_outputs.grammar",
    "json_schema": "use response_format, or structured_outputs.json",
    "grammar": "use structured_outputs.grammar",
    "n_predict": "use max_tokens",
    "enable_thinking": "use chat_template_kwargs",
    "thinking": "use reasoning_effort, reasoning_budget or chat_template_kwargs",
    "best_of": "use n",
    "max_tokens": "use max_output_tokens",
    "repeat_last_n": "penalties look at the whole text; only dry_penalty_last_n has a limit",
    "penalty_last_n": "penalties look at the whole text; only dry_penalty_last_n has a limit",
}


_REFERENCE = (
    "an item_reference names an item that a server has stored, and nothing is stored here: send "
    "the item itself, as the answer had it. Clients do that if the request has store=false"
)


async def read_body(request: Request, kind: type[AnyRequest]) -> AnyRequest:
    """Return a request's body as a ``kind``. Raises Refusal."""
    body = await request.body()
    if len(body) < _LONG_BODY:
        return checked(body, kind)
    return await asyncio.to_thread(_long_checked, body, kind)


def _long_checked(body: bytes, kind: type[AnyRequest]) -> AnyRequest:
    check_values(body)
    return checked(body, kind)


def checked(body: bytes, kind: type[AnyRequest]) -> AnyRequest:
    """Return a body of JSON as a ``kind``. Raises Refusal."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise _refusal(error, body, kind) from None


def _refusal(error: ValidationError, body: bytes, kind: type[RequestModel]) -> Refusal:
    """Return what is said of the first thing that is wrong."""
    found = error.errors(include_url=False, include_input=False)
    # A wrong value, such as another type of tool, is why other fields are missing or unknown.
    first = min(found, key=lambda each: each["type"] in ("missing", "extra_forbidden"))
    if first["type"] == "json_invalid":
        return Refusal(400, f"the body must be JSON: {first['ctx']['error']}", code="invalid_json")
    data = json.loads(body)
    if not isinstance(data, dict):
        return Refusal(400, "the body must be a JSON object", code="invalid_json")
    path = list(_path(first["loc"], data))
    if first["type"] == "union_tag_invalid":
        name = first["ctx"]["discriminator"].strip("'")
        path += [name] if name.isidentifier() else []  # else a function that reads several fields
    param = _spelled(path)
    if first["type"] == "extra_forbidden":
        hint = _hint(str(path[-1]), kind) if len(path) == 1 else ""
        return Refusal(400, f"unknown field {param}{hint}", param=param, code="unknown_parameter")
    what = f"{_what(first)}{_why(first, kind)}"
    return Refusal(400, f"{param}: {what}", param=param or None, code="invalid_value")


def _what(error: Mapping[str, Any]) -> str:
    """Return what is wrong with a field, in words."""
    if error["type"] == "missing":
        return "this field is required"
    if error["type"] == "union_tag_invalid":
        about = error["ctx"]
        if about["tag"] == "item_reference":
            return _REFERENCE
        return (
            f"{about['discriminator']} must be {about['expected_tags']}, got {about['tag']!r:.40}"
        )
    if error["type"] == "union_tag_not_found":
        name = error["ctx"]["discriminator"].strip("'")
        return f"needs the field {name}" if name.isidentifier() else "has a value of another form"
    if error["type"] == "literal_error" and error["loc"][-3:-2] == ("list",):
        return f"should be {error['ctx']['expected']}: this server takes text alone"
    text = as_json_values(str(error["msg"])).removeprefix("Value error, ").removeprefix("Input ")
    text = text.replace("a valid dictionary", "an object")
    return f"{text[:1].lower()}{text[1:]}"


def _why(error: Mapping[str, Any], kind: type[RequestModel]) -> str:
    """Return what a field's description says, for one that has only the value of not given."""
    about = kind.model_fields.get(str(error["loc"][0]))
    is_fixed = error["type"] in ("none_required", "literal_error") and len(error["loc"]) == 1
    return f". {about.description}" if is_fixed and about and about.description else ""


def _path(location: tuple[int | str, ...], data: Any) -> Iterator[int | str]:
    """Return an error's location without the names of kinds that pydantic tried."""
    for index, part in enumerate(location):
        is_last = index == len(location) - 1
        if isinstance(part, int) and isinstance(data, list):
            yield part
            data = data[part] if part < len(data) else None
        elif isinstance(data, dict) and (part in data or is_last):
            yield part
            data = data.get(part)


def _spelled(path: list[int | str]) -> str:
    """Return a path as OpenAI spells it: messages[0].content."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def _hint(name: str, kind: type[RequestModel]) -> str:
    """Return what to write instead of an unknown field."""
    if name in _INSTEAD:
        return f": {_INSTEAD[name]}"
    names = list(kind.model_fields)
    own = own_name(name)
    if own in names:
        return f"; did you mean {own}?"
    return did_you_mean(name, names, n=1)
