"""A JSON Schema as given → the one that llguidance compiles; what it cannot enforce is refused."""

from __future__ import annotations

from typing import Any

from localgen.constraints.equivalents import rewrite
from localgen.constraints.narrowing import narrow
from localgen.constraints.schema_check import check_schema, close_objects, plain


def enforceable(schema: Any) -> Any:
    """Return a new schema; what satisfies it satisfies ``schema``."""
    made = plain(schema)
    rewrite(made)
    check_schema(made)
    close_objects(made)
    narrow(made)
    return made
