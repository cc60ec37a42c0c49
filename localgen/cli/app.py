"""The commands put together, and errors turned into exit codes."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import Annotated

import typer

import localgen
from localgen.cli.generate import generate
from localgen.errors import LocalgenError

ERROR, USAGE, INTERRUPTED = 1, 2, 130

app = typer.Typer(
    name="localgen",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(generate)


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="llama.cpp's log too.")] = False,
) -> None:
    """transformers' generate() on quantized GGUF weights, on your own machine."""
    if version:
        print(localgen.__version__)
        raise typer.Exit
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.ERROR, format="%(name)s: %(message)s"
    )


def run() -> None:
    """Run the command and exit with its code."""
    warnings.showwarning = _print_warning
    try:
        # Typer's own handling would turn Ctrl-C into exit code 1.
        code = app(standalone_mode=False)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:
        # The reader of stdout went away (as in ``| head``): nothing more to say to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = ERROR
    except (LocalgenError, OSError) as error:
        code = _say(str(error), ERROR)
    except (ValueError, TypeError) as error:
        code = _say(str(error), USAGE)
    except typer.Abort:
        code = INTERRUPTED
    except Exception as error:
        # Click's usage errors print themselves and know their exit code; others are our bugs.
        if not hasattr(error, "show") or not hasattr(error, "exit_code"):
            raise
        error.show()
        code = error.exit_code
    sys.exit(code or 0)


def _say(message: str, code: int) -> int:
    print(f"localgen: {message}", file=sys.stderr)
    return code


def _print_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"localgen: {message}", file=sys.stderr)
