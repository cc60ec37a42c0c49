"""The jinja environment of chat templates: the sandbox and its limits; it knows no chats."""

from __future__ import annotations

import datetime
import functools
import json
from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import contextmanager
from typing import Any, NoReturn

import jinja2
import jinja2.compiler
import jinja2.ext
import jinja2.filters
import jinja2.nodes
import jinja2.parser
import jinja2.runtime
import jinja2.sandbox
import jinja2.utils

from localgen.text.template_limits import (
    WidthFormatter,
    check_call,
    check_percent,
    limited_filter,
)
from localgen.text.template_sizes import MAX_OUTPUT_CHARS, current_sizes


@functools.cache
def environment() -> jinja2.sandbox.ImmutableSandboxedEnvironment:
    """Return the environment, with the filters, functions and tags of transformers."""
    made = _Environment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[_Generation, jinja2.ext.loopcontrols],
        # A tool call's message has the content None, which some templates print.
        finalize=lambda value: "" if value is None else value,
    )
    made.filters |= {"tojson": _to_json, "format": _format, "sum": _sum}
    made.filters = {name: limited_filter(name, each) for name, each in made.filters.items()}
    made.globals |= {
        "raise_exception": _raise_exception,
        "strftime_now": _strftime_now,
        "dict": _Dict(),
        "namespace": _Namespace,
    }
    return made


class _CodeGenerator(jinja2.compiler.CodeGenerator):
    """Compiles a template so that the values it makes are measured."""

    def visit_List(self, node: jinja2.nodes.List, frame: jinja2.compiler.Frame) -> None:  # noqa: N802
        with self._measured():
            super().visit_List(node, frame)

    def visit_Dict(self, node: jinja2.nodes.Dict, frame: jinja2.compiler.Frame) -> None:  # noqa: N802
        with self._measured():
            super().visit_Dict(node, frame)

    def visit_Tuple(self, node: jinja2.nodes.Tuple, frame: jinja2.compiler.Frame) -> None:  # noqa: N802
        if node.ctx != "load":  # what a loop or ``set`` assigns to
            super().visit_Tuple(node, frame)
            return
        with self._measured():
            super().visit_Tuple(node, frame)

    def visit_Concat(self, node: jinja2.nodes.Concat, frame: jinja2.compiler.Frame) -> None:  # noqa: N802
        if frame.eval_ctx.volatile or frame.eval_ctx.autoescape:
            with self._measured():
                super().visit_Concat(node, frame)
            return
        self.write("environment.joined((")
        for each in node.nodes:
            self.visit(each, frame)
            self.write(", ")
        self.write("))")

    @contextmanager
    def _measured(self) -> Iterator[None]:
        self.write("environment.measured(")
        yield
        self.write(")")


class _Environment(jinja2.sandbox.ImmutableSandboxedEnvironment):
    """The sandbox, where no operation makes a huge value; see ``template_limits``."""

    code_generator_class = _CodeGenerator
    intercepted_binops = frozenset({"+", "-", "*", "**", "%"})

    @staticmethod
    def measured(value: Any) -> Any:
        """Return a value that the template makes, unless it is too large."""
        return current_sizes().check(value)

    @staticmethod
    def joined(values: tuple[Any, ...]) -> str:
        """Return ``a ~ b``."""
        current_sizes().check(values)
        return "".join(map(str, values))

    @staticmethod
    def concat(pieces: Iterable[str]) -> str:
        """Return the text of a macro, a block or a call."""
        pieces = list(pieces)
        current_sizes().check_size(sum(map(len, pieces)))
        return "".join(pieces)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        sizes = current_sizes()
        if operator == "+":
            sizes.check_size(sizes.of(left) + sizes.of(right))
        elif operator == "-" and (isinstance(left, Set) or isinstance(right, Set)):
            # It would hash as many keys as there are, in one operation.
            raise TypeError("only numbers can be subtracted")
        elif operator == "*":
            for value, count in ((left, right), (right, left)):
                if isinstance(value, (str, bytes, list, tuple)) and isinstance(count, int):
                    sizes.check_size(sizes.of(value) * count)
        elif operator == "**" and max(abs(left), abs(right)) > 2**16:
            raise jinja2.TemplateError(f"{left} ** {right} is too large")
        elif operator == "%" and isinstance(left, (str, bytes)):
            check_percent(left, right)
        return sizes.check(super().call_binop(context, operator, left, right))

    def call(self, context: Any, function: Any, /, *args: Any, **named: Any) -> Any:
        args = check_call(function, args, named)
        return current_sizes().check(super().call(context, function, *args, **named))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        formatted = super().wrap_str_format(value)
        if formatted is None:
            return None

        def limited(*args: Any, **named: Any) -> str:
            is_map = value.__name__ == "format_map" and len(args) == 1
            sizes = current_sizes()
            fields = value.__self__.count("{")
            sizes.check_size(fields * (sizes.of(args) + sizes.of(named)))
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
    """``dict(a=1)``, without the attributes of the type.

    Keys are added one by one in Python, which can be stopped: their hashes may collide.
    """

    def __call__(self, *args: Any, **items: Any) -> dict[Any, Any]:
        if len(args) > 1:
            raise TypeError(f"dict() takes at most one argument, got {len(args)}")
        made = {}
        for given in args:
            for key, value in given.items() if isinstance(given, dict) else given:
                made[key] = value
        for key, value in items.items():
            made[key] = value
        return made

    def fromkeys(self, keys: Iterable[Any], value: Any = None) -> dict[Any, Any]:
        made = {}
        for key in keys:
            made[key] = value
        return made


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

    def __repr__(self) -> str:
        return "<Namespace>"  # its values may be namespaces that hold others twice

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
    check_percent(str(text), named or args)
    return jinja2.filters.do_format(text, *args, **named)


@jinja2.pass_environment
def _sum(
    environment: jinja2.Environment, values: Iterable[Any], attribute: Any = None, start: Any = 0
) -> Any:
    """Return the sum; Python's own function cannot be stopped while it joins many lists."""
    if attribute is not None:
        values = map(jinja2.filters.make_attrgetter(environment, attribute), values)
    if isinstance(start, (str, bytes)):
        raise TypeError("the sum of texts is undefined; use the filter 'join'")
    for value in values:
        start = current_sizes().check(start + value)
    return start


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.datetime.now().strftime(pattern)
