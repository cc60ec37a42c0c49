"""A template's own text says which format its model writes; what it renders is read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localgen.text.chat_template import ChatTemplate
from localgen.text.replies.formats import ALIASES, FORMATS, choose_format, find_format
from localgen.text.replies.parser import parse_reply
from localgen.text.replies.results import Reply
from tests.text.templates.cases import SPECIAL_TOKENS

FOLDER = Path(__file__).parents[1] / "templates"
TEMPLATES = {path.stem: path.read_text("utf-8") for path in sorted(FOLDER.glob("*.jinja"))}
FORMAT_OF = {
    "Apertus-8B-Instruct": "apertus",
    "Bielik-11B-v3.0-Instruct": "hermes",
    "ByteDance-Seed-OSS": "seed-oss",
    "GLM-4.7-Flash": "glm",
    "HuggingFaceTB-SmolLM3-3B": "think",
    "Qwen-Qwen2.5-7B-Instruct": "hermes",
    "Qwen3-Coder": "qwen-xml",
    "Qwen3.5-4B": "qwen-xml",
    "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B": "deepseek",
    "deepseek-ai-DeepSeek-V3.1": "deepseek",
    "ibm-granite-granite-3.3-2B-Instruct": "granite3",
    "ibm-granite-granite-4.0": "hermes",
    "mistralai-Mistral-Nemo-Instruct-2407": "mistral",
    "openai-gpt-oss-120b": "harmony",
    "unsloth-mistral-Devstral-Small-2507": "mistral",
}
# These two templates leave a message's tool_calls out.
RENDERS_NO_CALLS = {"HuggingFaceTB-SmolLM3-3B", "ibm-granite-granite-3.3-2B-Instruct"}
RENDERS_CALLS = [name for name in TEMPLATES if name not in RENDERS_NO_CALLS]
RENDERS_ONE_CALL = {"openai-gpt-oss-120b"}
# What ends a reply, or is a header that comes before it.
ENDS = (
    *("<|im_end|>", "<EOS>", "<seed:eos>", "<|end_of_text|>", "<|call|>", "<|return|>"),
    "<\uff5cend\u2581of\u2581sentence\uff5c>",
)
PROMPT_ENDS = ("</think>", "<think>", "\n", "<|assistant_start|>")

USER = {"role": "user", "content": "Go"}
TOOL = {
    "type": "function",
    "function": {
        "name": "work",
        "description": "Work.",
        "parameters": {
            "type": "object",
            "properties": {
                "text": {"type": "string", "description": "A text."},
                "count": {"type": "integer", "description": "A number."},
                "ratio": {"type": "number", "description": "A number."},
                "flag": {"type": "boolean", "description": "Whether."},
                "items": {"type": "array", "items": {}, "description": "A list."},
                "extra": {"type": "object", "description": "More."},
            },
        },
    },
}


def assistant(calls: list[dict[str, Any]]) -> dict[str, Any]:
    functions = [
        {
            "id": f"abcdef12{number}",
            "type": "function",
            "function": {"name": "work", "arguments": arguments},
        }
        for number, arguments in enumerate(calls)
    ]
    return {"role": "assistant", "content": "", "tool_calls": functions}


def rendered_reply(template: ChatTemplate, message: dict[str, Any]) -> str:
    """The text that a template makes of a message, without what is before and after it."""

    def render(messages: list[dict[str, Any]], *, opens: bool) -> str:
        return template.render(
            messages, tools=[TOOL], add_generation_prompt=opens, special_tokens=SPECIAL_TOKENS
        )

    prompt = render([USER], opens=True)
    while prompt.endswith(PROMPT_ENDS):
        for end in PROMPT_ENDS:
            prompt = prompt.removesuffix(end)
    text = render([USER, message], opens=False)
    assert text.startswith(prompt)
    text = text[len(prompt) :].removeprefix("<|assistant_start|>").rstrip()
    for end in ENDS:
        text = text.partition(end)[0]
    return text


def read_back(name: str, calls: list[dict[str, Any]]) -> Reply:
    text = rendered_reply(ChatTemplate(TEMPLATES[name]), assistant(calls))
    return parse_reply(text, find_format(TEMPLATES[name]), [TOOL])


def test_each_template_has_its_format() -> None:
    found = {name: find_format(source) for name, source in TEMPLATES.items()}
    assert {name: form and form.name for name, form in found.items()} == FORMAT_OF


def test_a_template_without_marks_has_none() -> None:
    assert find_format("{% for m in messages %}<|im_start|>{{ m.content }}{% endfor %}") is None


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ('<|start_header_id|>ipython {"name": function name, "parameters": {}}', "llama3"),
        ("<start_of_turn>model", "gemma3"),
        ("<start_of_turn>model <start_function_call>", "functiongemma"),
    ],
)
def test_formats_whose_templates_are_not_here(words: str, name: str) -> None:
    form = find_format(words)
    assert form is not None
    assert form.name == name


def test_a_name_overrides_the_template() -> None:
    form = choose_format("qwen3", TEMPLATES["GLM-4.7-Flash"])
    assert form is not None
    assert form.name == "hermes"
    assert choose_format("none", TEMPLATES["GLM-4.7-Flash"]) is None
    assert choose_format(None, TEMPLATES["GLM-4.7-Flash"]) == choose_format("glm", "")


@pytest.mark.parametrize("name", ["hermez", "", 3])
def test_an_unknown_name_is_an_error_that_lists_the_known_ones(name: Any) -> None:
    with pytest.raises(ValueError, match=r"hermes.*none.*got"):
        choose_format(name, "")


def test_names_are_unique_and_aliases_are_of_formats() -> None:
    names = [each.name for each in FORMATS]
    assert len({*names, *ALIASES}) == len(names) + len(ALIASES)
    assert set(ALIASES.values()) <= set(names)


@pytest.mark.parametrize("name", RENDERS_CALLS)
def test_what_a_template_renders_is_read_back(name: str) -> None:
    arguments = {"text": 'Zürich\n"1" < 2', "count": 3, "flag": True, "items": [1, {"a": None}]}
    calls: list[dict[str, Any]] = [arguments]
    if name not in RENDERS_ONE_CALL:
        calls += [{}, {"extra": {"b": [0.5]}}]
    found = read_back(name, calls)
    assert [each.arguments for each in found.tool_calls] == calls
    assert {each.name for each in found.tool_calls} == {"work"}
    assert {each.error for each in found.tool_calls} == {None}
    assert (found.text, found.reasoning) == ("", None)


@pytest.mark.slow
@pytest.mark.parametrize("name", RENDERS_CALLS)
@settings(max_examples=5)
@given(data=st.data())
def test_any_arguments_are_read_back(name: str, data: st.DataObject) -> None:
    texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.just("\n"), max_size=9)
    values = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | texts
    nested = st.recursive(
        values,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    )
    arguments = data.draw(
        st.fixed_dictionaries(
            {},
            optional={
                "text": texts,
                "count": st.integers(),
                "ratio": st.floats(allow_nan=False, allow_infinity=False),
                "flag": st.booleans(),
                "items": st.lists(nested, max_size=3),
                "extra": st.dictionaries(texts, nested, max_size=3),
            },
        )
    )
    (call,) = read_back(name, [arguments]).tool_calls
    assert (call.name, call.arguments, call.error) == ("work", arguments, None)
