"""Chat messages → the text of a prompt, by a model's own jinja template; it knows no token ids.

A template comes with a model file and is not trusted: it runs in jinja's immutable sandbox, sees
plain data only, and its size, output and time are limited. Its filters, functions and variables
are those of transformers, so it renders the same text.
"""

from __future__ import annotations

import ctypes
import datetime
import functools
import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

import jinja2
import jinja2.ext
import jinja2.filters
import jinja2.meta
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox
import jinja2.utils

from localgen._util.threads import start_thread
from localgen.errors import TemplateError
from localgen.text.template_limits import (
    WidthFormatter,
    check_method,
    check_percent,
    limited_filter,
)
from localgen.text.tool_arguments import (
    as_most_templates_expect,
    is_encoded_twice,
    json_arguments,
)

Message = Mapping[str, Any]
Result = TypeVar("Result")

MAX_TEMPLATE_BYTES = 2**20
MAX_OUTPUT_CHARS = 2**24
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
        try:
            tree = _environment().parse(source)
            self._reads = jinja2.meta.find_undeclared_variables(tree)
            self._template = _environment().from_string(tree)
        except jinja2.TemplateSyntaxError as error:
            message = f"syntax error in the chat template, line {error.lineno}: {error.message}"
            raise TemplateError(message) from error
        except RecursionError:
            raise TemplateError("the chat template is nested too deeply") from None

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
        except (TypeError, ValueError, AttributeError, RecursionError, MemoryError) as error:
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


# --- jinja ---


@functools.cache
def _environment() -> jinja2.sandbox.ImmutableSandboxedEnvironment:
    environment = _Environment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[_Generation, jinja2.ext.loopcontrols],
        # A tool call's message has the content None, which some templates print.
        finalize=lambda value: "" if value is None else value,
    )
    environment.filters["tojson"] = _to_json
    environment.filters["format"] = _format
    for name in ("batch", "center", "indent", "tojson"):
        filter_ = environment.filters[name]
        environment.filters[name] = limited_filter(filter_, MAX_OUTPUT_CHARS)
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = lambda pattern: datetime.datetime.now().strftime(pattern)
    environment.globals["dict"] = _Dict()
    environment.globals["namespace"] = _Namespace
    return environment


class _Environment(jinja2.sandbox.ImmutableSandboxedEnvironment):
    """The sandbox, where no number can make a huge text; see ``template_limits``."""

    intercepted_binops = frozenset({"*", "**", "%"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" and max(abs(left), abs(right)) > 2**16:
            raise jinja2.TemplateError(f"{left} ** {right} is too large")
        if operator == "*":
            for text, count in ((left, right), (right, left)):
                if isinstance(text, (str, list, tuple)) and len(text) * count > MAX_OUTPUT_CHARS:
                    raise jinja2.TemplateError(f"{len(text)} * {count} is too long")
        if operator == "%" and isinstance(left, str):
            check_percent(left, right, MAX_OUTPUT_CHARS)
        return super().call_binop(context, operator, left, right)

    def call(self, context: Any, function: Any, /, *args: Any, **named: Any) -> Any:
        check_method(function, (*args, *named.values()), MAX_OUTPUT_CHARS)
        return super().call(context, function, *args, **named)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        formatted = super().wrap_str_format(value)
        if formatted is None:
            return None

        def limited(*args: Any, **named: Any) -> str:
            is_map = value.__name__ == "format_map" and len(args) == 1
            widths = WidthFormatter(self, MAX_OUTPUT_CHARS)
            widths.vformat(value.__self__, *(((), args[0]) if is_map else (args, named)))
            return formatted(*args, **named)

        return limited


class _Generation(jinja2.ext.Extension):
    """``{% generation %}``: marks assistant text for training; the content is rendered as is."""

    tags = {"generation"}  # noqa: RUF012  # as jinja declares it

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_unchanged"), [], [], body).set_lineno(line)

    def _unchanged(self, caller: Callable[[], str]) -> str:
        return caller()


class _Dict:
    """``dict(a=1)``, without the attributes of the type."""

    def __call__(self, *args: Any, **items: Any) -> dict[Any, Any]:
        return dict(*args, **items)

    def fromkeys(self, keys: Iterable[Any], value: Any = None) -> dict[Any, Any]:
        return dict.fromkeys(keys, value)


class _Namespace(jinja2.utils.Namespace):
    """``namespace(a=1)``, without Python's private names."""

    def __init__(self, /, *args: Any, **values: Any) -> None:
        names = dict(*args, **values)
        for name in names:
            _Namespace._check(name)
        super().__init__(names)

    def __setitem__(self, name: str, value: Any) -> None:
        _Namespace._check(name)  # self._check would be one of the template's names
        super().__setitem__(name, value)

    @staticmethod
    def _check(name: object) -> None:
        if isinstance(name, str) and name.startswith("_"):
            raise jinja2.exceptions.SecurityError(f"a namespace cannot hold the name {name!r}")


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # jinja's own filter escapes < and & for HTML.
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _format(text: Any, *args: Any, **named: Any) -> str:
    check_percent(str(text), args, MAX_OUTPUT_CHARS)
    return jinja2.filters.do_format(text, *args, **named)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


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
