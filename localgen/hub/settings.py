"""Reads huggingface_hub's settings, which environment variables set; it makes no request."""

from __future__ import annotations

import os
from types import ModuleType

from localgen.errors import DownloadError


def settings() -> ModuleType:
    """Return huggingface_hub's constants.

    They are the values of the environment when huggingface_hub was first imported, which localgen
    does at the first name that needs it. Raises DownloadError if one of them has no valid form.
    """
    try:
        from huggingface_hub import constants  # noqa: PLC0415
    except ValueError as error:
        raise DownloadError(
            f"huggingface_hub cannot read its settings: {error}. Check the environment variables "
            f"{_variables()}."
        ) from error
    return constants


def _variables() -> str:
    """Return the variables of huggingface_hub that are set, with their values, but no token."""
    return ", ".join(
        f"{name}={value!r}"
        for name, value in sorted(os.environ.items())
        if name.startswith("HF_") and "TOKEN" not in name
    )
