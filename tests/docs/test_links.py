"""Links between pages, and to files, lead somewhere; README is as short as it should be."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import DOCS, PAGES, README, ROOT

# Sphinx checks the pages of the site as well; nothing else checks those at the root.
LINKED = (*PAGES, ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *DOCS.glob("decisions/*.md"))
MOST_WORDS = 1100

_LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")
_FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
_ANCHOR = re.compile(r"^#+ (?P<heading>.+)$|^\((?P<label>[\w-]+)\)=$", re.MULTILINE)


def _anchors(text: str) -> set[str]:
    """The anchors of a page: its headings as GitHub and MyST spell them, and labels."""
    found = set()
    for match in _ANCHOR.finditer(_FENCED.sub("", text)):
        heading = match["heading"] or match["label"]
        found.add(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-"))
    return found


@pytest.mark.parametrize("page", LINKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for match in _LINK.finditer(_FENCED.sub("", page.read_text("utf-8"))):
        target, _, anchor = match["target"].partition("#")
        if re.match(r"\w+:", target):
            continue
        linked = (page.parent / target).resolve() if target else page
        assert linked.exists(), match["target"]
        assert not anchor or anchor in _anchors(linked.read_text("utf-8")), match["target"]


def test_readme_is_short():
    assert len(README.read_text("utf-8").split()) <= MOST_WORDS


def test_readme_lists_the_guide():
    """Every page of the guide, so that none is found on the site alone."""
    _, first_toctree, *_ = (DOCS / "index.md").read_text("utf-8").split("```{toctree}")
    guide = re.findall(r"^\w+$", first_toctree, re.MULTILINE)
    assert len(guide) > 5
    text = README.read_text("utf-8")
    assert [page for page in guide if f"docs/{page}.md" not in text] == []
