"""Names that Python, transformers and llama.cpp have for a flag → the flag of this command."""

from __future__ import annotations

from typing import Any

from localgen.cli.flag_names import flag_of
from localgen.option_names import own_name

# llama.cpp's flags whose names are not those of an option.
_OF_LLAMA_CPP = {
    "-c": "--n-ctx", "-n": "--max-new-tokens", "-t": "--n-threads", "-ngl": "--n-gpu-layers",
    "-s": "--seed", "-md": "--draft", "--model-draft": "--draft", "--predict": "--max-new-tokens",
    "--json-schema-file": "--json-schema", "--grammar-file": "--grammar",
    "--system-prompt": "--system", "-hf": "--model", "--hf-repo": "--model",
}  # fmt: skip


def name_the_flag(error: Any) -> None:
    """Let a usage error about an unknown flag suggest the one that is meant, if it is known."""
    unknown = getattr(error, "option_name", None)
    if unknown is None or error.ctx is None:
        return
    flag = _OF_LLAMA_CPP.get(unknown) or flag_of(own_name(unknown.lstrip("-").replace("-", "_")))
    if any(flag in each.opts for each in error.ctx.command.params):
        error.possibilities = [flag]
