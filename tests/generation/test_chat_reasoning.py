"""chat(reasoning=…): what the template is told, where the reasoning ends, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from localgen import LocalModel
from localgen.generation.inputs import ChatPrompt
from localgen.generation.thought_matcher import ThoughtMatcher
from localgen.text.replies.results import ReplyBuilder
from tests.fakes import FakeModel
from tests.generation.replying import ids_of, replying_model

SWITCH = (
    "{{ messages | tojson }}{{ tools | tojson if tools }}"
    "{{ enable_thinking if messages[0].role != 'system' }}"
    "{#- <tool_call> <think> #}"
    "{{ messages | selectattr('role', 'equalto', 'assistant') | list | length }}|"
)
ALWAYS = SWITCH.replace("enable_thinking", "''")
REPLY = "<think>\nHm.\n</think>\n\nYes."
ASK = [{"role": "user", "content": "Lima?"}]
ALL: dict[str, Any] = {"max_new_tokens": 200}


def model(reply: str = REPLY, template: str = SWITCH) -> FakeModel:
    return replying_model(reply, template=template)


def endless_thinker() -> FakeModel:
    """A model that thinks in numbers, after a prompt that opens the reasoning."""
    fake = model(
        template="{{ messages[-1].content }}{{ tools }}{#- <tool_call> #}{{ '<think>\n' }}"
    )
    numbers = "".join(f"{number}," for number in range(123, 200)).encode()
    fake.backend.script = lambda ids: numbers[(len(ids) - ids.index(ord("\n")) - 1) % len(numbers)]
    return fake


@pytest.mark.parametrize(("value", "told"), [("off", "False"), ("on", "True"), (50, "True")])
def test_the_template_is_told(value: Any, told: str) -> None:
    done = model().chat(ASK, reasoning=value, **ALL)
    assert bytes(done.prompt_token_ids).endswith(f"{told}0|".encode())
    assert (done.text, done.reasoning, done.stats.n_forced) == ("Yes.", "Hm.", 0)


def test_by_default_the_template_decides() -> None:
    assert bytes(model().chat(ASK, **ALL).prompt_token_ids).endswith(b"]0|")


def test_a_limit_ends_the_reasoning() -> None:
    fake = endless_thinker()
    done = fake.chat(ASK, reasoning=4, max_new_tokens=30)
    assert bytes(done.token_ids) == b"123,\n</think>26,127,128,129,13"
    assert (done.reasoning, done.stats.n_forced) == ("123,", len("\n</think>"))
    assert done.text == "26,127,128,129,13"
    stream = fake.chat_stream(ASK, reasoning=4, max_new_tokens=30)
    built = ReplyBuilder()
    built.add(stream.deltas())
    assert (built.reply.reasoning, built.reply.text) == (done.reasoning, done.text)
    assert stream.completion.token_ids == done.token_ids


WAYS: list[dict[str, Any]] = [
    {"num_beams": 2},
    {"prompt_lookup_num_tokens": 3},
    {"prompt_lookup_num_tokens": 3, "logprobs": 1},
    {"logprobs": 1, "num_return_sequences": 2, "top_k": 1},
    {"temperature": 1.5, "seed": 1},
    {"repetition_penalty": 1.2},
    {"logits_processor": lambda _ids, scores: scores},
]


@pytest.mark.parametrize("options", WAYS, ids="-".join)
@pytest.mark.parametrize("limit", [0, 1, 9])
def test_a_limit_beside_other_options(options: dict[str, Any], limit: int) -> None:
    done = endless_thinker().chat([ASK], reasoning=limit, max_new_tokens=40, **options)
    for each in done:
        data = bytes(token for token in each.token_ids if token < 256)
        assert data.index(b"</think>") <= limit + len("\n")
        assert len(each.reasoning or "") <= limit
        assert not each.logprobs or len(each.logprobs) == len(each.token_ids)


def test_a_limit_that_is_not_reached_masks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ThoughtMatcher, "mask", None)
    done = model().chat(ASK, reasoning=50, temperature=0.001, seed=1, **ALL)
    assert (done.reasoning, done.text, done.stats.n_forced) == ("Hm.", "Yes.", 0)


def test_a_call_that_must_come_after_limited_reasoning() -> None:
    def now() -> str:
        """Tell the time."""
        return "noon"

    options: dict[str, Any] = {"tool_choice": "now", "parallel_tool_calls": False}
    done = endless_thinker().chat(ASK, tools=[now], reasoning=7, **options, **ALL)
    assert len(done.reasoning or "") == 7
    assert [(each.name, each.arguments) for each in done.tool_calls] == [("now", {})]
    done = endless_thinker().chat(
        ASK, tools=[now], tool_choice="auto", reasoning=7, max_new_tokens=40
    )
    assert len(done.reasoning or "") == 7
    assert done.text.startswith("127,")


def test_a_call_inside_limited_reasoning_is_finished_first() -> None:
    call = '<tool_call>\n{"name": "weather", "arguments": {}}\n</tool_call>'
    weather = {"type": "function", "function": {"name": "weather", "parameters": {}}}
    done = model(f"<think>Hm.{call}So</think>Yes.").chat(ASK, tools=[weather], reasoning=6, **ALL)
    assert [(each.name, each.error) for each in done.tool_calls] == [("weather", None)]
    assert done.reasoning == "Hm.\nS"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"reasoning": "no"}, "reasoning must be"),
        ({"reasoning": "low"}, "needs a chat template that reads reasoning_effort"),
        ({"reasoning": 5, "reply_format": "none"}, "shows no reasoning"),
        ({"reasoning": "off", "template_variables": {"enable_thinking": True}}, "leave one out"),
        ({"reasoning": 5, "eos_token_id": [ord("<")]}, "is in eos_token_id"),
        ({"reasoning": "on", "regex": "a", "eos_token_id": [ord("<")]}, "regex needs the end mark"),
    ],
)
def test_bad_input_is_an_error_before_anything_runs(options: dict[str, Any], words: str) -> None:
    fake = model()
    chats: tuple[Any, ...] = (fake.chat, fake.chat_stream)
    for chat in chats:
        with pytest.raises(ValueError, match=words):
            chat(ASK, **options)
    assert not fake.backend.count("decode")


def test_a_choice_that_makes_no_difference_is_an_error() -> None:
    with pytest.raises(ValueError, match="ignores enable_thinking here"):
        model().chat([{"role": "system", "content": "a"}, *ASK], reasoning="off")


def test_a_template_that_always_reasons() -> None:
    assert model(template=ALWAYS).chat(ASK, reasoning="on", **ALL).reasoning == "Hm."
    with pytest.raises(ValueError, match="reasoning=0 ends it as soon as it begins"):
        model(template=ALWAYS).chat(ASK, reasoning="off")
    assert model(template=ALWAYS).chat(ASK, reasoning=0, **ALL).reasoning is None


def test_a_message_that_is_continued() -> None:
    messages = [*ASK, {"role": "assistant", "content": "<think>"}]
    with pytest.raises(ValueError, match="message that is continued"):
        model().chat(messages, continue_final_message=True, reasoning=3)


def test_a_constraint_without_reasoning() -> None:
    without: dict[str, Any] = {"reasoning": "off"}
    for options in without, {}:
        done = model("Yes").chat(ASK, choices=["Yes", "No"], **options, **ALL)
        assert (done.text, done.reasoning, done.parsed) == ("Yes", None, "Yes")


CONSTRAINED: list[dict[str, Any]] = [{}, *WAYS[:4], {"num_beams": 3, "num_return_sequences": 2}]


@pytest.mark.parametrize("options", CONSTRAINED, ids="-".join)
@pytest.mark.parametrize("reasoning", [None, 2])
def test_a_constraint_is_for_the_answer_after_the_reasoning(
    options: dict[str, Any], reasoning: int | None
) -> None:
    """Protects thoughts that the prompt opens from being forced into the form of the answer."""
    fake = model(REPLY[:-1], template=SWITCH + "<think>\n")
    more: dict[str, Any] = {"reasoning": reasoning, "choices": ["Yes", "No"], **ALL}
    for done in fake.chat([ASK], **more, **options):
        assert done.reasoning is not None
        assert done.text in ("Yes", "No")
        assert (done.is_valid, done.parsed) == (True, done.text)


def test_reasoning_that_was_asked_for_comes_before_a_constrained_answer() -> None:
    fake = model("<think>\nHm.\n</think>\n\nYes")
    done = fake.chat(ASK, reasoning="on", choices=["Yes", "No"], **ALL)
    assert (done.text, done.reasoning, done.parsed) == ("Yes", "Hm.", "Yes")
    stream = fake.chat_stream(ASK, reasoning="on", choices=["Yes", "No"], **ALL)
    built = ReplyBuilder()
    built.add(stream.deltas())
    assert (built.reply.text, built.reply.reasoning) == ("Yes", "Hm.")
    assert stream.completion.parsed == "Yes"


def test_reasoning_that_does_not_end_has_no_answer() -> None:
    done = endless_thinker().chat(ASK, choices=["Yes", "No"], max_new_tokens=20)
    assert (done.text, done.finish_reason, done.is_valid, done.parsed) == (
        "",
        "length",
        False,
        None,
    )
    assert done.reasoning == "123,124,125,126,127,"


def test_each_message_of_a_format_with_channels_has_a_header() -> None:
    """gpt-oss does not know what JSON without a channel is."""
    reply = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>"
    fake = model(template=ALWAYS)
    n_prompt = len(fake.chat_prompt(ASK, reply_format="harmony").token_ids)
    fake.backend.script = lambda ids: ids_of(reply + "Yes")[len(ids) - n_prompt]
    done = fake.chat(ASK, reply_format="harmony", choices=["Yes", "No"], **ALL)
    assert (done.reasoning, done.text, done.parsed) == ("Hm.", "Yes", "Yes")
    messages = [*ASK, {"role": "assistant", "content": "I say: "}]
    prompt = fake.chat_prompt(messages, continue_final_message=True, reply_format="harmony")
    assert prompt.reply is not None
    assert prompt.reply.constrained() is None


def test_an_answer_that_looks_like_a_call_is_the_answer() -> None:
    call = '{"name": "now", "parameters": {}}'
    now = {"type": "function", "function": {"name": "now", "parameters": {}}}
    options: dict[str, Any] = {"reply_format": "llama3", "tools": [now], "reasoning": "on"}
    fake = model(f"<think>I could write {call}.</think>{call}")
    done = fake.chat(ASK, json_object=True, **options, **ALL)
    assert (done.text, done.tool_calls, done.parsed["name"]) == (call, (), "now")
    assert done.reasoning == f"I could write {call}."


def test_the_model_of_a_format_that_its_template_does_not_show() -> None:
    fake = model(template=SWITCH.replace("<tool_call> <think>", ""))
    with pytest.raises(ValueError, match="name the model's own format with reply_format="):
        fake.chat(ASK, reasoning=9)
    assert fake.chat(ASK, reasoning=9, reply_format="think", **ALL).reasoning == "Hm."


TEMPLATES = Path(__file__).parents[1] / "text" / "templates"
SWITCHES = (
    "Apertus",
    "Bielik",
    "ByteDance",
    "GLM",
    "HuggingFaceTB",
    "Qwen3.5",
    "deepseek",
    "ibm-granite-granite-3",
)
PUBLISHED = sorted(TEMPLATES.glob("*.jinja"))


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_templates_of_published_models(path: Path) -> None:
    """Off is another prompt than on, and a limit begins where the prompt is."""
    fake = model(template=path.read_text("utf-8"))

    def prompt(value: Any) -> ChatPrompt:
        return fake.chat_prompt(ASK, reasoning=value)

    if path.stem.startswith(SWITCHES):
        assert prompt("off").token_ids != prompt("on").token_ids
        assert prompt(None).token_ids in (prompt("off").token_ids, prompt("on").token_ids)
    elif path.stem.startswith("openai"):
        assert prompt("on").token_ids == prompt("medium").token_ids == prompt(None).token_ids
        assert prompt("low").token_ids != prompt("high").token_ids
    else:
        for value in ("off", "on", "low", 9):
            with pytest.raises(ValueError, match="reasoning"):
                prompt(value)
        return
    limited = prompt(9).reply
    assert limited is not None
    assert limited.max_reasoning_tokens == 9
    assert limited.is_to_reason


@pytest.mark.slow
def test_the_mark_is_spelled_as_the_tokenizer_would_spell_it_there(tiny_spm_path: Path) -> None:
    """Protects against the space that such a vocabulary puts before a text."""
    template = "{{ messages[-1].content }}{#- <think> #}{{ '<think>\n' }}"
    with LocalModel.from_pretrained(tiny_spm_path, n_ctx=64, n_threads=1) as spm:
        done = spm.chat(ASK, chat_template=template, reasoning=8, seed=1, max_new_tokens=20)
        tokenizer = spm.tokenizer
        ending = tokenizer.encode_after(done.token_ids[7], "\n</think>")
        # A random model writes bytes, so a character may take some tokens more.
        assert ending in [done.token_ids[n : n + len(ending)] for n in range(8, 12)]
        assert b"".join(map(tokenizer.token_bytes, ending)) == b"\n</think>"
        assert done.stats.n_forced == len(ending)
