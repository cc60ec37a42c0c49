"""Builds the command line that repeats a comparison; it runs nothing."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence

from localgen._util.home import expand_user

TEXT_FILE = "TEXT_FILE"
AUTO = "auto"


def command_line(
    source: str | os.PathLike[str],
    levels: Sequence[str | os.PathLike[str]],
    *,
    own_text: bool,
    n_ctx: int,
    n_chunks: int,
    kv_types: Sequence[str],
    speed: bool,
    quality: bool,
    n_rounds: int,
    n_threads: int,
    imatrix: str | os.PathLike[str] | None,
    tasks: Sequence[str | os.PathLike[str]] = (),
    devices: Sequence[str] = (AUTO,),
    chats: str | os.PathLike[str] | None = None,
    depths: Sequence[int] = (),
    energy: bool = False,
    task_limit: int | None = None,
    include_path: str | os.PathLike[str] | None = None,
    reference_pack: str | os.PathLike[str] | None = None,
) -> str:
    """Return the ``localgen compare`` command that measures the same.

    Files are named without their folders. own_text: the text is the user's; it appears as
    ``TEXT_FILE``.
    """
    words = ["localgen", "compare", _without_folder(source)]
    words += ["--levels", ",".join(_without_folder(level) for level in levels)]
    words += ["--kv-types", ",".join(kv_types)]
    words += ["--text", TEXT_FILE] if own_text else []
    words += ["--n-ctx", str(n_ctx), "--chunks", str(n_chunks)]
    words += ["--rounds", str(n_rounds)] if speed else ["--no-speed"]
    words += [] if quality else ["--no-quality"]
    words += ["--imatrix", _without_folder(imatrix)] if imatrix is not None else []
    for task in tasks:
        words += ["--tasks", _without_folder(task)]
    words += ["--devices", ",".join(devices)] if [*devices] != [AUTO] else []
    words += ["--chats", _without_folder(chats)] if chats is not None else []
    words += ["--depths", ",".join(map(str, depths))] if depths else []
    words += ["--energy"] if energy else []
    words += ["--task-limit", str(task_limit)] if task_limit is not None else []
    words += ["--include-path", _without_folder(include_path)] if include_path is not None else []
    words += ["--reference-pack", _without_folder(reference_pack)] if reference_pack else []
    return shlex.join([*words, "--n-threads", str(n_threads)])


def _without_folder(source: str | os.PathLike[str]) -> str:
    """Return a file's name; a name on the Hub, which is not a path, stays as it is."""
    path = expand_user(source)
    return path.name if not isinstance(source, str) or path.exists() else source
