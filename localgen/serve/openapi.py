"""The OpenAPI document of the server, made of the schemas that requests are checked with."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any, Literal

from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import JSONResponse

from localgen._version import __version__
from localgen.serve.operations import OPERATIONS, Operation
from localgen.serve.schemas.server import ErrorAnswer

Json = dict[str, Any]
_JSON, _EVENTS = "application/json", "text/event-stream"


async def openapi_document(_: Request) -> JSONResponse:
    """Answer with the document."""
    return JSONResponse(document())


@functools.cache
def document() -> Json:
    """Return the document: OpenAPI 3.2, which has a schema for the events of a stream."""
    schemas = _Schemas(OPERATIONS)
    paths: Json = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = schemas.described(operation)
    return {
        "openapi": "3.2.0",
        "info": {"title": "localgen", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": schemas.definitions,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],  # a server without keys takes any, or none
    }


class _Schemas:
    """The JSON Schemas of all types of some operations; what they share is defined once."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        types = {id(kind): (kind, mode) for each in operations for kind, mode in _types(each)}
        found, common = TypeAdapter.json_schemas(
            [(key, mode, TypeAdapter(kind)) for key, (kind, mode) in types.items()],
            ref_template="#/components/schemas/{model}",
        )
        self._found = {key: schema for (key, _), schema in found.items()}
        self.definitions: Json = common.get("$defs", {})

    def described(self, operation: Operation) -> Json:
        """Return what the document says of an operation."""
        described: Json = {
            "summary": operation.summary,
            "operationId": operation.name,
            "responses": {"200": self._success(operation), **self._errors(operation)},
        }
        if operation.in_path is not None:
            schema = {"type": "string", "minLength": 1}
            parameter = {"name": operation.in_path, "in": "path", "required": True}
            described["parameters"] = [{**parameter, "schema": schema}]
        if operation.request is not None:
            content = self._json(operation.request)
            described["requestBody"] = {"required": True, "content": content}
        return described

    def _json(self, kind: Any) -> Json:
        return {_JSON: {"schema": self._found[id(kind)]}}

    def _success(self, operation: Operation) -> Json:
        content: Json = {} if operation.answer is None else self._json(operation.answer)
        if operation.text is not None:
            content[operation.text] = {"schema": {"type": "string"}}
        if operation.events is not None:
            content[_EVENTS] = {"itemSchema": self._event(operation)}
        return {"description": operation.description, "content": content}

    def _event(self, operation: Operation) -> Json:
        """Return the schema of an event, whose data is JSON, or the mark of the end."""
        data: Json = {
            "type": "string",
            "contentMediaType": _JSON,
            "contentSchema": self._found[id(operation.events)],
        }
        if operation.ends_with is not None:
            data = {"anyOf": [{"const": operation.ends_with}, data]}
        return {"type": "object", "properties": {"data": data}, "required": ["data"]}

    def _errors(self, operation: Operation) -> Json:
        kinds = {**dict.fromkeys(operation.errors, ErrorAnswer), **operation.other}
        return {
            str(status): {
                "description": HTTPStatus(status).phrase,
                "content": self._json(kinds[status]),
            }
            for status in sorted(kinds)
        }


def _types(operation: Operation) -> Iterator[tuple[Any, Literal["validation", "serialization"]]]:
    """Yield the types that an operation needs the schemas of."""
    yield ErrorAnswer, "serialization"
    if operation.request is not None:
        yield operation.request, "validation"
    for kind in (operation.answer, operation.events, *operation.other.values()):
        if kind is not None:
            yield kind, "serialization"
