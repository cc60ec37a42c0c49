"""Each field that a request may have is on the pages that say what it does."""

from __future__ import annotations

import pytest

pytest.importorskip("pydantic")

from localgen.serve.schemas.chat import ChatRequest
from localgen.serve.schemas.completions import CompletionRequest
from tests.docs.pages import DOCS

# Their beginnings are in the table, as "dry_…".
FAMILIES = ("dry_", "xtc_", "dynatemp_", "mirostat")
# Accepted at the one value that asks for what happens anyway.
ONLY_ONE_VALUE = {
    "cache_prompt",
    "include_stop_str_in_output",
    "modalities",
    "skip_special_tokens",
    "verbosity",
}


def test_every_field_is_on_a_page() -> None:
    text = "".join((DOCS / page).read_text("utf-8") for page in ("serve.md", "generate.md"))
    names = {*ChatRequest.model_fields, *CompletionRequest.model_fields} - ONLY_ONE_VALUE
    assert [
        name for name in sorted(names) if not name.startswith(FAMILIES) and name not in text
    ] == []
