"""Replies as models write them, a few of each format, and what is in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "days": {"type": "integer"},
                "tags": {"type": "array"},
                "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            },
        },
    },
}
NOW: dict[str, Any] = {"type": "function", "function": {"name": "now", "parameters": {}}}
TOOLS = [WEATHER, NOW]

LIMA = ("weather", {"city": "Lima", "days": 3})
NOON: tuple[str, dict[str, Any]] = ("now", {})


@dataclass(frozen=True)
class Sample:
    """One reply: its format, its text with marks, and what it holds.

    calls: (name, arguments) of each; arguments None where they cannot be read. errors: what the
    errors of the calls contain, for those that have one. cut_off: the numbers of calls that the
    reply's end cut off. before: what the prompt has of it.
    """

    name: str
    form: str
    raw: str
    text: str = ""
    reasoning: str | None = None
    calls: tuple[tuple[str, dict[str, Any] | None], ...] = ()
    errors: tuple[str, ...] = ()
    cut_off: tuple[int, ...] = ()
    before: str = ""


_JSON = '{"name": "weather", "arguments": {"city": "Lima", "days": 3}}'
_NOW = '{"name": "now", "arguments": {}}'
_BLOCK = f"<tool_call>\n{_JSON}\n</tool_call>"
_XML = (
    "<function=weather>\n<parameter=city>\nLima\n</parameter>\n<parameter=days>\n3\n</parameter>\n"
    "</function>"
)
_XML_NOW = "<function=now>\n</function>"
_GLM = (
    "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Lima</arg_value>\n"
    "<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n</tool_call>"
)
_BAR, _LOW = "\uff5c", "\u2581"


def _deep(words: str) -> str:
    return f"<{_BAR}{words.replace(' ', _LOW)}{_BAR}>"


_CALLS, _CALLS_END = _deep("tool calls begin"), _deep("tool calls end")
_CALL, _CALL_END, _SEP = _deep("tool call begin"), _deep("tool call end"), _deep("tool sep")
_ARGUMENTS = '{"city": "Lima", "days": 3}'

_CUT_OFF: Any = {"calls": (("weather", None),), "errors": ("cut off",), "cut_off": (0,)}
_CUT_EARLY: Any = {**_CUT_OFF, "calls": (("", None),)}
_FINAL = "<|start|>assistant<|channel|>final<|message|>"
_COMMENT = "<|channel|>commentary"
_ANALYSIS = "<|channel|>analysis<|message|>Hm.<|end|>"
_GEMMA, _GEMMA_END = "<start_function_call>", "<end_function_call>"

SAMPLES = [
    # --- reasoning ---
    Sample("plain text", "hermes", "  Lima is\nthe capital.\n", "  Lima is\nthe capital.\n"),
    Sample("nothing", "hermes", ""),
    Sample("reasoning", "hermes", "<think>\nHm.\n</think>\n\nYes.", "Yes.", "Hm."),
    Sample(
        "reasoning that the prompt opened",
        "think",
        "\nHm.</think>Yes.",
        "Yes.",
        "Hm.",
        before="<think>",
    ),
    Sample("opened by both", "think", "<think>Hm.</think>Yes.", "Yes.", "Hm.", before="<think>"),
    Sample("closed without being opened", "think", "</think>\n\nYes.\n", "Yes.\n"),
    Sample("reasoning that does not end", "think", "<think>\nHm. ", reasoning="Hm. "),
    Sample("reasoning cut in its end mark", "think", "<think>Hm.</thi", reasoning="Hm.</thi"),
    Sample("empty reasoning", "hermes", "<think>\n\n</think>\n\nYes.", "Yes."),
    Sample("a tag that text mentions", "hermes", "Use <think> here.", "Use <think> here."),
    Sample("Magistral", "mistral", "[THINK]Hm.[/THINK]Yes.", "Yes.", "Hm."),
    Sample("Seed", "seed-oss", "<seed:think>Hm.</seed:think>\nYes.", "Yes.", "Hm."),
    Sample(
        "Granite's response",
        "granite3",
        "<think>Hm.</think><response>Yes.</response>",
        "Yes.",
        "Hm.",
    ),
    # --- Hermes ---
    Sample("one call", "hermes", _BLOCK, calls=(LIMA,)),
    Sample(
        "two calls and words",
        "hermes",
        f"I look.\n{_BLOCK}\n<tool_call>{_NOW}</tool_call>\n",
        "I look.",
        calls=(LIMA, NOON),
    ),
    Sample("words after", "hermes", f"I look.{_BLOCK}Done.", "I look.\nDone.", calls=(LIMA,)),
    Sample(
        "two in one block", "hermes", f"<tool_call>{_JSON}\n{_NOW}</tool_call>", calls=(LIMA, NOON)
    ),
    Sample("a list", "hermes", f"<tool_call>[{_JSON}, {_NOW}]</tool_call>", calls=(LIMA, NOON)),
    Sample(
        "a call inside the reasoning",
        "hermes",
        f"<think>I need it.\n{_BLOCK}",
        reasoning="I need it.",
        calls=(LIMA,),
    ),
    Sample(
        "a mark that reasoning mentions",
        "hermes",
        "<think>I write <tool_call> first.</think>Yes.",
        "Yes.",
        "I write <tool_call> first.",
    ),
    Sample(
        "arguments first, and a string",
        "hermes",
        '<tool_call>{"arguments": "{\\"city\\": \\"Lima\\", \\"days\\": 3}", "name": "weather"}'
        "</tool_call>",
        calls=(LIMA,),
    ),
    Sample(
        "as OpenAI nests it",
        "hermes",
        f'<tool_call>{{"type": "function", "function": {_JSON}}}</tool_call>',
        calls=(LIMA,),
    ),
    Sample(
        "the end mark in a string",
        "hermes",
        '<tool_call>{"name": "now", "arguments": {"a": "</tool_call>}{"}}</tool_call>',
        calls=(("now", {"a": "</tool_call>}{"}),),
    ),
    Sample(
        "a string left open",
        "hermes",
        f'<tool_call>{{"name": "weather", "arguments": {{"city": "Li\n</tool_call>\n{_BLOCK}',
        calls=(("weather", None), LIMA),
        errors=("not JSON",),
    ),
    Sample(
        "arguments that are no JSON",
        "hermes",
        '<tool_call>{"name": "weather", "arguments": {city: "Lima"}}</tool_call>Sorry.',
        "Sorry.",
        calls=(("weather", None),),
        errors=("not JSON",),
    ),
    Sample(
        "arguments that are a list",
        "hermes",
        '<tool_call>{"name": "weather", "arguments": [1]}</tool_call>',
        calls=(("weather", None),),
        errors=("not a JSON object",),
    ),
    Sample(
        "NaN",
        "hermes",
        '<tool_call>{"name": "weather", "arguments": {"days": NaN}}</tool_call>',
        calls=(("weather", None),),
        errors=("NaN",),
    ),
    Sample(
        "half a character",
        "hermes",
        '<tool_call>{"name": "weather", "arguments": {"city": "\\ud83d"}}</tool_call>',
        calls=(("weather", None),),
        errors=("half of a character",),
    ),
    Sample(
        "a brace too many",
        "hermes",
        f"<tool_call>{_JSON}}}</tool_call>",
        calls=(("weather", None),),
        errors=("text follows",),
    ),
    Sample(
        "no name",
        "hermes",
        '<tool_call>{"arguments": {}}</tool_call>',
        calls=(("", None),),
        errors=("no tool",),
    ),
    Sample(
        "no JSON at all",
        "hermes",
        "<tool_call>weather</tool_call>!",
        "!",
        calls=(("", None),),
        errors=("not JSON",),
    ),
    Sample("no call in the list", "hermes", "<tool_call>[]</tool_call>"),
    Sample("the end mark is missing", "hermes", f"<tool_call>\n{_JSON}", calls=(LIMA,)),
    Sample(
        "cut in the arguments",
        "hermes",
        '<tool_call>{"name": "weather", "arguments": {"city": "Li',
        **_CUT_OFF,
    ),
    Sample(
        "cut after the arguments",
        "hermes",
        '<tool_call>{"name": "now", "arguments": {}',
        calls=(("now", None),),
        errors=("cut off",),
        cut_off=(0,),
    ),
    Sample("cut in the name", "hermes", '<tool_call>{"name": "wea', **_CUT_EARLY),
    Sample("cut after the mark", "hermes", "Yes.<tool_call>", "Yes.", **_CUT_EARLY),
    Sample(
        "a call that the prompt begins",
        "hermes",
        '{"city": "Lima", "days": 3}}',
        calls=(LIMA,),
        before='<tool_call>\n{"name": "weather", "arguments": ',
    ),
    # --- tags ---
    Sample(
        "Qwen3-Coder",
        "qwen-xml",
        f"I look.\n\n<tool_call>\n{_XML}\n</tool_call>",
        "I look.",
        calls=(LIMA,),
    ),
    Sample(
        "Qwen3.5",
        "qwen-xml",
        f"Hm.\n</think>\n\n<tool_call>\n{_XML}\n</tool_call>\n"
        f"<tool_call>\n{_XML_NOW}\n</tool_call>",
        "",
        "Hm.",
        calls=(LIMA, NOON),
        before="<think>",
    ),
    Sample(
        "two functions in a block",
        "qwen-xml",
        f"<tool_call>{_XML}\n{_XML_NOW}</tool_call>",
        calls=(LIMA, NOON),
    ),
    Sample(
        "the first mark is missing",
        "qwen-xml",
        f"I look.\n{_XML}\n</tool_call>\nYes.",
        "I look.\n\nYes.",
        calls=(LIMA,),
    ),
    Sample(
        "a function that is no tool",
        "qwen-xml",
        "std::<function=other> is text.",
        "std::<function=other> is text.",
    ),
    Sample(
        "tags in a string of a list",
        "qwen-xml",
        '<tool_call><function=weather><parameter=tags>["</parameter></tool_call>"]</parameter>'
        "</function></tool_call>",
        calls=(("weather", {"tags": ["</parameter></tool_call>"]}),),
    ),
    Sample(
        "a string of a list left open",
        "qwen-xml",
        '<tool_call><function=weather><parameter=tags>["\n</parameter></function></tool_call>',
        calls=(("weather", {"tags": '["'}),),
    ),
    Sample(
        "tags and line feeds in a value",
        "qwen-xml",
        "<tool_call><function=weather><parameter=city>\n\n a</parameter>b\n\n</parameter>"
        "</function></tool_call>",
        calls=(("weather", {"city": "\n a</parameter>b\n"}),),
    ),
    Sample(
        "values by their schema",
        "qwen-xml",
        "<tool_call><function=weather><parameter=city>3</parameter>"
        "<parameter=tags>[1, 'a']</parameter><parameter=note>None</parameter>"
        "<parameter=other>True</parameter></function></tool_call>",
        calls=(("weather", {"city": "3", "tags": [1, "a"], "note": None, "other": True}),),
    ),
    Sample(
        "cut in a value",
        "qwen-xml",
        "<tool_call><function=weather><parameter=city>\nLi",
        **_CUT_OFF,
    ),
    Sample(
        "the call is not closed",
        "qwen-xml",
        f"<tool_call>{_XML.removesuffix('</function>')}</tool_call>Yes.",
        "Yes.",
        calls=(("weather", None),),
        errors=("cannot be read",),
    ),
    Sample(
        "no function",
        "qwen-xml",
        f"<tool_call>{_JSON}</tool_call>",
        calls=(("", None),),
        errors=("cannot be read",),
    ),
    Sample(
        "Seed's call",
        "seed-oss",
        "<seed:tool_call>\n<function=weather>\n<parameter=city>Lima</parameter>\n"
        "<parameter=days>3</parameter>\n</function>\n</seed:tool_call>",
        calls=(LIMA,),
    ),
    Sample("GLM 4.5", "glm", f"<think>Hm.</think>I look.\n{_GLM}", "I look.", "Hm.", calls=(LIMA,)),
    Sample(
        "GLM 4.7", "glm", _GLM.replace("\n", "") + "<tool_call>now</tool_call>", calls=(LIMA, NOON)
    ),
    Sample(
        "GLM cut off",
        "glm",
        "<tool_call>weather<arg_key>city</arg_key><arg_value>Lima</arg_value>",
        **_CUT_OFF,
    ),
    # --- Llama ---
    Sample(
        "Llama's object",
        "llama3",
        '\n{"name": "weather", "parameters": {"city": "Lima", "days": 3}}',
        calls=(LIMA,),
    ),
    Sample(
        "Llama's two",
        "llama3",
        '{"type": "function", "name": "weather", "parameters": {"city": "Lima", "days": 3}}; '
        '{"name": "now", "parameters": {}}',
        calls=(LIMA, NOON),
    ),
    Sample("Llama's tag", "llama3", f"<|python_tag|>{_JSON}", calls=(LIMA,)),
    Sample(
        "JSON that is an answer",
        "llama3",
        '{"name": "Lima", "parameters": {}}',
        '{"name": "Lima", "parameters": {}}',
    ),
    Sample("JSON in the middle", "llama3", f"So: {_JSON}", f"So: {_JSON}"),
    Sample("Llama cut off", "llama3", '{"name": "weather", "parameters": {"city"', **_CUT_OFF),
    # --- Mistral ---
    Sample(
        "Nemo",
        "mistral",
        '[TOOL_CALLS][{"name": "weather", "arguments": {"city": "Lima", "days": 3}, '
        '"id": "abcdef123"}, ' + _NOW + "]",
        calls=(LIMA, NOON),
    ),
    Sample(
        "Devstral",
        "mistral",
        f"I look.[TOOL_CALLS]weather[ARGS]{_ARGUMENTS}[TOOL_CALLS]now[ARGS]{{}}",
        "I look.",
        calls=(LIMA, NOON),
    ),
    Sample(
        "Mistral's id",
        "mistral",
        f"[TOOL_CALLS]weather[CALL_ID]123456789[ARGS]{_ARGUMENTS}",
        calls=(LIMA,),
    ),
    Sample("without a mark between", "mistral", f"[TOOL_CALLS]weather{_ARGUMENTS}", calls=(LIMA,)),
    Sample("Mistral cut in the name", "mistral", "[TOOL_CALLS]wea", **_CUT_EARLY),
    Sample("Mistral cut off", "mistral", '[TOOL_CALLS]weather[ARGS]{"city": ', **_CUT_OFF),
    # --- DeepSeek ---
    Sample(
        "V3.1",
        "deepseek",
        f"Hm.</think>I look.{_CALLS}{_CALL}weather{_SEP}{_ARGUMENTS}{_CALL_END}"
        f"{_CALL}now{_SEP}{{}}{_CALL_END}{_CALLS_END}",
        "I look.",
        "Hm.",
        calls=(LIMA, NOON),
        before="<think>",
    ),
    Sample(
        "R1",
        "deepseek",
        f"<think>\nHm.\n</think>\n{_CALLS}{_CALL}function{_SEP}weather\n"
        f"```json\n{_ARGUMENTS}\n```{_CALL_END}{_CALLS_END}",
        "",
        "Hm.",
        calls=(LIMA,),
    ),
    Sample(
        "R1 cut off", "deepseek", f"{_CALLS}{_CALL}function{_SEP}weather\n```json\n{{", **_CUT_OFF
    ),
    # --- Granite 3 ---
    Sample("Granite 3", "granite3", f"<|tool_call|>[{_JSON}, {_NOW}]", calls=(LIMA, NOON)),
    Sample("Granite 3.1", "granite3", f"<tool_call>[{_JSON}]", calls=(LIMA,)),
    Sample("Granite's empty list", "granite3", "<|tool_call|>[]\nI cannot.", "I cannot."),
    # --- Apertus ---
    Sample(
        "Apertus",
        "apertus",
        f'Yes. <|inner_prefix|>Hm.<|tools_prefix|>[{{"weather": {_ARGUMENTS}}}, '
        '{"now": {}}]<|tools_suffix|><|inner_suffix|>Done.',
        "Yes. Done.",
        "Hm.",
        calls=(LIMA, NOON),
    ),
    # --- gpt-oss ---
    Sample("harmony", "harmony", f"{_ANALYSIS}{_FINAL}Yes.", "Yes.", "Hm."),
    Sample(
        "gpt-oss: a mark in a string",
        "harmony",
        f'{_COMMENT} to=functions.weather<|message|>{{"city": "<|end|>"}}<|call|>',
        calls=(("weather", {"city": "<|end|>"}),),
    ),
    Sample(
        "harmony's call",
        "harmony",
        f"{_ANALYSIS}<|start|>assistant{_COMMENT} to=functions.weather "
        f"<|constrain|>json<|message|>{_ARGUMENTS}",
        "",
        "Hm.",
        calls=(LIMA,),
    ),
    Sample(
        "the recipient first",
        "harmony",
        f" to=functions.weather<|channel|>commentary json<|message|>{_ARGUMENTS}<|call|>",
        calls=(LIMA,),
    ),
    Sample(
        "a preamble",
        "harmony",
        f"{_COMMENT}<|message|>I look.<|end|><|start|>assistant"
        f"{_COMMENT} to=functions.weather<|message|>{_ARGUMENTS}<|call|>",
        "I look.",
        calls=(LIMA,),
    ),
    Sample(
        "harmony cut off",
        "harmony",
        '<|channel|>commentary to=functions.weather<|message|>{"city": "Li',
        **_CUT_OFF,
    ),
    Sample("harmony's header cut off", "harmony", f"{_ANALYSIS}<|start|>assi", "", "Hm."),
    Sample("a message that the prompt began", "harmony", "the capital.", "the capital."),
    # --- Gemma ---
    Sample(
        "FunctionGemma",
        "functiongemma",
        f"{_GEMMA}call:weather{{city:<escape>Lima<escape>,days:3}}{_GEMMA_END}{_GEMMA}call:now{{}}{_GEMMA_END}",
        calls=(LIMA, NOON),
    ),
    Sample(
        "its notation",
        "functiongemma",
        f"{_GEMMA}call:weather{{city:<escape>a,b}}<escape>,tags:[1,{{x:true}},<escape>c<escape>]}}"
        f"{_GEMMA_END}",
        calls=(("weather", {"city": "a,b}", "tags": [1, {"x": True}, "c"]}),),
    ),
    Sample(
        "FunctionGemma cut off",
        "functiongemma",
        "<start_function_call>call:weather{city:",
        **_CUT_OFF,
    ),
    Sample(
        "Gemma 3",
        "gemma3",
        "I look.\n```tool_code\nprint(weather(city='Lima', days=3))\n```",
        "I look.",
        calls=(LIMA,),
    ),
    Sample(
        "Gemma 3's list",
        "gemma3",
        "```tool_code\n[weather('Lima', 3), now()]\n```",
        calls=(LIMA, NOON),
    ),
    Sample("other code", "gemma3", "```python\nx = 1\n```", "```python\nx = 1\n```"),
    Sample(
        "code that is no call",
        "gemma3",
        "```tool_code\nx = 1\n```",
        calls=(("", None),),
        errors=("not Python",),
    ),
    Sample(
        "values that are no literals",
        "gemma3",
        "```tool_code\nweather(city=x)\n```",
        calls=(("weather", None),),
        errors=("not literals",),
    ),
]
