"""Messages of the library with its options named as flags; it prints nothing."""

from __future__ import annotations

import re
from typing import Any

from localgen.cli.flag_names import RENAMED, flag_of
from localgen.cli.options import GenerationOptions, LoadingOptions
from localgen.errors import LocalgenError

# The flags of the command that runs, by their parameters' names.
_of_the_command: dict[str, str] = {}
# Those that switch something off, by the same names.
_off: dict[str, str] = {}
# Parameters whose names begin messages that are not about them.
_ORDINARY_WORDS = ("model", "load", "stats", "history", "session", "system")
_NEEDS = re.compile(r"\bneeds (\w+)=True\b")

# What stands around an option's name in messages that refuse several together.
_BEFORE_A_NAME = ("cannot be used with ", "leave out ", "each of ")
_AFTER_A_NAME = re.compile(r"(?: and \w+)* cannot be used| out or\b")


def error_message(error: Exception) -> str:
    """Return an error's message, with options named as on the command line."""
    if isinstance(error, OSError) and not isinstance(error, LocalgenError):
        named = error.filename is not None and error.strerror
        return f"{error.filename}: {error.strerror}" if named else str(error)
    return as_flags(str(error))


def as_flags(message: str) -> str:
    """Return a message of the library with its options named as on the command line."""
    own = [flag.name for group in (GenerationOptions, LoadingOptions) for flag in group.flags()]
    names = "|".join([*own, *RENAMED, *_of_the_command])
    message = _NEEDS.sub(_excludes, message)

    def flag(match: re.Match[str]) -> str:
        own_flag, value = _flag_of(match[1]), match[2]
        is_named = match[3] or "_" in match[1] or not match.start() or _is_named(message, match)
        if value is None and not is_named:
            return match[0]  # also an ordinary word: temperature, seed
        if value == "False":
            return f"--no-{own_flag[2:]}"
        return own_flag if value in (None, "True") else f"{own_flag} {value}"

    # What is in quotes is a value, such as the name of a sampler.
    value = r"=([\w'-]+(?:\.[\w'-]+)*)|(=)(?!\w)"
    return re.sub(rf"(?<!['\w-])({names})\b(?:{value})?", flag, message)


def note_command(command: Any) -> None:
    """Let messages name the flags of this command; ``command`` is typer's."""
    _of_the_command.clear()
    _off.clear()
    for parameter in command.params:
        flag = next((each for each in parameter.opts if each.startswith("--")), None)
        if flag is not None and parameter.name not in _ORDINARY_WORDS:
            _of_the_command[parameter.name] = flag
            if parameter.secondary_opts:
                _off[parameter.name] = parameter.secondary_opts[0]


def _flag_of(name: str) -> str:
    return _of_the_command.get(name) or flag_of(name)


def _excludes(needs: re.Match[str]) -> str:
    """Say that a switch which turns off what is needed must not be given."""
    off = _off.get(needs[1])
    return needs[0] if off is None else f"cannot be used with {off}"


def _is_named(message: str, word: re.Match[str]) -> bool:
    """Return whether a word of a message stands where an option is named."""
    before, after = message[: word.start()], message[word.end() :]
    return before.endswith(_BEFORE_A_NAME) or bool(_AFTER_A_NAME.match(after))
