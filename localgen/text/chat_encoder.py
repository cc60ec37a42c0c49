"""Chat messages → token ids of a prompt; it knows templates and vocabularies, and no model.

What stands in a message stays text: where it spells a control token, that spelling is broken by a
character that is in no text before the template sees it, so that in the rendered text only the
template's own control tokens are whole.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from localgen.errors import TemplateError
from localgen.text.chat_template import ChatTemplate, Message

_DEFAULT, _TOOL_USE = "default", "tool_use"
# Noncharacters, which Unicode keeps for a program's own use.
_FENCES = tuple(map(chr, range(0xFDD0, 0xFDF0)))


class ChatTemplates:
    """The templates of a model by name; the one without a name is "default"."""

    def __init__(self, sources: Mapping[str, str]) -> None:
        self.sources = dict(sources)

    def choose(self, wanted: str | None, *, has_tools: bool) -> ChatTemplate:
        """The template named ``wanted``, or ``wanted`` itself if it is no name; without it the
        model's own. Raises TemplateError if there is none."""
        if wanted in self.sources:
            return _compiled(self.sources[wanted])
        if wanted is not None and "{" not in wanted:
            raise TemplateError(
                f"chat_template={wanted!r} is no jinja template, and this model has none of that "
                f"name ({', '.join(sorted(self.sources)) or 'none at all'})"
            )
        if wanted is not None:
            return _compiled(wanted)
        names = (_TOOL_USE, _DEFAULT) if has_tools else (_DEFAULT,)
        for name in names:
            if name in self.sources:
                return _compiled(self.sources[name])
        if self.sources:
            raise TemplateError(
                f"this model has chat templates for {', '.join(sorted(self.sources))}, and no "
                f"default one: name one by chat_template="
            )
        raise TemplateError(
            "this model's file has no chat template: it is no chat model, or was converted without "
            "one. Pass a jinja template as chat_template=, or use complete() with text"
        )


# A chat renders the same template at each turn.
@functools.lru_cache(maxsize=16)
def _compiled(source: str) -> ChatTemplate:
    return ChatTemplate(source)


class ChatEncoder:
    """Renders conversations and encodes them.

    special_tokens: control tokens by their text. encode: a text without special tokens → ids.
    encode_parsed: a text whose special tokens are meant → ids.
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
        """Token ids of a conversation; ``given`` is for ``ChatTemplate.render``.

        split_special_tokens: whether control tokens that messages, tools and documents spell are
        taken as text.
        """
        parts = [messages, given.get("tools"), given.get("documents"), given.get("variables")]
        if not split_special_tokens or not any(map(self._spells_one, parts)):
            return self._encode_parsed(template.render(messages, **given))
        fence = _unused(_FENCES, parts)
        names = ("tools", "documents", "variables")
        fenced = {name: self._fenced(given[name], fence) for name in names if given.get(name)}
        text = template.render(self._fenced(messages, fence), **{**given, **fenced})
        return self._encode_fenced(text, fence)

    def _spells_one(self, value: Any) -> bool:
        return any(self._pattern.search(text) for text in _texts(value))

    def _fenced(self, value: Any, fence: str) -> Any:
        """``value`` with each control token's text broken after its first character."""
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
        """``key`` as it is, for the template to look up, unless it spells a control token."""
        text = _key_text(key)
        return self._fenced(text, fence) if self._pattern.search(text) else key

    def _encode_fenced(self, text: str, fence: str) -> list[int]:
        ids = []
        start = 0
        for match in self._pattern.finditer(text):
            if text.startswith(fence, match.end()):
                continue  # of a control token that is a single character
            ids += self._encode(text[start : match.start()].replace(fence, ""))
            ids.append(self._ids[match[0]])
            start = match.end()
        return ids + self._encode(text[start:].replace(fence, ""))


def _texts(value: Any) -> list[str]:
    """All texts inside of ``value``, the keys of dicts among them."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        value = [*map(_key_text, value), *value.values()]
    if isinstance(value, (list, tuple)):
        return [text for item in value for text in _texts(item)]
    return []


def _key_text(key: Any) -> str:
    """What a template makes of a dict's key that is no text, such as a tuple of texts."""
    return key if isinstance(key, str) else str(key)


def _unused(characters: Sequence[str], parts: list[Any]) -> str:
    texts = [text for part in parts for text in _texts(part)]
    for character in characters:
        if not any(character in text for text in texts):
            return character
    raise ValueError("the messages hold every one of Unicode's noncharacters U+FDD0 to U+FDEF")
