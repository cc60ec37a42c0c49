"""Runs a command and turns errors into exit codes."""

from __future__ import annotations

import logging
import sys
import warnings
from typing import Annotated

import typer

from localgen._util.standard_streams import prepare_streams
from localgen._util.warn import warning_subject
from localgen._version import __version__
from localgen.cli.commands import CommandGroup
from localgen.cli.messages import as_flags, error_message
from localgen.cli.starting import INTERRUPTED
from localgen.cli.termination import TERMINATION
from localgen.cli.unknown_flags import name_the_flag
from localgen.errors import LocalgenError

ERROR, USAGE = 1, 2

app = typer.Typer(
    name="localgen",
    cls=CommandGroup,
    no_args_is_help=True,
    rich_markup_mode=None,  # its panels cut the names of long options at 80 columns
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[  # noqa: ARG001  # its callback prints and exits
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Show debug messages and llama.cpp's log.")
    ] = False,
) -> None:
    """transformers' generate() on quantized GGUF weights, on your own machine."""
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.ERROR, format="%(name)s: %(message)s"
    )
    # Always shown: which file a name resolved to.
    logging.getLogger("localgen.hub").setLevel(logging.INFO)


def run() -> None:
    """Run the command, flush stdout and exit with the command's code."""
    prepare_streams()
    warnings.showwarning = _print_warning
    TERMINATION.start()
    code = TERMINATION.exit_code_or(run_command())
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # its reader has seen enough (``| head``)
        code = ERROR
    except OSError as error:
        code = _say(error_message(error), ERROR)
    sys.exit(code)


def run_command() -> int:
    """Run the command of ``sys.argv`` and return its exit code."""
    try:
        # In standalone mode, typer turns Ctrl-C into exit code 1.
        return app(standalone_mode=False) or 0
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except (LocalgenError, OSError) as error:
        return _say(error_message(error), ERROR)
    except (ValueError, TypeError) as error:
        return _say(error_message(error), USAGE)
    except Exception as error:
        # Click's usage errors print themselves and know their exit code; any other is a bug.
        if not hasattr(error, "show") or not hasattr(error, "exit_code"):
            raise
        name_the_flag(error)
        error.show()
        return int(error.exit_code)


def _say(message: str, code: int) -> int:
    print(f"localgen: {message}", file=sys.stderr)
    return code


def _print_warning(message: Warning | str, *_: object, **__: object) -> None:
    subject = warning_subject()
    about = f"{subject}: " if subject else ""
    print(f"localgen: {about}{as_flags(str(message))}", file=sys.stderr)
