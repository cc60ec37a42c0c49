"""Parameters of the library → the flags that set them, and how a flag is repeated."""

from __future__ import annotations

# Parameters whose flags have another name.
RENAMED = {
    "n_rounds": "rounds", "n_chunks": "chunks", "n_sequences": "sequences",
    "stop_strings": "stop", "choices": "choice", "use_profile": "profile",
    "assistant_model": "draft", "tensor_types": "tensor_type",
    "api_keys": "api_key", "allowed_hosts": "allowed_host", "cors_origins": "cors_origin",
    "isolated": "isolation",
}  # fmt: skip


def flag_of(name: str) -> str:
    """Return the flag of a parameter: "--choice" for "choices"."""
    return f"--{RENAMED.get(name, name).replace('_', '-')}"


def given_once(flag: str, text: str, result: str) -> str:
    """Return what to say of a flag that needs several texts and was given a single one.

    result: what one text alone leads to. A text with commas was probably meant as a list.
    """
    parts = [part.strip() for part in text.split(",")]
    example = f", as in {flag} {parts[0]} {flag} {parts[1]}" if len(parts) > 1 else ""
    return f"{flag} is given once, so {result}; repeat it for each text{example:.80}"
