"""Lines of a job's input → rows to generate, or what is wrong with them; it runs nothing."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from localgen.config import GenerationConfig, check_int

RowId = str | int

# What concerns a whole call, or generate()'s arrays, and not the one text that a row asks for.
_NOT_OF_A_ROW = {
    "pad_token_id",
    "num_return_sequences",
    "return_dict_in_generate",
    "output_scores",
    "output_logits",
}
_OPTIONS = {field.name for field in dataclasses.fields(GenerationConfig)} - _NOT_OF_A_ROW
_PROMPTS = ("prompt", "prompt_token_ids", "messages")
_NAMES = sorted({"id", *_PROMPTS, *_OPTIONS})


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the input that is not blank. ``number`` counts from 1, blank lines too."""

    number: int
    data: bytes

    @property
    def hash(self) -> str:
        """Tells whether the line was changed: half a SHA-256 of it, without the space around."""
        return hashlib.sha256(self.data).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Row:
    """What a line asks for. ``id`` is its own, or the number of the line; ``kind`` is the name of
    what it has as a prompt."""

    line: Line
    id: RowId
    kind: str
    prompt: Any
    config: GenerationConfig


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that asks for nothing that can be done. ``id`` is None where it can't be told."""

    line: Line
    id: RowId | None
    error: Exception


def read_lines(file: BinaryIO) -> Iterator[Line]:
    """The lines of a seekable file, from its beginning."""
    file.seek(0)
    for number, data in enumerate(file, 1):
        # Some editors put a byte-order mark before the text; JSON has none.
        stripped = (data.removeprefix(b"\xef\xbb\xbf") if number == 1 else data).strip()
        if stripped:
            yield Line(number, stripped)


def read_rows(
    lines: Iterable[Line], defaults: GenerationConfig, seed: int, ids: dict[RowId, int]
) -> Iterator[Row | BadLine]:
    """Each line as a row.

    defaults: the options of a row that names none. seed: the run's, from which and its id a row
    gets its own unless it names one; so a row's draws depend neither on the order of the lines nor
    on what was done before. ids: which line each known id is of; the ids that are read come in.
    """
    for line in lines:
        row_id = None
        result: Row | BadLine
        try:
            fields = _object(line.data)
            row_id = _row_id(fields, line.number)
            _check_new(row_id, line.number, ids)
            kind, prompt = _prompt(fields)
            result = Row(line, row_id, kind, prompt, _config(fields, defaults, seed, row_id))
        except RecursionError:
            result = BadLine(line, row_id, ValueError("this JSON is nested too deeply"))
        except (ValueError, TypeError) as error:
            result = BadLine(line, row_id, error)
        yield result


def row_seed(seed: int, row_id: RowId) -> int:
    """A row's own seed, of 53 bits, so that every reader of JSON keeps it exactly."""
    key = json.dumps([seed, row_id]).encode()  # 1 and "1" are two ids
    return int.from_bytes(hashlib.sha256(key).digest()[:8], "big") >> 11


# --- the parts of a row ---


def _object(data: bytes) -> dict[str, Any]:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"this line is not UTF-8: {error.reason} at byte {error.start}") from None
    try:
        fields = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"this line is not JSON: {error.msg} at column {error.colno}") from None
    if not isinstance(fields, dict):
        raise ValueError(f"a line must be a JSON object, got {type(fields).__name__}")
    return fields


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object's pairs as a dict; the json module would keep the last of two silently."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"duplicate key {twice!r} in an object")
    return fields


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not valid JSON")


def _row_id(fields: dict[str, Any], number: int) -> RowId:
    row_id = fields.get("id", number)
    if isinstance(row_id, bool) or not isinstance(row_id, str | int):
        raise ValueError(f"id must be a string or an integer, got {row_id!r}")
    _check_unicode("id", row_id)
    return row_id


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
    """The name of what is to be continued, and its value; a chat's messages are checked later."""
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
    """A hint, where a name looks like that of a prompt."""
    for name in fields:
        near = difflib.get_close_matches(name, _PROMPTS, n=1)
        if name not in _NAMES and near:
            return f"; did you mean {near[0]!r} instead of {name!r}?"
    return ""


def _config(
    fields: dict[str, Any], defaults: GenerationConfig, seed: int, row_id: RowId
) -> GenerationConfig:
    options = {name: fields[name] for name in fields if name not in ("id", *_PROMPTS)}
    _check_names(options)
    for name, value in options.items():
        _check_unicode(name, value)
    if options.get("do_sample") is False:
        # The sampling that others asked for is not this line's, and nothing to warn of.
        plain = GenerationConfig()
        unset = {name: getattr(plain, name) for name in defaults.changed_sampling_options}
        options = {**unset, **options}
    config = dataclasses.replace(defaults, **options)
    if options.get("seed") is not None:
        check_int("seed", options["seed"], 0)  # not one a sequence: a row is one
        return config
    # Asked here, since the seed that every row gets would be taken for a wish to sample.
    do_sample = config.do_sample
    if do_sample is None:
        do_sample = bool(config.changed_sampling_options)
    own_seed = row_seed(seed, row_id) if do_sample else None
    return dataclasses.replace(config, do_sample=do_sample, seed=own_seed)


def _check_names(options: Iterable[str]) -> None:
    for name in options:
        if name in _NOT_OF_A_ROW:
            raise TypeError(f"{name!r} cannot be set in a job: each line gives one text")
        if name not in _OPTIONS:
            near = difflib.get_close_matches(name, _NAMES, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"unknown option {name!r}{hint}")
