"""Records the JSON schemas that transformers makes of the functions beside this file.

python -m tests.text.tools.record        # needs transformers; writes expected.json
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import transformers
from transformers.utils import get_json_schema

from tests.text.tools.functions import FUNCTIONS, REFUSED

FOLDER = Path(__file__).parent


def schema(function: Callable[..., Any]) -> dict[str, Any] | None:
    """Return the schema, or None if transformers raises an error."""
    try:
        found: dict[str, Any] = get_json_schema(function)
    except Exception as error:  # whatever it may raise
        print(f"    {function.__name__}: {type(error).__name__}: {str(error)[:100]}")
        return None
    return found


def main() -> None:
    """Write expected.json."""
    expected = {name: schema(function) for name, function in {**FUNCTIONS, **REFUSED}.items()}
    content = {"transformers": transformers.__version__, "expected": expected}
    text = json.dumps(content, ensure_ascii=False, indent=1)
    (FOLDER / "expected.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
