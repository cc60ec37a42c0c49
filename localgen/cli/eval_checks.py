"""Checks what ``localgen eval`` is given before lm-eval is imported, which takes seconds."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from localgen import hub
from localgen._util.atomic_write import check_writable, holds_data
from localgen._util.json_text import has_json
from localgen.cli.messages import error_message
from localgen.errors import EvaluateError, LocalgenError
from localgen.evaluate import check_installed
from localgen.hub.names import parse_hub_name


def raise_all(checks: Sequence[Callable[[], object]]) -> None:
    """Run all checks, and raise what they raise: one error, or one that names each.

    Several are a ValueError if one of them is, else an EvaluateError.
    """
    errors: list[Exception] = []
    for check in checks:
        try:
            check()
        except (ValueError, TypeError, OSError, LocalgenError) as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        message = "\n".join(
            [f"{len(errors)} mistakes:", *(f"- {error_message(e)}" for e in errors)]
        )
        is_usage = any(isinstance(error, ValueError | TypeError) for error in errors)
        raise ValueError(message) if is_usage else EvaluateError(message)


def check_eval(
    *,
    model: str | None,
    names: Sequence[str],
    include_path: Path | None,
    output: Path | None,
    overwrite: bool,
    log_samples: bool,
) -> list[Callable[[], object]]:
    """Return the checks of a run: of the arguments, of files, and whether lm-eval is installed."""
    return [
        lambda: _check_model(model),
        lambda: _check_names(names),
        lambda: check_folder(include_path),
        lambda: _check_output(output, overwrite=overwrite, log_samples=log_samples),
        check_installed,
    ]


def _check_model(model: str | None) -> None:
    """Raise for a path without a file; names on the Hub are looked for later."""
    if model is None:
        raise ValueError("give MODEL, or --list to list the tasks")
    if model.endswith(".gguf") and parse_hub_name(model) is None:
        hub.resolve(model)


def _check_names(names: Sequence[str]) -> None:
    if not names:
        raise ValueError("give --tasks NAMES; localgen eval --list prints those of lm-eval")


def check_folder(include_path: Path | None) -> None:
    """Raise FileNotFoundError unless the folder of tasks exists."""
    if include_path is not None and not include_path.is_dir():
        raise FileNotFoundError(errno.ENOENT, "no such folder of tasks", os.fspath(include_path))


def _check_output(output: Path | None, *, overwrite: bool, log_samples: bool) -> None:
    if output is None:
        if overwrite:
            raise ValueError("--overwrite needs --output, the file of the results")
        if log_samples:
            raise ValueError("--log-samples writes into the results: add --output FILE")
        return
    check_writable(output)
    if holds_data(output) and not has_json(output, {"results"}):
        raise FileExistsError(
            errno.EEXIST,
            "holds something else than results of lm-eval, which would be lost. Write to another "
            "file",
            os.fspath(output),
        )
    if holds_data(output) and not overwrite:
        raise FileExistsError(
            errno.EEXIST,
            "exists, and its results would be lost: --overwrite replaces them. Or write to another "
            "file",
            os.fspath(output),
        )
