"""Which pages there are: README, and those of the site but for the decisions."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = (README, *sorted(DOCS.glob("*.md")), *sorted(DOCS.glob("api/*.md")))
