"""Chat messages → the text of a prompt, by a model's own jinja template; it knows no token ids.

A template comes with a model file and is not trusted: it runs in jinja's immutable sandbox, sees
plain data only, and its size, values, output and time are limited. Its filters, functions and
variables are those of transformers, so it renders the same text.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jinja2
import jinja2.meta

from localgen._util.threads import start_thread
from localgen.errors import TemplateError
from localgen.text.chat_arguments import Message
from localgen.text.template_environment import environment
from localgen.text.template_sizes import MAX_OUTPUT_CHARS, start_sizes
from localgen.text.tool_arguments import (
    as_most_templates_expect,
    is_encoded_twice,
    json_arguments,
)

Result = TypeVar("Result")

MAX_TEMPLATE_BYTES = 2**20
MAX_SECONDS = 5.0
# Names that are always set, so that variables cannot have them.
RESERVED = frozenset({
    "messages", "tools", "documents", "add_generation_prompt", "raise_exception", "strftime_now",
    "range", "dict", "lipsum", "cycler", "joiner", "namespace",
})  # fmt: skip

_SCALARS: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (str, str.__str__), (int, int.__int__), (float, float.__float__),
)  # fmt: skip
# transformers' names for a model's reasoning before its answer, in order of precedence.
_REASONING = ("reasoning_content", "thinking", "reasoning")
_END_OF_FINAL = "END_OF_THE_FINAL_MESSAGE"


class ChatTemplate:
    """One compiled template.

    Raises TemplateError if it is too large, or not a jinja template.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        n_bytes = len(source.encode("utf-8", errors="surrogatepass"))
        if n_bytes > MAX_TEMPLATE_BYTES:
            raise TemplateError(
                f"the chat template has {n_bytes} bytes; the limit is {MAX_TEMPLATE_BYTES}"
            )
        self._reads, self._template = _in_time(self._compiled)

    def _compiled(self) -> tuple[set[str], jinja2.Template]:
        """Return the names of the variables that the template reads, and its code."""
        try:
            tree = environment().parse(self.source)
            return jinja2.meta.find_undeclared_variables(tree), environment().from_string(tree)
        except jinja2.TemplateSyntaxError as error:
            message = f"syntax error in the chat template, line {error.lineno}: {error.message}"
            raise TemplateError(message) from error
        except RecursionError:
            raise TemplateError("the chat template is nested too deeply") from None
        except Exception as error:  # of Python's own compiler, for the code that jinja writes
            raise TemplateError(
                f"the chat template cannot be compiled: {type(error).__name__}: {error}"
            ) from error

    def reads(self, name: str) -> bool:
        """Return whether the template reads the variable ``name``."""
        return name in self._reads

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
        special_tokens: Mapping[str, str] | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """Return the text of a conversation.

        tools: JSON schemas. special_tokens: the variables ``bos_token`` and the like. variables:
        any others that this template reads, such as ``enable_thinking``. continue_final_message:
        leave the last message open, so that the model continues it; the template must write all of
        its text.
        Raises TypeError or ValueError for invalid messages, and TemplateError if the template
        fails or rejects them.
        """
        if add_generation_prompt and continue_final_message:
            raise ValueError(
                "add_generation_prompt starts a new message and continue_final_message continues "
                "the last one; choose one of them"
            )
        special_tokens = special_tokens or {}
        variables = variables or {}
        for name in variables:
            if name in RESERVED or name in special_tokens:
                raise TypeError(f"{name!r} is set by localgen and cannot be passed as a variable")
        chat = _chat(messages)
        given = {
            "messages": chat,
            "tools": None if tools is None else list(map(_tool, tools)),
            "documents": None if documents is None else list(map(_document, documents)),
            "add_generation_prompt": add_generation_prompt,
            **special_tokens,
            **{name: _plain(value) for name, value in variables.items()},
        }
        if not continue_final_message:
            return self._text_of_calls(given)
        mark = _unused_mark(given)
        content = _mark_end(chat, mark)
        return _cut_at_end(self._text_of_calls(given), content, mark)

    def _text_of_calls(self, given: dict[str, Any]) -> str:
        """Return the text; messages as OpenAI writes them are changed only if that is needed."""
        changed = {**given, "messages": as_most_templates_expect(given["messages"])}
        text = None
        try:
            text = _in_time(lambda: self._text(given))
        except TemplateError:
            if changed == given:
                raise
        if text is not None and not is_encoded_twice(text, json_arguments(given["messages"])):
            return text
        try:
            return _in_time(lambda: self._text(changed))
        except TemplateError:
            if text is None:
                raise
            return text  # the template takes arguments as text alone

    def _text(self, given: dict[str, Any]) -> str:
        pieces = []
        n_chars = 0
        try:
            start_sizes(given)
            for piece in self._template.generate(given):
                n_chars += len(piece)
                if n_chars > MAX_OUTPUT_CHARS:
                    raise TemplateError(
                        f"the chat template writes more than {MAX_OUTPUT_CHARS} characters"
                    )
                pieces.append(piece)
        except TemplateError:
            raise
        except (jinja2.TemplateError, ArithmeticError, LookupError) as error:
            raise TemplateError(f"the chat template failed: {error}") from error
        except Exception as error:  # any that the template's own operations raise
            kind = type(error).__name__
            raise TemplateError(f"the chat template failed: {kind}: {error}") from error
        return "".join(pieces)


# --- plain data for the template ---


def _chat(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Return plain copies of the messages, with the reasoning under each name templates read."""
    if isinstance(messages, (str, Mapping)) or not isinstance(messages, Sequence):
        raise TypeError(
            f"messages must be a list of dicts such as {{'role': 'user', 'content': 'Hi'}}, "
            f"got {type(messages).__name__}"
        )
    chat = []
    for index, message in enumerate(messages):
        if not isinstance(message, Mapping) or "role" not in message:
            raise TypeError(
                f"message {index} must be a dict with a 'role', got {message!r:.80}; "
                f"dataclasses.asdict() or an object's own model_dump() makes one"
            )
        plain = {str(key): _plain(value) for key, value in message.items()}
        thought = next((plain[key] for key in _REASONING if plain.get(key) is not None), None)
        if thought is not None:
            plain = {"thinking": thought, **plain, "reasoning_content": thought}
        chat.append(plain)
    return chat


def _tool(tool: Mapping[str, Any]) -> Any:
    if not isinstance(tool, Mapping):
        raise TypeError(
            f"a tool must be the JSON schema of a function, as a dict, got {tool!r}; "
            f"localgen.text.tool_schema.tool_schema makes one from a Python function"
        )
    return _plain(tool)


def _document(document: Mapping[str, Any]) -> Any:
    if not isinstance(document, Mapping):
        raise TypeError(f"a document must be a dict with 'title' and 'text', got {document!r}")
    return _plain(document)


def _plain(value: Any) -> Any:
    """Return a copy in JSON's types alone: a template must not call methods of other objects."""
    if value is None or type(value) in (bool, str, int, float):
        return value
    for kind, as_plain in _SCALARS:  # a subclass may have methods of its own
        if isinstance(value, kind):
            return as_plain(value)
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    raise TypeError(
        f"messages, tools, documents and variables must be plain data (dicts, lists, texts, "
        f"numbers), got {type(value).__name__}: {value!r}"
    )


# --- continuing the last message ---


def _unused_mark(given: dict[str, Any]) -> str:
    """Return a mark that no text of ``given`` contains."""
    everything = str(given)
    names = (f"{_END_OF_FINAL}{number or ''}" for number in itertools.count())
    return next(name for name in names if name not in everything)


def _mark_end(chat: list[dict[str, Any]], mark: str) -> str:
    """Append a mark and a space to the last message's text, and return that text."""
    content = chat[-1].get("content") if chat else None
    if isinstance(content, str):
        chat[-1]["content"] = f"{content}{mark} "
        return content
    parts = content if isinstance(content, list) else []
    texts = [part for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str)]
    if not texts:
        raise ValueError("continue_final_message needs a last message whose content is text")
    text: str = texts[-1]["text"]
    texts[-1]["text"] = f"{text}{mark} "
    return text


def _cut_at_end(text: str, content: str, mark: str) -> str:
    """Return the rendered text up to the mark, which must follow ``content``."""
    before, found, after = text.rpartition(mark)
    # A template that strips messages removed the space of the mark, and strips the text too.
    is_stripped = not after.startswith(" ")
    before = before.rstrip() if is_stripped else before
    if not found or not before.endswith(content.strip() if is_stripped else content.lstrip()):
        raise TemplateError(
            f"the chat template {'changes' if found else 'leaves out'} the text of the last "
            f"message, so continue_final_message cannot continue it; end the conversation with a "
            f"message that the template writes as it is, or write the prompt as text for complete()"
        )
    return before.replace(f"{mark} ", "").replace(mark, "")


# --- time ---


class _Late(BaseException):
    """Raised in the thread of a rendering that takes too long."""


def _in_time(work: Callable[[], Result]) -> Result:
    """Return the result of ``work``, run on a thread that is stopped after ``MAX_SECONDS``."""
    thread, future = start_thread(work, "localgen-template")
    try:
        thread.join(MAX_SECONDS)
    finally:
        if thread.is_alive():  # late, or interrupted by Ctrl-C
            identity = ctypes.c_ulong(thread.ident or 0)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(identity, ctypes.py_object(_Late))
            thread.join(1)
    if not future.done() or isinstance(future.exception(), _Late):
        raise TemplateError(f"the chat template takes longer than {MAX_SECONDS:g} seconds")
    return future.result()
