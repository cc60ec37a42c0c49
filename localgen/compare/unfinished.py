"""Says which results are unfinished, and how they are continued; it measures nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from localgen._util.shell import command_of
from localgen.compare.command import TEXT_FILE
from localgen.compare.machines import is_merged, machine_settings
from localgen.compare.results import Comparison

# The setting of a result while figures are missing.
UNFINISHED = "unfinished"


def is_unfinished(result: Comparison) -> bool:
    """Return whether a comparison, or one of those merged into it, was interrupted."""
    return any(part.get(UNFINISHED) for part in machine_settings(result.settings).values())


def how_to_finish(results: Mapping[Path, Comparison]) -> tuple[str, ...]:
    """Return for each unfinished result, by its file, a sentence with the command to continue it.

    What was merged is continued in the file that it came from.
    """
    return tuple(
        _sentence(result, path) for path, result in results.items() if is_unfinished(result)
    )


def _sentence(result: Comparison, path: Path) -> str:
    said = f"{path} is unfinished: some figures were not measured."
    command = str(result.settings.get("command", ""))
    if is_merged(result.settings) or not command:
        return f"{said} Continue the results that it was merged from, and merge them again."
    where = "in the folder of the model"
    if TEXT_FILE in command.split():
        where += f" and with your text for {TEXT_FILE}"
    rest = command_of(["--output", str(path.absolute()), "--resume"])
    return f"{said} To resume, run {where}: {command} {rest}"
