"""Checks a tokenizer's arguments that are unknown or have no effect; it renders nothing."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from localgen._util.warn import warn

_NEVER_CUT = "a conversation is never cut; drop messages, or cut the returned token ids"
_UNSUPPORTED = {
    "truncation": _NEVER_CUT,
    "max_length": _NEVER_CUT,
    "return_assistant_tokens_mask": "localgen does not have this option of transformers",
    "tokenizer_kwargs": "pass padding and return_tensors directly",
}


class _Template(Protocol):
    def reads(self, name: str) -> bool: ...


def unknown_option(name: str, arguments: Collection[str]) -> TypeError:
    """Return the error for an unknown argument, with a similar name of ``arguments``."""
    near = difflib.get_close_matches(name, arguments, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return TypeError(f"unknown option {name!r}{hint}")


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
        if near := difflib.get_close_matches(name, arguments, n=1, cutoff=0.8):
            raise TypeError(
                f"the chat template does not read {name!r}; did you mean the argument {near[0]!r}?"
            )
