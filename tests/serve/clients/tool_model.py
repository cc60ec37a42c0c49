"""SmolLM2's weights with a chat template that shows tools: what a model that knows tools has."""

from __future__ import annotations

import struct
from pathlib import Path

TEMPLATES = Path(__file__).parents[2] / "text" / "templates"
# Its marks of turns are SmolLM2's, and its tool calls are Hermes'.
TEMPLATE = TEMPLATES / "Qwen-Qwen2.5-7B-Instruct.jinja"
KEY = b"tokenizer.chat_template"
ALIGNMENT = 32


def write_tool_model(source: Path, target: Path) -> None:
    """Copy a model with another chat template.

    The template grows by spaces, in a comment, so that the tensors move by a multiple of what they
    are aligned to.
    """
    model = source.read_bytes()
    start = model.index(struct.pack("<Q", len(KEY)) + KEY) + 8 + len(KEY) + 4
    (n_old,) = struct.unpack_from("<Q", model, start)
    template = TEMPLATE.read_bytes()
    n_fill = (n_old - len(template) - len(b"{##}")) % ALIGNMENT
    template += b"{#" + b" " * n_fill + b"#}"
    length = struct.pack("<Q", len(template))
    target.write_bytes(model[:start] + length + template + model[start + 8 + n_old :])
