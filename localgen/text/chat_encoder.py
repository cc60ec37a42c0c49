"""Chat messages → token ids of a prompt; it knows templates and control tokens, but no model.

The content of a message stays text. Where it spells a control token, a character that occurs in no
text is inserted into that spelling before the template sees it. In the rendered text, only the
template's own control tokens are then intact.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from localgen.errors import TemplateError
from localgen.text.chat_arguments import Message
from localgen.text.chat_template import ChatTemplate

_DEFAULT, _TOOL_USE = "default", "tool_use"
# Noncharacters, which Unicode reserves for internal use.
_FENCES = tuple(map(chr, range(0xFDD0, 0xFDF0)))


class ChatTemplates:
    """The chat templates of a model by name; the unnamed one is "default"."""

    def __init__(self, sources: Mapping[str, str]) -> None:
        self.sources = dict(sources)

    def choose(self, wanted: str | None, *, has_tools: bool) -> ChatTemplate:
        """Return the template named ``wanted``, or compiled from it if it contains "{".

        If None, the model's default template, or with tools its ``tool_use`` template if it has
        one. Raises TemplateError if there is no such template.
        """
        if wanted in self.sources:
            return _compiled(self.sources[wanted])
        if wanted is not None and "{" not in wanted:
            raise TemplateError(
                f"chat_template={wanted!r} is neither a jinja template nor the name of one in this "
                f"model's file, which has {', '.join(sorted(self.sources)) or 'none'}"
            )
        if wanted is not None:
            return _compiled(wanted)
        names = (_TOOL_USE, _DEFAULT) if has_tools else (_DEFAULT,)
        for name in names:
            if name in self.sources:
                return _compiled(self.sources[name])
        if self.sources:
            raise TemplateError(
                f"this model has no default chat template, only "
                f"{', '.join(sorted(self.sources))}; in Python, choose one with chat_template="
            )
        raise TemplateError(
            "this model's file has no chat template: it is not a chat model, or it was converted "
            "without one. Give the prompt as text instead of messages; in Python, chat_template= "
            "takes a jinja template"
        )


# A chat renders the same template in each turn.
@functools.lru_cache(maxsize=16)
def _compiled(source: str) -> ChatTemplate:
    return ChatTemplate(source)


class ChatEncoder:
    """Renders conversations and encodes them.

    special_tokens: control tokens by their text. encode: encodes control tokens in a text as plain
    text. encode_parsed: encodes them as control tokens.
    """

    def __init__(
        self,
        special_tokens: Mapping[str, int],
        encode: Callable[[str], list[int]],
        encode_parsed: Callable[[str], list[int]],
    ) -> None:
        self._ids = {text: token_id for text, token_id in special_tokens.items() if text}
        longest_first = sorted(self._ids, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        self._encode = encode
        self._encode_parsed = encode_parsed

    def encode(
        self,
        template: ChatTemplate,
        messages: Sequence[Message],
        *,
        split_special_tokens: bool,
        **given: Any,
    ) -> list[int]:
        """Return the token ids of a conversation; ``given`` is for ``ChatTemplate.render``.

        split_special_tokens: encode control tokens that messages, tools, documents or variables
        spell as plain text.
        """
        parts = [messages, given.get("tools"), given.get("documents"), given.get("variables")]
        if not split_special_tokens or not any(map(self._spells_token, parts)):
            return self._encode_parsed(template.render(messages, **given))
        fence = _unused(_FENCES, parts)
        names = ("tools", "documents", "variables")
        fenced = {name: self._fenced(given[name], fence) for name in names if given.get(name)}
        text = template.render(self._fenced(messages, fence), **{**given, **fenced})
        return self._encode_fenced(text, fence)

    def _spells_token(self, value: Any) -> bool:
        return any(self._pattern.search(text) for text in _texts(value))

    def _fenced(self, value: Any, fence: str) -> Any:
        """Return ``value`` with ``fence`` after the first character of each control token."""
        if isinstance(value, str):
            return self._pattern.sub(lambda match: match[0][0] + fence + match[0][1:], value)
        if isinstance(value, Mapping):
            return {
                self._fenced_key(key, fence): self._fenced(item, fence)
                for key, item in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self._fenced(item, fence) for item in value]
        return value

    def _fenced_key(self, key: Any, fence: str) -> Any:
        """Return ``key`` unchanged, so that templates find it, unless it spells a control token."""
        text = _key_text(key)
        return self._fenced(text, fence) if self._pattern.search(text) else key

    def _encode_fenced(self, text: str, fence: str) -> list[int]:
        ids = []
        start = 0
        for match in self._pattern.finditer(text):
            if text.startswith(fence, match.end()):
                continue  # a message's control token of a single character
            ids += self._encode(text[start : match.start()].replace(fence, ""))
            ids.append(self._ids[match[0]])
            start = match.end()
        return ids + self._encode(text[start:].replace(fence, ""))


def _texts(value: Any) -> list[str]:
    """Return all texts inside ``value``, including the keys of dicts."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        value = [*map(_key_text, value), *value.values()]
    if isinstance(value, (list, tuple)):
        return [text for item in value for text in _texts(item)]
    return []


def _key_text(key: Any) -> str:
    """Return a dict's key as a template prints it; it may be a tuple of texts, for example."""
    return key if isinstance(key, str) else str(key)


def _unused(characters: Sequence[str], parts: list[Any]) -> str:
    texts = [text for part in parts for text in _texts(part)]
    for character in characters:
        if not any(character in text for text in texts):
            return character
    raise ValueError(
        "the messages contain all of Unicode's noncharacters U+FDD0 to U+FDEF, one of which must "
        "be unused; remove one, or pass split_special_tokens=False"
    )
