"""One file of a page's sources: nothing is left to fetch, and only its own scripts may run."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

import pytest

from localgen.serve.page import assemble as module
from localgen.serve.page.assemble import assemble
from localgen.serve.page.endpoints import PAGES

MAX_BYTES = 250_000


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """``sources(**files)`` writes the sources of a page: ``a_js`` is the file ``a.js``."""
    monkeypatch.setattr(module, "_SOURCES", tmp_path)

    def sources(**texts: str) -> None:
        for name, text in texts.items():
            (tmp_path / name.replace("_", ".")).write_text(text, "utf-8")

    return sources


@pytest.mark.parametrize("name", PAGES.values())
def test_a_page_is_one_file_that_is_not_heavy(name: str) -> None:
    html = assemble(name).html.decode()
    assert not re.search(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="(?!data:)', html)
    assert not re.search(r"^(?:import|export)\b", html, re.MULTILINE)
    assert not re.search(r"\b(?:style|on\w+)=\"", html), (
        "the policy does not allow these attributes"
    )
    assert len(html.encode()) < MAX_BYTES


@pytest.mark.parametrize("name", PAGES.values())
def test_the_policy_allows_the_scripts_and_styles_of_the_page_and_nothing_else(name: str) -> None:
    page = assemble(name)
    directives = dict(each.split(" ", 1) for each in page.policy.split("; "))
    for tag, directive in (("script", "script-src"), ("style", "style-src")):
        inside = re.findall(rf"<{tag}[^>]*>(.*?)</{tag}>", page.html.decode(), re.DOTALL)
        digests = [base64.b64encode(hashlib.sha256(each.encode()).digest()) for each in inside]
        assert directives.pop(directive) == " ".join(
            f"'sha256-{each.decode()}'" for each in digests
        )
    assert directives == {
        "default-src": "'none'",
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }


def test_modules_are_joined_once_after_what_they_import(sources: Any) -> None:
    sources(
        page_html='<script type="module" src="a.js"></script>',
        a_js='import { b } from "./b.js";\nimport {\n  c,\n} from "./c.js";\nb(c);\n',
        b_js='import { c } from "./c.js";\nexport function b() { return c; }\n',
        c_js="export const c = 1;\n",
    )
    assert assemble("page").html.decode() == (
        '<script type="module">const c = 1;\n\nfunction b() { return c; }\n\nb(c);\n</script>'
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('import * as b from "./b.js";\n', r"import \* as b"),
        ("export default 1;\n", "export default 1"),
        ('import { a } from "./a.js";\n', "imports itself"),
        ('import { b } from "./b.js";\nconst b = 2;\n', r"a.js and b.js both declare b"),
        ('const end = "</script>";\n', "would end its element"),
    ],
)
def test_what_cannot_be_joined_is_refused(sources: Any, text: str, message: str) -> None:
    sources(
        page_html='<script type="module" src="a.js"></script>', a_js=text, b_js="const b = 1;\n"
    )
    with pytest.raises(ValueError, match=message):
        assemble("page")


def test_a_page_that_changes_has_another_tag(sources: Any) -> None:
    sources(page_html="one")
    before = assemble("page").etag
    sources(page_html="two")
    assert assemble("page").etag != before
