"""Says under which key measurements of a model are kept."""

from __future__ import annotations

from localgen.gguf.gate import ModelFile
from localgen.llama.library import llama_version, system_info
from localgen.profiles.store import ProfileKey


def profile_key(file: ModelFile) -> ProfileKey:
    """Return the key of a model on this machine and build. Raises OSError; it reads no file."""
    return ProfileKey.of(file.paths, build_id())


def build_id() -> str:
    """Return the versions and the CPU features of this build of llama.cpp, which it loads."""
    return f"{llama_version()} {system_info()}"
