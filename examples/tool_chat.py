"""A chat in which the model can call Python functions.

Type hints and docstrings become JSON schemas in the prompt. If the model writes a call, it is
executed and the model answers with its result. If not, what it wrote is the answer.

    python examples/tool_chat.py --model smollm2 "What is the weather in Lima?" --call weather

A model of 135M parameters rarely calls a function unprompted: `--call NAME` starts the call for it.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from typing import Any

from localgen import Completion, LocalModel

CALL = re.compile(r"<tool_call>\s*(\{.*\})", re.DOTALL)
# For ChatML models whose own template does not read tools, such as SmolLM2.
TEMPLATE = r"""{%- for message in messages %}
{{- '<|im_start|>' ~ ('user' if message.role == 'tool' else message.role) ~ '\n' }}
{{- '<tool_response>' ~ message.content ~ '</tool_response>' if message.role == 'tool'
    else message.content }}
{%- if loop.first and tools %}
    {{- '\n\nYou can call these functions:\n' }}
    {%- for tool in tools %}{{ tool | tojson ~ '\n' }}{% endfor %}
    {{- 'To call one, answer: <tool_call>\n{"name": …, "arguments": …}\n</tool_call>' }}
{%- endif %}
{%- for call in message.tool_calls or [] %}
    {{- '<tool_call>\n' ~ call.function | tojson ~ '\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""


def weather(city: str) -> str:
    """Get the current weather in a city.

    Args:
        city: The name of the city.
    """
    return {"lima": "sunny, 21 °C", "oslo": "snow, -3 °C"}.get(city.lower(), "not known")


TOOLS: dict[str, Callable[..., object]] = {"weather": weather}


def call_message(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the assistant's message that calls a function."""
    call = {"type": "function", "function": {"name": name, "arguments": arguments}}
    return {"role": "assistant", "content": "", "tool_calls": [call]}


# A call and its answer as an example help a small model more than any instruction.
MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "You answer briefly. Call a function where one helps."},
    {"role": "user", "content": "What is the weather in Oslo?"},
    call_message("weather", {"city": "Oslo"}),
    {"role": "tool", "content": weather("Oslo")},
    {"role": "assistant", "content": "It is snowing in Oslo at -3 °C."},
]


def parse_call(text: str) -> tuple[str, dict[str, Any]] | None:
    """Return the name and the arguments of the call in a reply; None if there is no valid one."""
    match = CALL.search(text)
    try:
        call = json.loads(match[1] if match else "{}")
    except ValueError:
        return None
    name, arguments = call.get("name"), call.get("arguments")
    is_valid = isinstance(name, str) and name in TOOLS and isinstance(arguments, dict)
    return (name, arguments) if is_valid else None


def execute(name: str, arguments: dict[str, Any]) -> str:
    """Return a function's result, or its error for the model to react to."""
    try:
        return str(TOOLS[name](**arguments))
    except Exception as error:  # a model may write any arguments
        return f"error: {error}"


def ask(model: LocalModel, question: str, force: str | None = None) -> str:
    """Return the answer to a question; ``force`` names the function to call first."""
    reads_tools = "<tool_call>" in (model.tokenizer.chat_template or "")
    messages = [*MESSAGES, {"role": "user", "content": question}]
    start = f'<tool_call>\n{{"name": "{force}", "arguments": ' if force else ""
    for _ in range(3):
        reply: Completion = model.chat(
            [*messages, {"role": "assistant", "content": start}] if start else messages,
            tools=list(TOOLS.values()),
            chat_template=None if reads_tools else TEMPLATE,
            continue_final_message=bool(start),
            stop_strings=["</tool_call>"],
            max_new_tokens=128,
            do_sample=False,
        )
        call = parse_call(start + reply.text)
        if call is None:
            return start + reply.text
        result = execute(*call)
        print(f"{call[0]}({json.dumps(call[1])}) → {result}")
        messages += [call_message(*call), {"role": "tool", "content": result}]
        start = ""
    return "The model kept calling functions instead of answering."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("question", nargs="?", default="What is the weather in Lima?")
    parser.add_argument("--call", choices=TOOLS, help="make the model call this function first")
    parser.add_argument("--model", default="smollm2", help="a name, or the path of a GGUF file")
    args = parser.parse_args()
    with LocalModel.from_pretrained(args.model) as model:
        print(ask(model, args.question, args.call))


if __name__ == "__main__":
    main()
