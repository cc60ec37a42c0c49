"""A chat in which the model can call Python functions.

Type hints and docstrings become JSON schemas in the prompt. If the model writes a call, the
function is called and the model answers with its result. If not, what it wrote is the answer.

    python examples/tool_chat.py --model smollm2 "What is the weather in Lima?" --call weather

A model of 135M parameters rarely calls a function unprompted: `--call NAME` starts the call for it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

from localgen import LocalModel

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


def forced_call(
    model: LocalModel, messages: list[dict[str, Any]], name: str, **options: Any
) -> list[dict[str, Any]]:
    """Begin a call of a function, let the model write its arguments, and call it.

    Returns the messages of the call and its result.
    """
    start = f'<tool_call>\n{{"name": "{name}", "arguments": '
    reply = model.chat(
        [*messages, {"role": "assistant", "content": start}],
        continue_final_message=True,
        stop_strings=["</tool_call>"],
        **options,
    )
    (call,) = reply.tool_calls
    try:
        result = str(TOOLS[name](**(call.arguments or {})))
    except TypeError as error:  # a model may write any arguments
        result = call.error or f"error: {error}"
    report(name, call.arguments, result)
    return [reply.message, {"role": "tool", "tool_call_id": call.id, "content": result}]


def report(name: str, arguments: dict[str, Any] | None, result: str) -> None:
    print(f"{name}({json.dumps(arguments)}) → {result}")


def ask(model: LocalModel, question: str, force: str | None = None) -> str:
    """Return the answer to a question; ``force`` names the function to call first."""
    reads_tools = "<tool_call>" in (model.tokenizer.chat_template or "")
    messages = [*MESSAGES, {"role": "user", "content": question}]
    options: dict[str, Any] = {
        "tools": list(TOOLS.values()),
        "chat_template": None if reads_tools else TEMPLATE,
        "max_new_tokens": 128,
        "do_sample": False,
    }
    if force is not None:
        messages += forced_call(model, messages, force, **options)
    run = model.run_tools(messages, max_rounds=3, **options)
    for result in run.results:
        report(result.call.name, result.call.arguments, result.text)
    return run.text if run.is_finished else "The model kept calling functions."


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
