"""A model that gives scripted replies in a chat, with a special token that is a mark."""

from __future__ import annotations

from tests.fakes import BOS, EOS, FakeBackend, FakeModel, FakeVocab, fake_model

MARK = b"<tool_call>"
# All of the conversation, then how many replies there were; the comment shows the format.
TEMPLATE = (
    "{{ tools | tojson }}{{ messages | tojson }}{#- <tool_call> and tool_calls #}"
    "{{ messages | selectattr('role', 'equalto', 'assistant') | list | length }}|"
)


class MarkVocab(FakeVocab):
    """BOS is a special token that is spelled as the mark of a call."""

    def __init__(self, template: str) -> None:
        self.chat_templates = {"default": template}  # type: ignore[misc]

    def token_bytes(self, token_id: int) -> bytes:
        return MARK if token_id == BOS else super().token_bytes(token_id)


def ids_of(text: str) -> list[int]:
    """The tokens of a reply, and EOS."""
    parts = text.encode().split(MARK)
    return [*[token for part in parts for token in (BOS, *part)][1:], EOS]


def replying_model(*replies: str, template: str = TEMPLATE) -> FakeModel:
    """A model with these replies to prompts that end in their number and "|"."""

    def script(tokens: list[int]) -> int:
        n_prompt = len(tokens) - tokens[::-1].index(ord("|"))
        number = int(chr(tokens[n_prompt - 2]))
        return ids_of(replies[number])[len(tokens) - n_prompt]

    backend = FakeBackend(script)
    backend.vocab = MarkVocab(template)
    return fake_model(backend=backend, n_ctx=4096)
