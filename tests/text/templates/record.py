"""Records what transformers renders of the cases, with each template beside this file.

python -m tests.text.templates.record        # needs transformers; writes expected.json
"""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import transformers
from transformers.utils import chat_template_utils

from tests.text.templates.cases import CASES, NOW, SPECIAL_TOKENS

FOLDER = Path(__file__).parent


class _Clock(datetime.datetime):
    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return NOW


def rendered(template: str, case: dict[str, Any]) -> str | None:
    """Return the text, or None if transformers raises an error."""
    options = {name: value for name, value in case.items() if name not in ("messages", "variables")}
    try:
        [text], _ = chat_template_utils.render_jinja_template(
            [case["messages"]],
            chat_template=template,
            **options,
            **SPECIAL_TOKENS,
            **case.get("variables", {}),
        )
    except Exception as error:  # whatever a template may raise
        print(f"    {type(error).__name__}: {str(error)[:100]}")
        return None
    return str(text)


def main() -> None:
    """Write expected.json."""
    chat_template_utils.datetime = _Clock
    expected: dict[str, Any] = {}
    for path in sorted(FOLDER.glob("*.jinja")):
        print(path.stem)
        template = path.read_text(encoding="utf-8")
        expected[path.stem] = {name: rendered(template, case) for name, case in CASES.items()}
    content = {"transformers": transformers.__version__, "expected": expected}
    text = json.dumps(content, ensure_ascii=False, indent=1)
    (FOLDER / "expected.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
