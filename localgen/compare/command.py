"""Builds the command line that repeats a comparison; it runs nothing."""

from __future__ import annotations

import shlex

from localgen._util.home import expand_user
from localgen._util.option_fields import FilePath
from localgen.compare.options import CompareOptions
from localgen.compare.settings import Settings

TEXT_FILE = "TEXT_FILE"
AUTO = "auto"


def command_line(options: CompareOptions, settings: Settings) -> str:
    """Return the ``localgen compare`` command that measures the same.

    Files are named without their folders. settings: with the chunks and the number of threads that
    are used. A text of the user's appears as ``TEXT_FILE``.
    """
    words = ["localgen", "compare", _without_folder(options.source)]
    words += ["--levels", ",".join(map(_without_folder, options.levels))]
    words += ["--kv-types", ",".join(options.kv_types)]
    is_own_text = options.text is not None and settings.reference_pack is None
    words += ["--text", TEXT_FILE] if is_own_text else []
    words += ["--n-ctx", str(settings.n_ctx), "--chunks", str(settings.n_chunks)]
    words += ["--rounds", str(options.n_rounds)] if options.speed else ["--no-speed"]
    words += [] if options.quality else ["--no-quality"]
    words += _file("--imatrix", options.imatrix)
    for task in options.tasks:
        words += ["--tasks", _without_folder(task)]
    words += _extras(options)
    return shlex.join([*words, "--n-threads", str(settings.n_threads)])


def _extras(options: CompareOptions) -> list[str]:
    """Return the flags of what is measured where it is asked for."""
    words = ["--devices", ",".join(options.devices)] if [*options.devices] != [AUTO] else []
    words += _file("--chats", options.chats)
    words += ["--depths", ",".join(map(str, options.depths))] if options.depths else []
    words += ["--energy"] if options.energy else []
    words += ["--task-limit", str(options.task_limit)] if options.task_limit is not None else []
    words += _file("--include-path", options.include_path)
    return words + _file("--reference-pack", options.reference_pack)


def _file(flag: str, path: FilePath | None) -> list[str]:
    return [] if path is None else [flag, _without_folder(path)]


def _without_folder(source: FilePath) -> str:
    """Return a file's name; a name on the Hub, which is not a path, stays as it is."""
    path = expand_user(source)
    return path.name if not isinstance(source, str) or path.exists() else source
