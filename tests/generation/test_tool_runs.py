"""run_tools() calls functions until there is an answer, and keeps everything that happened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from localgen.generation.tool_runs import ToolRun, as_text, called
from localgen.text.chat_template import ChatTemplate
from localgen.text.replies.formats import find_format
from localgen.text.replies.messages import round_messages
from localgen.text.replies.parser import parse_reply
from localgen.text.replies.results import ToolCall
from tests.fakes import FakeModel
from tests.generation.replying import TEMPLATE, replying_model
from tests.text.templates.cases import SPECIAL_TOKENS

ASK = [{"role": "user", "content": "Lima?"}]
TEMPLATES = Path(__file__).parents[1] / "text" / "templates"


def weather(city: str, days: int = 1) -> dict[str, Any]:
    """Forecast the weather.

    Args:
        city: The city.
        days: How many days.
    """
    if city == "Atlantis":
        raise LookupError("no such city")
    return {"city": city, "sky": ["clear"] * days}


def now() -> str:
    """Tell the time."""
    return "noon"


def call(name: str, arguments: Any) -> str:
    text = json.dumps({"name": name, "arguments": arguments})
    return f"<tool_call>{text}</tool_call>"


def run(model: FakeModel, **options: Any) -> ToolRun:
    given: dict[str, Any] = {"tools": [weather, now], "max_new_tokens": 200, **options}
    return model.run_tools(ASK, **given)


def test_calls_are_executed_and_their_results_seen() -> None:
    model = replying_model(
        "I look." + call("weather", {"city": "Lima"}) + call("now", {}), "Clear."
    )
    done = run(model)
    assert (done.text, done.is_finished) == ("Clear.", True)
    assert [each.value for each in done.results] == [{"city": "Lima", "sky": ["clear"]}, "noon"]
    ids = [each.call.id for each in done.results]
    assert len(set(ids)) == 2
    assert done.messages[0] == ASK[0]
    assert done.messages[1] == done.completions[0].message
    assert done.messages[2:] == [
        {
            "role": "tool",
            "name": "weather",
            "tool_call_id": ids[0],
            "content": '{"city": "Lima", "sky": ["clear"]}',
        },
        {"role": "tool", "name": "now", "tool_call_id": ids[1], "content": "noon"},
        {"role": "assistant", "content": "Clear."},
    ]
    assert ASK == [{"role": "user", "content": "Lima?"}], "the given messages stay as they are"


def test_an_answer_without_calls_is_one_round() -> None:
    done = run(replying_model("Hi."))
    assert (done.text, done.results, len(done.completions)) == ("Hi.", (), 1)


@pytest.mark.parametrize(
    ("reply", "told", "error"),
    [
        (call("weather", {"city": "Atlantis"}), "LookupError: no such city", LookupError),
        (call("whether", {}), "no tool named 'whether'. The tools are: weather, now", LookupError),
        (call("weather", {"town": "Lima"}), "TypeError: missing a required argument", TypeError),
        (call("weather", [1]), "not executed: the arguments are not a JSON object", ValueError),
        ('<tool_call>{"name": "now", "arguments": {x}}</tool_call>', "{x}", ValueError),
        (
            "<tool_call>now</tool_call>",
            "not executed: the call is not JSON. It was: now",
            ValueError,
        ),
    ],
)
def test_what_goes_wrong_is_told_and_kept(reply: str, told: str, error: type[Exception]) -> None:
    done = run(replying_model(reply, "Sorry."))
    (result,) = done.results
    assert told in result.text
    assert isinstance(result.error, error)
    assert result.value is None
    assert done.messages[2]["content"] == result.text
    assert (done.text, done.is_finished) == ("Sorry.", True)


def test_a_call_that_is_cut_off_is_not_executed() -> None:
    done = run(replying_model(call("now", {}), "?"), max_new_tokens=20, max_rounds=1)
    assert done.completion.finish_reason == "length"
    assert "cut off" in done.results[0].text
    assert not done.is_finished


def test_the_last_round_may_not_be_the_answer() -> None:
    """Its calls are executed, so that the conversation can go on."""
    replies = [call("now", {}), call("now", {}), "Noon."]
    model = replying_model(*replies)
    done = run(model, max_rounds=2)
    assert not done.is_finished
    assert len(done.results) == 2
    assert model.run_tools(done.messages, tools=[now], max_new_tokens=200).text == "Noon."


def test_ctrl_c_in_a_tool_keeps_what_was_done() -> None:
    def stop() -> str:
        """Stop."""
        raise KeyboardInterrupt

    model = replying_model(call("now", {}) + call("stop", {}))
    with pytest.raises(KeyboardInterrupt) as caught:
        run(model, tools=[now, stop])
    done = caught.value.tool_run  # type: ignore[attr-defined]
    assert [each.value for each in done.results] == ["noon"]
    assert [each["role"] for each in done.messages] == ["user", "assistant", "tool"]


async def later() -> str:
    """Tell the time later."""
    return ""


def named_now() -> Any:
    def now() -> str:
        """Tell another time."""
        return ""

    return now


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"tools": [now, named_now()]}, ValueError, "two tools are named 'now'"),
        ({"tools": []}, ValueError, "at least one tool"),
        ({"tools": [{"type": "function"}]}, TypeError, "a Python function, got the schema"),
        ({"tools": [print]}, TypeError, "must be a Python function"),
        ({"tools": [later]}, TypeError, "cannot await later"),
        ({"tools": "now"}, TypeError, "list of Python functions"),
        ({"max_rounds": 0}, ValueError, "max_rounds"),
        ({"num_return_sequences": 2}, ValueError, "follows one reply"),
        ({"continue_final_message": True}, ValueError, "cannot continue"),
        ({"reply_format": "none"}, ValueError, "shows no format of tool calls"),
        ({"reply_format": "think"}, ValueError, "shows no format of tool calls"),
        ({"reply_format": "x"}, ValueError, "must be one of"),
        ({"chat_template": "{{ messages }}|"}, ValueError, "shows no format of tool calls"),
    ],
)
def test_bad_input_is_an_error_before_anything_runs(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    model = replying_model("Hi.")
    with pytest.raises(error, match=words):
        run(model, **options)
    assert not model.backend.count("decode")


def test_a_template_that_renders_no_calls_gets_them_as_text() -> None:
    """Granite 3's, for one, renders the content of a message alone."""
    template = TEMPLATE.replace("tool_calls", "")
    done = run(replying_model("I look." + call("now", {}), "Noon.", template=template))
    assert done.messages[1] == {
        "role": "assistant",
        "content": 'I look.\n<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>',
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.stem for path in TEMPLATES.glob("*.jinja")))
def test_each_template_renders_two_calls_and_their_results(name: str) -> None:
    """A round as ``run_tools`` writes it, in the order in which it happened."""
    source = (TEMPLATES / f"{name}.jinja").read_text("utf-8")
    form = find_format(source)
    assert form is not None
    if form.body == "none":
        return
    raw = '{"name": "weather", "arguments": {"city": "Lima"}}'
    calls = [
        ToolCall(id=f"abcdefgh{number}", name="weather", arguments={"city": "Lima"}, raw=raw)
        for number in range(2)
    ]
    results = [(calls[0], '"FIRST"'), (calls[1], '"SECOND"')]
    messages = [*ASK, *round_messages("", "I think.", results, form, source)]
    text = ChatTemplate(source).render(
        messages, add_generation_prompt=True, special_tokens=SPECIAL_TOKENS
    )
    assert text.index("FIRST") < text.index("SECOND")
    assert text.count("Lima") >= 3  # the question, and both calls


def test_calls_as_text_are_read_back() -> None:
    source = (TEMPLATES / "ibm-granite-granite-3.3-2B-Instruct.jinja").read_text("utf-8")
    form = find_format(source)
    assert form is not None
    raw = '{"name": "now", "arguments": {}}'
    one = ToolCall(id="1", name="now", arguments={}, raw=raw)
    (message, *_) = round_messages("", None, [(one, ""), (one, "")], form, source)
    found = parse_reply(message["content"], form).tool_calls
    assert [each.raw for each in found] == [raw, raw]


def test_values_as_the_model_sees_them() -> None:
    assert as_text("ü") == "ü"
    assert as_text({"ü": None}) == '{"ü": null}'
    assert as_text(None) == "null"
    assert as_text({1, 2}) == "{1, 2}"
    assert as_text("\udcff") == "\\udcff"


def test_a_call_without_a_function_of_its_name() -> None:
    one = ToolCall(id="1", name="x", arguments={}, raw="")
    assert isinstance(called(one, {}).error, LookupError)
