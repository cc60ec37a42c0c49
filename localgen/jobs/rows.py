"""Parses the lines of a job's input into rows, or into errors; it runs nothing."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from localgen._util.checks import check_bool, check_int
from localgen._util.suggestions import did_you_mean, similar_names
from localgen.config import CONSTRAINTS, GenerationConfig
from localgen.errors import JobError

RowId = str | int

# Options of a whole call or of generate()'s arrays; a row is one text.
_NOT_OF_A_ROW = {
    "assistant_model",
    "pad_token_id",
    "num_return_sequences",
    "return_dict_in_generate",
    "output_scores",
    "output_logits",
}
_OPTIONS = {field.name for field in dataclasses.fields(GenerationConfig)} - _NOT_OF_A_ROW
_PROMPTS = ("prompt", "prompt_token_ids", "messages")
# Arguments of chat(), for lines with messages.
_OF_A_CHAT = (
    "tools",
    "documents",
    "chat_template",
    "continue_final_message",
    "template_variables",
    "reply_format",
    "tool_choice",
    "parallel_tool_calls",
    "reasoning",
)
# More than any prompt: a line without an end, as of a device, would be read for ever.
MAX_LINE_BYTES = 2**26
_NAMES = sorted({"id", *_PROMPTS, *_OF_A_CHAT, *_OPTIONS})
# Of a line: an object that its record gets as it is, such as the other columns of a table.
COLUMNS = "columns"
# Templates read nested values by recursion, and Python allows about 1000 calls.
_MAX_DEPTH = 100
_TOO_DEEP = f"this JSON is nested too deeply, more than {_MAX_DEPTH} levels"


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the input that is not blank; ``number`` counts all lines, from 1."""

    number: int
    data: bytes

    @property
    def hash(self) -> str:
        """Half a SHA-256 of the line without surrounding space, to detect changes."""
        return hashlib.sha256(self.data).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Row:
    """A line to generate for.

    id: its own, or the number of the line. kind: the name of the prompt's field. chat: arguments of
    ``chat()``, if it has messages. columns: what its record gets as it is.
    """

    line: Line
    id: RowId
    kind: str
    prompt: Any
    config: GenerationConfig
    chat: dict[str, Any] = dataclasses.field(default_factory=dict)
    columns: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line with an error; ``id`` is None if it could not be read."""

    line: Line
    id: RowId | None
    error: Exception


def raw_lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a file as they are. Raises JobError for one that is too long."""
    for number in itertools.count(1):
        data = file.readline(MAX_LINE_BYTES + 1)
        if len(data) > MAX_LINE_BYTES:
            raise JobError(
                f"line {number} of the input is longer than {MAX_LINE_BYTES / 1e6:.0f} MB. The "
                f"input must hold one JSON object per line."
            )
        if not data:
            return
        yield data


def read_lines(file: BinaryIO) -> Iterator[Line]:
    """Yield the lines of a seekable file from its start. Raises JobError, as ``raw_lines`` does."""
    file.seek(0)
    yield from numbered_lines(file)


def numbered_lines(file: BinaryIO) -> Iterator[Line]:
    """Yield the lines of a file that are not blank. Raises JobError, as ``raw_lines`` does."""
    for number, data in enumerate(raw_lines(file), 1):
        # Some editors write a byte-order mark, which JSON does not allow.
        stripped = (data.removeprefix(b"\xef\xbb\xbf") if number == 1 else data).strip()
        if stripped:
            yield Line(number, stripped)


def read_rows(
    lines: Iterable[Line], defaults: GenerationConfig, seed: int, ids: dict[RowId, int]
) -> Iterator[Row | BadLine]:
    """Yield each line as a row or an error.

    defaults: options for rows that do not set them. seed: the job's; a row that sets none gets one
    derived from it and from the row's id, so that its draws depend neither on the order of the
    lines nor on earlier runs. ids: the line number of each id that is taken; updated.
    """
    for line in lines:
        row_id = None
        result: Row | BadLine
        try:
            fields = _object(line.data)
            row_id = checked_id(fields.get("id", line.number))
            _check_new(row_id, line.number, ids)
            result = as_row(line, row_id, fields, defaults, seed)
        except RecursionError:
            result = BadLine(line, row_id, ValueError(_TOO_DEEP))
        except (ValueError, TypeError, Warning) as error:  # a Warning with ``python -W error``
            result = BadLine(line, row_id, error)
        yield result


def as_row(
    line: Line, row_id: RowId, fields: dict[str, Any], defaults: GenerationConfig, seed: int
) -> Row:
    """Return the row of a line's fields; the other arguments are those of ``read_rows()``.

    Raises ValueError, TypeError or RecursionError if a field is wrong.
    """
    _check_depth(fields)
    kind, prompt = _prompt(fields)
    chat = _chat(fields, kind)
    config = _config(fields, defaults, seed, row_id)
    return Row(line, row_id, kind, prompt, config, chat, _columns(fields))


def fields_of(line: Line) -> dict[str, Any]:
    """Return the fields of a line; none if it cannot be read."""
    try:
        return _object(line.data)
    except (ValueError, RecursionError):
        return {}


def id_of(line: Line) -> RowId | None:
    """Return the id of a line's row; None if the line cannot be read."""
    try:
        return checked_id(_object(line.data).get("id", line.number))
    except (ValueError, RecursionError):
        return None


def columns_of(line: Line) -> dict[str, Any]:
    """Return the columns of a line; none if they cannot be read."""
    if COLUMNS.encode() not in line.data and b"\\u" not in line.data:
        return {}
    fields = fields_of(line)
    try:
        _check_depth(fields)
        return _columns(fields)
    except (ValueError, TypeError):
        return {}


def fields_of_rows() -> list[str]:
    """Return the names of all fields that say what a row is to give."""
    return list(_NAMES)


def check_options(names: Iterable[str]) -> None:
    """Raise TypeError for a name that is no option of a row, or not one for a single row."""
    for name in names:
        if name == "assistant_model":
            raise TypeError(
                "'assistant_model' cannot be set in a job's line: one draft model serves all of "
                "them; use --draft"
            )
        if name == "sampling_params":
            raise TypeError(
                "'sampling_params' is only read by localgen.jobs.ray.generate(); set each option "
                'by its own name, as in "max_new_tokens": 20'
            )
        if name in _NOT_OF_A_ROW:
            raise TypeError(f"{name!r} cannot be set in a job: each line gives one text")
        if name not in _OPTIONS:
            known = () if name in _NAMES else _NAMES  # it may be a field that is no option
            raise TypeError(f"unknown option {name!r}{did_you_mean(name, known, n=1, shown=repr)}")


def checked_id(row_id: object) -> RowId:
    """Return an id. Raises ValueError for what is none."""
    if isinstance(row_id, bool) or not isinstance(row_id, str | int):
        raise ValueError(f"id must be a string or an integer, got {row_id!r:.200}")
    _check_unicode("id", row_id)
    return row_id


def row_seed(seed: int, row_id: RowId) -> int:
    """Return a row's seed, of 53 bits, which every JSON parser reads exactly."""
    key = json.dumps([seed, row_id]).encode()  # tells 1 from "1"
    return int.from_bytes(hashlib.sha256(key).digest()[:8], "big") >> 11


# --- the parts of a row ---


def _object(data: bytes) -> dict[str, Any]:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"this line is not UTF-8: {error.reason} at byte {error.start}") from None
    try:
        fields = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"this line is not JSON: {error.msg} at column {error.colno}") from None
    if not isinstance(fields, dict):
        raise ValueError(f"a line must be a JSON object, got {type(fields).__name__}")
    return fields


def _check_depth(fields: dict[str, Any]) -> None:
    level: list[Any] = [fields]
    for _ in range(_MAX_DEPTH):
        values = (each.values() if isinstance(each, dict) else each for each in level)
        level = [item for items in values for item in items if isinstance(item, dict | list)]
        if not level:
            return
    raise ValueError(_TOO_DEEP)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object's pairs as a dict; the json module ignores duplicate keys."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"duplicate key {twice!r} in an object")
    return fields


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not valid JSON")


def _finite(digits: str) -> float:
    """Return a number with a point or an exponent; JSON's may be too large for any float."""
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"the number {digits:.40} is too large")
    return number


def _check_new(row_id: RowId, number: int, ids: dict[RowId, int]) -> None:
    other = ids.setdefault(row_id, number)
    if other != number:
        raise ValueError(
            f"id {row_id!r} is already used by line {other} (a line without an id uses its number)"
        )


def _check_unicode(name: str, value: object) -> None:
    try:
        json.dumps([name, value], ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(
            f"{name!r} contains a lone surrogate, which is not valid Unicode text"
        ) from None


def _prompt(fields: dict[str, Any]) -> tuple[str, Any]:
    """Return the name and the value of the prompt; a chat's messages are checked later."""
    given = [name for name in _PROMPTS if name in fields]
    if len(given) != 1:
        near = _nearest(fields)
        found = " and ".join(given) or "none"
        raise ValueError(
            f"a line needs exactly one of prompt, prompt_token_ids and messages, got {found}{near}"
        )
    (name,) = given
    value = fields[name]
    if name == "prompt" and not isinstance(value, str):
        raise ValueError(f"prompt must be a string, got {type(value).__name__}")
    if name != "prompt" and not (isinstance(value, list) and value):
        what = "token ids" if name == "prompt_token_ids" else "messages"
        raise ValueError(f"{name} must be a non-empty list of {what}")
    if name == "prompt_token_ids":
        value = [check_int(name, token_id, 0) for token_id in value]
    return name, value


def _nearest(fields: dict[str, Any]) -> str:
    """Return a hint if a key looks like a misspelt prompt."""
    for name in fields:
        near = similar_names(name, _PROMPTS, n=1)
        if name not in _NAMES and near:
            return f"; did you mean {near[0]!r} instead of {name!r}?"
    return ""


def _chat(fields: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return the arguments of ``chat()``, whose values are checked later."""
    found = {name: fields[name] for name in _OF_A_CHAT if name in fields}
    if found and kind != "messages":
        raise TypeError(f"{next(iter(found))!r} needs messages, and this line has {kind}")
    for name, value in found.items():
        _check_unicode(name, value)
    if "continue_final_message" in found:
        check_bool("continue_final_message", found["continue_final_message"])
    return found


def _columns(fields: dict[str, Any]) -> dict[str, Any]:
    columns = fields.get(COLUMNS, {})
    if not isinstance(columns, dict):
        raise TypeError(f"{COLUMNS} must be an object, got {type(columns).__name__}")
    _check_unicode(COLUMNS, columns)
    return columns


def _config(
    fields: dict[str, Any], defaults: GenerationConfig, seed: int, row_id: RowId
) -> GenerationConfig:
    named = ("id", *_PROMPTS, *_OF_A_CHAT, COLUMNS)
    options = {name: fields[name] for name in fields if name not in named}
    check_options(options)
    for name, value in options.items():
        _check_unicode(name, value)
    if options.get("do_sample") is False:
        # Without the job's sampling options, which would cause a warning.
        plain = GenerationConfig()
        unset = {name: getattr(plain, name) for name in defaults.changed_sampling_options}
        options = {**unset, **options}
    has_own = any(options.get(name) not in (None, False) for name in CONSTRAINTS)
    if has_own:  # instead of the job's
        options = {**dict.fromkeys(CONSTRAINTS), "json_object": False, **options}
    config = dataclasses.replace(defaults, **options)
    if options.get("seed") is not None:
        check_int("seed", options["seed"], 0)  # a row is a single sequence, with a single seed
        return config
    # Decided before the row gets its seed, since a seed alone turns sampling on.
    do_sample = config.do_sample
    if do_sample is None:
        do_sample = bool(config.changed_sampling_options)
    own_seed = row_seed(seed, row_id) if do_sample else None
    return dataclasses.replace(config, do_sample=do_sample, seed=own_seed)
