"""The ``localgen`` command: parse → library → print; nothing else.

Exit codes: 0, 1 for an error, 2 for wrong usage, 130 for Ctrl-C. A flag that names a file is used
wrongly if that cannot be used, whether it is missing or holds something else. Results go to stdout,
everything else to stderr.
"""

from __future__ import annotations

from localgen.cli.starting import QuietInterrupts


def main() -> None:
    """Run the ``localgen`` command."""
    with QuietInterrupts():
        from localgen.cli.app import run  # noqa: PLC0415  # typer is imported only for the command

    run()
