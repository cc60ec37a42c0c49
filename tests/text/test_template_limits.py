"""Templates that would stop the process: each is a TemplateError before it takes time or memory.

An operation in C cannot be stopped, so a test that fails here may hang. ``LONG`` is 8 MB of text
that a template makes in 22 steps.
"""

from __future__ import annotations

from typing import Any

import pytest

from localgen import TemplateError
from localgen.text.chat_template import ChatTemplate
from localgen.text.template_sizes import MAX_OUTPUT_CHARS, Sizes

QUESTION = [{"role": "user", "content": "Hi"}]
LONG = (
    "{% set long = namespace(x='ab') %}"
    "{% for i in range(22) %}{% set long.x = long.x ~ long.x %}{% endfor %}"
)


def render(source: str, messages: Any = QUESTION, **variables: Any) -> str:
    return ChatTemplate(source).render(messages, variables=variables)


def repeated(first: str, step: str, end: str, times: int = 60) -> str:
    """A template that replaces ``n.x`` by ``step`` many times."""
    return (
        f"{{% set n = namespace(x={first}) %}}"
        f"{{% for i in range({times}) %}}{{% set n.x = {step} %}}{{% endfor %}}{end}"
    )


PRINTED = "{{ n.x }}"
HASHED = "{{ {n.x: 1} | length }}"
MACRO = (
    "{%% set n = namespace(x=1) %%}{%% macro f() %%}{%% set n.x = %s %%}{%% endmacro %%}"
    "{%% for i in range(60) %%}{{ f(%s) }}{%% endfor %%}{{ n.x }}"
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "source",
    [
        repeated("[]", "[n.x, n.x]", PRINTED),
        repeated("[]", "[n.x, n.x]", "{{ n.x == n.x[:] }}"),
        repeated("[]", "[n.x, n.x]", "{{ n.x | tojson }}"),
        repeated("{}", "{1: n.x, 2: n.x}", PRINTED),
        repeated("()", "(n.x, n.x)", HASHED),
        repeated("[]", "[n.x] * 2", PRINTED),
        repeated("1", "cycler(n.x, n.x).items", PRINTED),
        repeated("1", "dict(a=n.x, b=n.x)", PRINTED),
        repeated("1", "dict.fromkeys([1, 2], n.x)", PRINTED),
        repeated("1", "[1] | batch(3, n.x) | list", PRINTED),
        repeated("1", "([1] | batch(3, n.x) | list)[0]", PRINTED),
        repeated("1", "[1] | slice(3, n.x) | list", PRINTED),
        repeated("1", "[none, none] | map('default', n.x, true) | list", PRINTED),
        repeated("1", "{1: n.x, 2: n.x}.values()", PRINTED),
        repeated("{}", "{1: n.x, 2: n.x}.keys().mapping", PRINTED),
        repeated("1", "{1: n.x, 2: n.x} | items | list", PRINTED),
        repeated("1", "[{'a': n.x}, {'a': n.x}] | groupby('a')", PRINTED),
        MACRO % ("varargs", "n.x, n.x"),
        MACRO % ("kwargs", "a=n.x, b=n.x"),
        "{% for i in range(60) %}{% for b in [1] | batch(3, n.x) %}{% set n.x = b %}{% endfor %}"
        "{% endfor %}{{ n.x }}".replace("{% for i", "{% set n = namespace(x=1) %}{% for i", 1),
    ],
)
def test_values_that_hold_others_twice(source: str) -> None:
    """Regression: comparing, printing or hashing one took for ever, and Ctrl-C was not heard."""
    with pytest.raises(TemplateError, match="characters or more is too large"):
        render(source)


@pytest.mark.slow
@pytest.mark.parametrize(
    "source",
    [
        repeated("'a'", "n.x ~ n.x", "{{ n.x | length }}"),
        repeated("'a'", "n.x + n.x", "{{ n.x | length }}"),
        repeated("[1]", "n.x + n.x", "{{ n.x | length }}"),
        repeated("3", "n.x * n.x", "{{ n.x % 7 }}"),
        "{{ (('f' * 10**7) | int(base=16)) % 7 }}",
        "{{ 5 | round(-(10**9)) }}",
        "{{ ('a' | safe).center(10**9) | length }}",
        "{{ ('\t' * 10**6).expandtabs(1000) | length }}",
        "{{ ([1] * 10**5) | tojson(indent=10**5) | length }}",
        LONG + "{{ ('\n' * 10**6) | indent(long.x) | length }}",
        LONG + "{{ long.x.replace('a', long.x) | length }}",
        LONG + "{{ long.x | replace('a', long.x) | length }}",
        LONG + "{{ long.x.join(long.x) | length }}",
        LONG + "{{ long.x | join(long.x) | length }}",
        LONG + "{{ long.x.join(range(1000) | map('string')) | length }}",
        LONG + "{{ ([none] * 1000) | map('default', long.x, true) | join | length }}",
        LONG + "{{ ('{0}' * 1000).format(long.x) | length }}",
        LONG + "{{ ('{a}' * 1000).format_map({'a': long.x}) | length }}",
        LONG + "{{ (('%(a)s' * 1000) % {'a': long.x}) | length }}",
        LONG + "{{ ('%(a)s' * 1000) | format(a=long.x) | length }}",
        LONG + "{{ long.x.translate({97: long.x}) | length }}",
        LONG + "{% set y %}{% for i in range(1000) %}{{ long.x }}{% endfor %}{% endset %}",
        LONG + "{{ long.x.rfind('c' ~ long.x[:2**21]) }}",
        LONG + "{{ long.x.strip('c' * 2**21) }}",
        LONG + "{{ long.x | trim('c' * 2**21) }}",
        LONG + "{{ long.x | wordwrap }}",
        LONG + "{{ long.x | urlize }}",
    ],
)
def test_operations_that_cannot_be_stopped(source: str) -> None:
    """Regression: they took seconds to hours, or gigabytes."""
    with pytest.raises(TemplateError, match="is too large"):
        render(source)


def test_tuples_that_are_nested_too_deeply() -> None:
    """Python hashes a tuple by recursion in C, and the stack is not checked."""
    with pytest.raises(TemplateError, match="nested more than 200 levels deep"):
        render(repeated("()", "(n.x,)", HASHED, times=99999))


@pytest.mark.parametrize("source", ["{{ {1: 1}.keys() - [1] }}", "{{ {}.keys().isdisjoint([]) }}"])
def test_sets(source: str) -> None:
    """The hashes of keys may collide, and a set's operations take all of them at once."""
    with pytest.raises(TemplateError, match="can"):
        render(source)


def test_namespaces_are_printed_without_their_values() -> None:
    """They may hold others twice, and change after they were measured."""
    assert render(repeated("1", "namespace(a=n.x, b=n.x)", PRINTED)) == "<Namespace>"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ [1, 'a', (2,)] }}{{ {'a': [none]} }}{{ () }}", "[1, 'a', (2,)]{'a': [None]}()"),
        ("{% set a, b = 1, 2 %}{% for k, v in {3: 4}.items() %}{{ a ~ b ~ k }}{% endfor %}", "123"),
        ("{{ 3 - 1 }}{{ 2 ** 10 }}{{ [1] + [2] }}{{ 'a' + 'b' }}{{ 2 * 'c' }}", "21024[1, 2]abcc"),
        ("{{ 'a,b'.split(',') | join('-') }}{{ ' x'.strip() }}{{ 'b'.replace('b', '') }}", "a-bx"),
        ("{{ ', '.join(['a'] | map('upper')) }}{{ [[1], [2]] | sum(start=[]) }}", "A[1, 2]"),
        ("{{ [{'n': 1}, {'n': 2}] | sum('n') }}{{ 2.567 | round(1) }}", "32.6"),
        ("{{ dict([('a', 1)], b=2) }}{{ dict({'c': 3}) }}", "{'a': 1, 'b': 2}{'c': 3}"),
        ("{{ '{}{a}'.format(1, a=2) }}{{ '%(a)s' % {'a': 1} }}{{ '%s' | format('b') }}", "121b"),
        ("{% autoescape true %}{{ '<' ~ 1 }}{% endautoescape %}{{ '<' ~ 1 }}", "&lt;1<1"),
        ("{{ '.a.' | trim('.') }}{{ 'a b' | wordwrap(1) | length }}", "a3"),
    ],
)  # fmt: skip
def test_what_stays_as_it_is(source: str, expected: str) -> None:
    """The measured operations have Python's results."""
    assert render(source) == expected


def test_messages_that_are_longer_than_the_limit() -> None:
    """What the caller gives is not limited, so that a template may pass it on or leave it out."""
    messages = [{"role": "user", "content": "x" * (MAX_OUTPUT_CHARS + 1)}, *QUESTION]
    assert render("{% set all = messages[:1] + messages[1:] %}{{ all | length }}", messages) == "2"


def test_a_value_is_measured_once() -> None:
    """Its address identifies it, because it is kept."""
    sizes = Sizes(10**6)
    inner = ["ab", 1, None]
    assert sizes.of(inner) == 16 + (16 + 2) + (16 + 1) + (16 + 1)
    assert sizes.of([inner, inner]) == 16 + 2 * (16 + sizes.of(inner))
    assert sizes.of({"a": inner}) == 16 + 16 + 1 + 16 + sizes.of(inner)


# --- errors ---


@pytest.mark.parametrize(
    "source",
    [
        "{% break %}",
        "{% for a in [1] %}" * 25 + "{% endfor %}" * 25,
        "{{ dict(a=1, a=2) }}",
        "{% macro f(a, a) %}{% endmacro %}",
        "{{ " + "9" * 5000 + " }}",
        "{{ cycler() }}",
        "{% for i in [1] %}{% generation %}{% break %}{% endgeneration %}{% endfor %}",
        "{% include 'a' %}",
        "{% import 'a' as b %}",
        "{{ 'a'.encode('x') }}",
    ],
)
def test_every_error_is_typed(source: str) -> None:
    """Regression: errors of Python's compiler and of jinja's functions were not TemplateErrors."""
    with pytest.raises(TemplateError, match="chat template"):
        render(source)
