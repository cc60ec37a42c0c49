"""The directive ``cli-help``: what ``localgen COMMAND --help`` prints, as it prints it."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx
from typer.testing import CliRunner

_WIDTH = "88"


def help_text(words: list[str]) -> str:
    """Return the help of a command, as wide as a page of the site."""
    from localgen.cli.app import app  # noqa: PLC0415  # only where the directive is used

    done = CliRunner().invoke(
        app, [*words, "--help"], prog_name="localgen", env={"COLUMNS": _WIDTH}
    )
    if done.exit_code:
        raise ValueError(f"localgen {' '.join(words)} --help failed: {done.output}")
    return done.output.strip()


class CliHelp(Directive):
    """``cli-help:: models list``."""

    optional_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Return the help as a literal block."""
        text = help_text(self.arguments[0].split() if self.arguments else [])
        return [nodes.literal_block(text, text, language="text")]


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the directive."""
    app.add_directive("cli-help", CliHelp)
    return {"parallel_read_safe": True}
