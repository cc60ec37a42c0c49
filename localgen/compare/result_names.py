"""Names results that are shown together: by their machine, and by what else tells them apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from localgen._util.format import counted

# Settings as a reader calls them; others keep their keys.
SETTING_NAMES = {
    "source": "model",
    "date": "date (UTC)",
    "localgen": "localgen",
    "llama_cpp": "llama-cpp-python (llama.cpp)",
    "features": "llama.cpp build",
    "python": "Python",
    "numpy": "NumPy",
    "platform": "system",
    "machine": "machine",
    "cpu": "CPU",
    "n_threads": "threads",
    "n_ctx": "tokens per chunk",
    "n_chunks": "chunks",
    "kv_types": "KV cache types",
    "text_sha256": "SHA-256 of the text",
    "source_sha256": "SHA-256 of the model",
    "imatrix": "importance matrix (SHA-256)",
    "tasks_sha256": "SHA-256 of the tasks",
    "chats_sha256": "SHA-256 of the chats",
    "task_limit": "questions of each task",
    "unfinished": "unfinished (some figures were not measured)",
}
# What tells the results of one machine apart, as text; at most so many of them are shown.
_APART = {
    "source": "{}",
    "date": "{}",
    "n_ctx": "{} tokens per chunk",
    "n_chunks": "{} chunks",
    "text_sha256": "text {:.8}",
    "imatrix": "matrix {:.8}",
    "kv_types": "KV cache {}",
    "devices": "on {}",
    "localgen": "localgen {}",
    "llama_cpp": "llama.cpp {}",
}
_MOST_APART = 3


def result_names(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return a name for each result by its number: "#1, A CPU, 2 threads".

    Results of one machine have what tells them apart, too: "#2, A CPU, 2 threads, 2026-11-29 12:30,
    16 chunks". settings: those of each result by its number; the number "" has no name.
    """
    same: dict[str, list[Mapping[str, Any]]] = {}
    for part in settings.values():
        same.setdefault(_machine(part), []).append(part)
    apart = {machine: _differing(parts) for machine, parts in same.items()}
    return {
        number: _joined(number, _machine(part), *_as_text(part, apart[_machine(part)]))
        if number
        else ""
        for number, part in settings.items()
    }


def _machine(settings: Mapping[str, Any]) -> str:
    threads = settings.get("n_threads")
    return _joined(
        str(settings.get("cpu") or settings.get("machine") or ""),
        counted(threads, "thread") if isinstance(threads, int) else "",
    )


def _joined(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


def _differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the first settings that are not the same in all results."""
    found = [key for key in _APART if len({shown(part.get(key)) for part in settings}) > 1]
    return found[:_MOST_APART]


def _as_text(settings: Mapping[str, Any], keys: Sequence[str]) -> list[str]:
    return [_APART[key].format(shown(settings[key])) for key in keys if key in settings]


def shown(value: object) -> str:
    """Return a setting as text: lists and dicts without their brackets."""
    if isinstance(value, dict):
        value = [f"{name}: {each}" for name, each in value.items()]
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
