"""Chat templates: the text that transformers renders, and what a template must not do."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest

from localgen import TemplateError
from localgen.text import chat_template, template_environment
from localgen.text.chat_template import MAX_TEMPLATE_BYTES, ChatTemplate
from localgen.text.template_sizes import MAX_OUTPUT_CHARS
from tests.text.templates.cases import CASES, NOW, SPECIAL_TOKENS

FOLDER = Path(__file__).parent / "templates"
EXPECTED: dict[str, dict[str, str | None]] = json.loads(
    (FOLDER / "expected.json").read_text(encoding="utf-8")
)["expected"]
QUESTION = [{"role": "user", "content": "Hi"}]


class FixedClock(datetime.datetime):
    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return NOW


class FixedModule:
    datetime = FixedClock


def render(source: str, messages: Any = QUESTION, **options: Any) -> str:
    return ChatTemplate(source).render(messages, **options)


# --- as transformers ---


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", EXPECTED)
def test_published_template(name: str, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The text that transformers renders for the same conversation, or an error if it raises."""
    monkeypatch.setattr(template_environment, "datetime", FixedModule)
    template = ChatTemplate((FOLDER / f"{name}.jinja").read_text(encoding="utf-8"))
    options = {"special_tokens": SPECIAL_TOKENS, **CASES[case]}
    messages = options.pop("messages")
    expected = EXPECTED[name][case]
    if expected is None:
        with pytest.raises((TemplateError, ValueError)):
            template.render(messages, **options)
    else:
        assert template.render(messages, **options) == expected


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("what", ["tools", "documents"])
def test_what_a_template_reads(name: str, what: str) -> None:
    """Variables that change the text are read; others are not."""
    source = (FOLDER / f"{name}.jinja").read_text(encoding="utf-8")
    template = ChatTemplate(source)
    if what not in source:
        assert not template.reads(what)
        return
    shown = [
        template.render(case["messages"], special_tokens=SPECIAL_TOKENS, **given)
        for case in [CASES[what]]
        for given in ({}, {what: case[what]})
    ]
    assert template.reads(what) or shown[0] == shown[1]


def test_name_of_its_own_is_not_read() -> None:
    """A variable of a loop or of ``set`` is not the one that was passed."""
    own = ChatTemplate("{% for tools in messages %}{{ tools.role }}{% endfor %}")
    assert not own.reads("tools")
    assert ChatTemplate("{% if tools is defined %}{{ tools }}{% endif %}").reads("tools")


def test_there_are_enough_templates() -> None:
    """The table has at least a dozen templates, and most of its cells are texts."""
    assert len(EXPECTED) >= 12
    cells = [text for row in EXPECTED.values() for text in row.values()]
    assert sum(text is not None for text in cells) > len(cells) * 0.8


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{% for m in messages %}\n  {{ m.content }}\n{% endfor %}\n", "  Hi\n"),
        ("{{ {'b': '<é>', 'a': [1, none]} | tojson }}", '{"b": "<é>", "a": [1, null]}'),
        ("{{ {'a': 1} | tojson(indent=2) }}", '{\n  "a": 1\n}'),
        ("a{% generation %}b{% endgeneration %}c", "abc"),
        ("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01"),
        ("{% set n = namespace(a=1) %}{% set n.a = 2 %}{{ n.a }}{{ dict(x=3).x }}", "23"),
        ("{{ bos_token }}{{ unknown }}{{ x }}", "<BOS>7"),
    ],
)
def test_what_a_template_may_use(source: str, expected: str) -> None:
    """Blocks are trimmed, and transformers' filters, tags and functions exist."""
    got = render(source, special_tokens=SPECIAL_TOKENS, variables={"x": 7})
    assert got == expected


def test_the_date(monkeypatch: pytest.MonkeyPatch) -> None:
    """``strftime_now`` is today's date, in the template's format."""
    monkeypatch.setattr(template_environment, "datetime", FixedModule)
    assert render("{{ strftime_now('%d %b %Y') }}") == "02 Jan 2026"


# --- what it may not ---


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ namespace(__class__=1) }}",
        "{% set n = namespace() %}{% set n._x = 1 %}",
        "{{ dict.__init__ }}{{ dict.fromkeys.__func__.__globals__['json'] }}",
        "{{ 'x' * 10**9 }}",
        "{{ 10 ** 10 ** 9 }}",
        "{{ range(10**9) | list }}",
        "{{ messages[5].content.x }}",
        "{{ raise_exception('no') }}",
        "{{ 1 / 0 }}",
    ],
)
def test_a_template_that_tries(source: str) -> None:
    """Each is a TemplateError: no attribute of Python's own, no write, no flood of memory."""
    with pytest.raises(TemplateError):
        render(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'a'.ljust(N) | length }}",
        "{{ 'a'.center(width) | length }}",
        "{{ '\\t'.expandtabs(tabsize=N) | length }}",
        "{{ (1).to_bytes(N, 'big') | length }}",
        "{{ ('%Nd' % 1) | length }}",
        "{{ ('%(a)-N.2f' % {'a': 1}) | length }}",
        "{{ ('%.*f' % (N, 1)) | length }}",
        "{{ ('%Hd%Hd' % (1, 1)) | length }}",
        "{{ '{:>N}'.format(1) | length }}",
        "{{ '{:>{}}'.format(1, width) | length }}",
        "{{ '{a:.Nf}'.format_map({'a': 1.5}) | length }}",
        "{{ '{:H}{:H}'.format(1, 1) | length }}",
        "{{ 'a' | center(N) | length }}",
        "{{ ['a'] | map('center', N) | list | length }}",
        "{{ 'a\\nb' | indent(width=N) | length }}",
        "{{ '%Nd' | format(1) | length }}",
        "{{ [1] | batch(N, 'x') | list | length }}",
        "{{ [1] | tojson(indent=N) | length }}",
    ],
)
def test_a_width_that_fills_the_memory(source: str) -> None:
    """Regression: a short template made gigabytes of text in one operation, within the time limit.

    N exceeds the limit, and H exceeds half of it: the test takes little memory even if it fails.
    """
    source = source.replace("N", str(MAX_OUTPUT_CHARS + 1))
    source = source.replace("H", str(MAX_OUTPUT_CHARS // 2 + 1))
    with pytest.raises(TemplateError, match="is too large"):
        render(source, variables={"width": MAX_OUTPUT_CHARS + 1})


def test_widths_that_are_right() -> None:
    """Formats work as in Python; numbers that are not widths may be large."""
    source = (
        "{{ 'a'.ljust(3) }}|{{ '%5.1f%%' % 2.25 }}|{{ '{:>{w}}{!r}'.format(1, 'b', w=3) }}|"
        "{{ '%s' % 10**9 }}|{{ '{}'.format(10**9) }}|{{ '%d of %s' | format(7, 'x') }}|"
        "{{ '{a[0]}'.format_map({'a': [10**9]}) }}|{{ 7 % 4 }}|{{ 'a' | center(3) }}"
    )
    expected = "a  |  2.2%|  1'b'|1000000000|1000000000|7 of x|1000000000|3| a "
    assert render(source) == expected


def test_the_words_of_a_template() -> None:
    """A template's own error message reaches the caller."""
    with pytest.raises(TemplateError, match="roles must alternate"):
        render("{{ raise_exception('roles must alternate') }}")


def test_a_syntax_error_has_its_line() -> None:
    """The user can fix a template that was passed by hand."""
    with pytest.raises(TemplateError, match="line 2"):
        ChatTemplate("fine\n{% if %}")


def test_too_large() -> None:
    """A template's size is limited before it is compiled."""
    with pytest.raises(TemplateError, match="bytes"):
        ChatTemplate("x" * (MAX_TEMPLATE_BYTES + 1))


@pytest.mark.parametrize(
    ("name", "limit", "source", "words"),
    [
        ("MAX_OUTPUT_CHARS", 99, "{% for i in range(100) %}{{ i }}\n{% endfor %}", "more than 99"),
        (
            "MAX_SECONDS",
            0.2,
            "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}",
            "longer than",
        ),
    ],
)
def test_too_much(
    name: str, limit: float, source: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Output and time are limited, even for loops without output."""
    monkeypatch.setattr(chat_template, name, limit)
    with pytest.raises(TemplateError, match=words):
        render(source)


@pytest.mark.parametrize("name", ["messages", "tools", "raise_exception", "range", "bos_token"])
def test_reserved_names(name: str) -> None:
    """A template's variables cannot replace what localgen gives it."""
    with pytest.raises(TypeError, match=name):
        render("x", special_tokens=SPECIAL_TOKENS, variables={name: 1})


# --- what is no conversation ---


@pytest.mark.parametrize(
    "messages", ["Hi", {"role": "user"}, [1], [{"content": "no role"}], [[{"role": "user"}]], None]
)
def test_no_conversation(messages: Any) -> None:
    """Anything but a list of messages is refused."""
    with pytest.raises(TypeError, match="message"):
        render("{{ messages }}", messages)


@pytest.mark.parametrize(
    "options",
    [
        {"tools": [print]},
        {"documents": ["text"]},
        {"variables": {"x": object()}},
    ],
    ids=["tools", "documents", "variables"],
)
def test_wrong_parts(options: dict[str, Any]) -> None:
    """Anything but plain data is refused by name."""
    with pytest.raises(TypeError, match=r"tool|document"):
        render("x", **options)


# --- tool calls ---

ARGUMENTS = {"city": "Zürich", "days": 3, "note": 'a "b" \\ c'}


def conversation(arguments: Any, content: str | None = "") -> list[dict[str, Any]]:
    function = {"name": "weather", "arguments": arguments}
    call = {"id": "abcdef123", "type": "function", "function": function}
    return [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": content, "tool_calls": [call]},
        {"role": "tool", "name": "weather", "tool_call_id": "abcdef123", "content": "clear"},
    ]


@pytest.mark.parametrize("name", EXPECTED)
def test_arguments_that_are_json_text(name: str) -> None:
    """Regression: six templates encoded them twice. OpenAI's API writes them so."""
    template = ChatTemplate((FOLDER / f"{name}.jinja").read_text(encoding="utf-8"))
    as_text = json.dumps(ARGUMENTS, ensure_ascii=False)
    messages = conversation(as_text)
    got = template.render(messages, special_tokens=SPECIAL_TOKENS)
    assert got == template.render(conversation(ARGUMENTS), special_tokens=SPECIAL_TOKENS)
    assert messages == conversation(as_text)


@pytest.mark.parametrize(
    ("source", "arguments", "expected"),
    [
        ("{{ %s + '' }}", '{"a": 1}', '{"a": 1}'),  # takes text only
        ("{{ %s }}", '{"a":  1}', '{"a":  1}'),
        ("{{ %s | tojson }}", '{"a":  1}', '{"a": 1}'),
        ("{{ %s | tojson }}", "{}", "{}"),
        ("{{ %s | tojson }}", "[1]", '"[1]"'),  # no object, so no arguments
        ("{{ %s | tojson }}", '{"a', '"{\\"a"'),
        ("{% for k, v in %s | items %}{{ k }}={{ v }}{% endfor %}", '{"a": 1}', "a=1"),
        # Written both ways: with a dict, the template would fail.
        ("{{ %s | tojson }}{{ %s + '' }}", '{"a":1}', '"{\\"a\\":1}"{"a":1}'),
    ],
)
def test_json_text_is_encoded_once(source: str, arguments: str, expected: str) -> None:
    source = source.replace("%s", "messages[1].tool_calls[0].function.arguments")
    assert render(source, conversation(arguments)) == expected


@pytest.mark.parametrize("name", EXPECTED)
def test_a_call_without_content(name: str) -> None:
    """Regression: some templates printed "None". OpenAI's messages have None beside tool calls."""
    template = ChatTemplate((FOLDER / f"{name}.jinja").read_text(encoding="utf-8"))
    got = template.render(conversation(ARGUMENTS, None), special_tokens=SPECIAL_TOKENS)
    assert "None" not in got


def test_the_callers_messages_stay() -> None:
    """Rendering does not modify the caller's messages."""
    messages = [{"role": "assistant", "content": "so", "thinking": "hm"}]
    source = "{% for m in messages %}{{ m.content }}{% endfor %}"
    text = render(source, messages, continue_final_message=True)
    assert text == "so"
    assert messages == [{"role": "assistant", "content": "so", "thinking": "hm"}]


def test_both_ends_at_once() -> None:
    """A message cannot be started and continued at the same time."""
    with pytest.raises(ValueError, match="choose one"):
        render("x", add_generation_prompt=True, continue_final_message=True)


CHANGED, LEFT_OUT = "changes the text of the last", "leaves out the text of the last"
LAST = "{{ messages[-1].content %s }}"


@pytest.mark.parametrize(
    ("source", "content", "problem"),
    [
        ("nothing", "so", LEFT_OUT),
        ("{{ messages[-1].content[:2] }}", "so it is", LEFT_OUT),
        ("{{ messages[-1].content.split('</think>')[-1] }}", "<think>a</think>b", CHANGED),
        (LAST % "| upper", "so", CHANGED),
        (LAST % "| replace('o', '0')", "so", CHANGED),
        (LAST % "| tojson", 'He said "so', CHANGED),
    ],
)
def test_a_last_message_that_cannot_be_continued(source: str, content: str, problem: str) -> None:
    """Regression: only a template that drops the end of the message was noticed."""
    messages = [{"role": "assistant", "content": content}]
    with pytest.raises(TemplateError, match=problem):
        render(source, messages, continue_final_message=True)


@pytest.mark.parametrize(
    ("source", "content", "expected"),
    [
        ("<a>" + LAST % "" + "<end>", " so ", "<a> so "),
        ("<a>" + LAST % "| trim" + "<end>", " so ", "<a>so"),
        ("<a>" + LAST % "" + "<end>", "", "<a>"),
        ("<a>" + LAST % "" + LAST % "" + "<end>", "so ", "<a>so so "),
        ("<a>" + LAST % "| trim" + LAST % "| trim" + "<end>", "so", "<a>soso"),
        ('{"text": ' + LAST % "| tojson" + "}", "so", '{"text": "so'),
    ],
)
def test_a_last_message_that_is_continued(source: str, content: str, expected: str) -> None:
    """The text ends with the message; of a template that writes it twice, with the second."""
    messages = [{"role": "assistant", "content": content}]
    assert render(source, messages, continue_final_message=True) == expected


def test_a_message_with_the_internal_mark() -> None:
    """Regression: a user's text that holds it cut the prompt."""
    mark = chat_template._END_OF_FINAL
    question = {"role": "user", "content": f"{mark} {mark}1 "}
    messages = [question, {"role": "assistant", "content": f"a {mark}"}]
    source = "{% for m in messages %}[{{ m.content }}]{% endfor %}"
    text = render(source, messages, continue_final_message=True)
    assert text == f"[{mark} {mark}1 ][a {mark}"


def test_last_message_of_several_parts_is_continued() -> None:
    """The text ends after the last part that is text."""
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}, {"type": "image"}]
    messages = [{"role": "assistant", "content": parts}]
    source = "{% for part in messages[0].content %}{{ part.text }}{% endfor %}<end>"
    assert render(source, messages, continue_final_message=True) == "one two"
    assert [part.get("text") for part in parts] == ["one ", "two", None]


@pytest.mark.parametrize("content", [None, [], [{"type": "image"}]])
def test_last_message_without_text(content: Any) -> None:
    """There is nothing to continue."""
    messages = [{"role": "assistant", "content": content}]
    with pytest.raises(ValueError, match="needs a last message whose content is text"):
        render("{{ messages }}", messages, continue_final_message=True)


def test_template_that_is_nested_too_deeply() -> None:
    """Python's limit of recursion is an error of the template."""
    with pytest.raises(TemplateError, match="nested too deeply"):
        ChatTemplate("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}")


def test_subclass_of_a_text_loses_its_methods() -> None:
    """A template gets a plain str."""

    class Text(str):
        __slots__ = ()

        def secret(self) -> str:
            return "secret"

    messages = [{"role": "user", "content": Text("Hi")}]
    assert render("{{ messages[0].content }}", messages) == "Hi"
    assert render("{{ messages[0].content.secret is defined }}", messages) == "False"


def test_dict_from_keys() -> None:
    """dict.fromkeys() is what a template may use of the type."""
    assert render("{{ dict.fromkeys('ab', 1) }}") == "{'a': 1, 'b': 1}"
