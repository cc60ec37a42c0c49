"""Makes one self-contained file of a page's sources, and the policy that allows nothing else.

The sources work as they stand: HTML with links to styles and to JavaScript modules that import each
other. Here each link becomes what it points to. Modules are joined in the order of their imports
and share one scope, so no two of them may declare the same name.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files

_SOURCES = files("localgen.serve.page") / "files"
_STYLE = re.compile(r'<link rel="stylesheet" href="([\w.-]+)">')
_SCRIPT = re.compile(r'<script( type="module")? src="([\w.-]+)"></script>')
_IMPORT = re.compile(r'^import (?:\{[^}]*\} from )?"\./([\w.-]+)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?function|class|const|let)", re.MULTILINE)
_MODULE_WORD = re.compile(r"^(?:import|export)\b.*", re.MULTILINE)
_NAME = re.compile(r"^(?:async )?(?:function\*?|class|const|let) (\w+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Page:
    """A page: its HTML, its Content-Security-Policy, and a tag that changes with its HTML."""

    html: bytes
    policy: str
    etag: str


def assemble(name: str) -> Page:
    """Return the page ``name`` ("chat" or "compare") with its styles and scripts inside.

    Raises ValueError if a source uses a form of import that is not joined, or declares a name that
    another one declares.
    """
    html = _source(f"{name}.html")
    styles: list[str] = []
    scripts: list[str] = []

    def style(link: re.Match[str]) -> str:
        styles.append(_source(link[1]))
        return f"<style>{styles[-1]}</style>"

    def script(link: re.Match[str]) -> str:
        scripts.append(_joined(link[2]) if link[1] else _source(link[2]))
        return f"<script{link[1] or ''}>{scripts[-1]}</script>"

    encoded = _SCRIPT.sub(script, _STYLE.sub(style, html)).encode()
    return Page(encoded, _policy(styles, scripts), f'"{hashlib.sha256(encoded).hexdigest()[:32]}"')


def _source(name: str) -> str:
    text = (_SOURCES / name).read_text("utf-8")
    if not name.endswith(".html") and "</s" in text:
        raise ValueError(
            f"{name} has “</s”, which would end its element in the page: write it apart"
        )
    return text


def _joined(entry: str) -> str:
    """Return a module after all that it imports, as one module without imports."""
    parts = {name: _without_module_words(name) for name in _in_order(entry, {})}
    owners: dict[str, str] = {}
    for module, text in parts.items():
        for name in _NAME.findall(text):
            if name in owners:
                raise ValueError(f"{module} and {owners[name]} both declare {name}: rename one")
            owners[name] = module
    return "\n".join(parts.values())


def _in_order(module: str, seen: dict[str, bool]) -> Iterator[str]:
    """Yield modules after their imports. ``seen``: whether each one is complete."""
    if module in seen:
        if not seen[module]:
            raise ValueError(f"{module} imports itself through the modules that it imports")
        return
    seen[module] = False
    for imported in _IMPORT.findall(_source(module)):
        yield from _in_order(imported, seen)
    seen[module] = True
    yield module


def _without_module_words(module: str) -> str:
    text = _EXPORT.sub("", _IMPORT.sub("", _source(module)))
    if left := _MODULE_WORD.search(text):
        raise ValueError(f'{module} has “{left[0]}”: write import {{ a, b }} from "./module.js";')
    return text.strip() + "\n"


def _policy(styles: list[str], scripts: list[str]) -> str:
    directives = {
        "default-src": "'none'",
        "script-src": _hashes(scripts),
        "style-src": _hashes(styles),
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in directives.items())


def _hashes(texts: list[str]) -> str:
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()) for text in texts)
    return " ".join(f"'sha256-{digest.decode()}'" for digest in digests)
