"""What a conversation is, and checks of arguments that are unknown, wrong or have no effect; it
renders nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from localgen._util.suggestions import did_you_mean, similar_names
from localgen._util.warn import warn

Message = Mapping[str, Any]

_NEVER_CUT = "a conversation is never cut; drop messages, or cut the returned token ids"
_UNSUPPORTED = {
    "truncation": _NEVER_CUT,
    "max_length": _NEVER_CUT,
    "return_assistant_tokens_mask": "localgen does not have this option of transformers",
    "tokenizer_kwargs": "pass padding and return_tensors directly",
}
_PAIRS = "a GGUF vocabulary does not say how to join two texts; join them yourself"
_OVERFLOW = "encode the whole text, and slice its token ids"
# transformers' arguments of a call that localgen lacks → their no-op values, and the reason.
_NOT_IN_A_CALL: dict[str, tuple[tuple[Any, ...], str]] = {
    "text_pair": ((None,), _PAIRS),
    "text_target": ((None,), "encode the targets as texts of their own"),
    "text_pair_target": ((None,), _PAIRS),
    "is_split_into_words": ((None, False), "join the words of a text with spaces"),
    "stride": ((None, 0), _OVERFLOW),
    "return_overflowing_tokens": ((None, False), _OVERFLOW),
    "verbose": ((None, True), "silence warnings with Python's warnings module"),
    "tokenizer_kwargs": ((None,), "pass the arguments directly"),
}


class _Template(Protocol):
    def reads(self, name: str) -> bool: ...


def check_call_options(options: Mapping[str, Any], arguments: Collection[str]) -> None:
    """Check the arguments of a call that its signature does not name.

    Raises TypeError unless they are transformers' at a no-op value; ``arguments`` suggest a name.
    """
    for name, value in options.items():
        if name not in _NOT_IN_A_CALL:
            raise unknown_option(name, arguments)
        no_ops, reason = _NOT_IN_A_CALL[name]
        if not any(value is each for each in no_ops):
            raise TypeError(f"the tokenizer does not support {name}={value!r:.80}: {reason}")


def as_conversations(given: Any) -> tuple[list[list[Any]], bool]:
    """Return a list of conversations, and whether ``given`` was several.

    given: the messages of a conversation, or several conversations; any iterables. Raises
    TypeError or ValueError, which say what a conversation is, for anything else.
    """
    outer = _items(given, "messages")
    if not outer:
        raise ValueError("there are no messages: a conversation has at least one")
    if isinstance(outer[0], str) or not isinstance(outer[0], (Sequence, Iterator)):
        return [outer], False
    chats = [_items(chat, f"conversation {index}") for index, chat in enumerate(outer)]
    if [] in chats:
        raise ValueError(f"conversation {chats.index([])} has no messages; each has at least one")
    return chats, True


def _items(given: Any, what: str) -> list[Any]:
    if isinstance(given, Mapping):
        raise TypeError(
            f"{what} must be a list of messages, got a single one, {given!r:.80}; put it in a list"
        )
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise TypeError(
            f"{what} must be a list of dicts such as {{'role': 'user', 'content': 'Hi'}}, got "
            f"{type(given).__name__}"
        )
    return list(given)


def unknown_option(name: str, arguments: Collection[str]) -> TypeError:
    """Return the error for an unknown argument, with a similar name of ``arguments``."""
    return TypeError(f"unknown option {name!r}{did_you_mean(name, arguments, n=1, shown=repr)}")


def without_unsupported(variables: dict[str, Any]) -> dict[str, Any]:
    """Return ``variables`` without unsupported arguments at their no-op values, None and False.

    Raises TypeError for any other value of those arguments.
    """
    for name, advice in _UNSUPPORTED.items():
        value = variables.get(name)
        if value is not None and value is not False:
            raise TypeError(f"apply_chat_template does not support {name}={value!r}: {advice}")
    return {name: value for name, value in variables.items() if name not in _UNSUPPORTED}


def warn_unless_read(
    template: _Template, given: Mapping[str, Any], arguments: Collection[str]
) -> None:
    """Warn about tools, documents and variables in ``given`` that the template does not read.

    arguments: the names of the method's own arguments. Raises TypeError for an unread variable
    that looks like one of them misspelt.
    """
    names = [name for name in ("tools", "documents") if given[name]]
    unread = [name for name in (*names, *given["variables"]) if not template.reads(name)]
    if not unread:
        return
    _check_spelling([name for name in unread if name not in arguments], arguments)
    seen = "it" if len(unread) == 1 and unread[0] not in names else "them"
    warn(f"the chat template does not read {', '.join(unread)}: the model does not see {seen}")


def _check_spelling(names: Sequence[str], arguments: Collection[str]) -> None:
    for name in names:
        if near := similar_names(name, arguments, n=1, cutoff=0.8):
            raise TypeError(
                f"the chat template does not read {name!r}; did you mean the argument {near[0]!r}?"
            )
