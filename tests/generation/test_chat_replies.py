"""chat() and chat_stream() take replies apart, with marks that are special tokens."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import pytest

from localgen import Completion
from localgen.text.replies.results import ReplyBuilder, ReplyDelta
from tests.fakes import EOS, FakeModel, engine_of
from tests.generation.replying import TEMPLATE, replying_model

CALL = '<tool_call>{"name": "weather", "arguments": {"city": "Lima"}}</tool_call>'
REPLY = f"<think>Hm.</think>\n\nI look.\n{CALL}"
ASK = [{"role": "user", "content": "Lima?"}]


def chat(model: FakeModel, messages: Any = ASK, **options: Any) -> Completion:
    done = model.chat(messages, **{"max_new_tokens": 200, **options})
    assert isinstance(done, Completion)
    return done


def test_chat_returns_text_reasoning_and_calls() -> None:
    done = chat(replying_model(REPLY))
    assert (done.text, done.reasoning, done.finish_reason) == ("I look.", "Hm.", "eos")
    (call,) = done.tool_calls
    assert (call.name, call.arguments, call.error) == ("weather", {"city": "Lima"}, None)
    assert pickle.loads(pickle.dumps(done)) == done


def test_a_stream_agrees_with_chat_for_every_length() -> None:
    """Also where it is cut off in the middle of a mark."""
    model = replying_model(REPLY)
    for n_tokens in range(1, len(REPLY), 7):
        done = chat(model, max_new_tokens=n_tokens)
        stream = model.chat_stream(ASK, max_new_tokens=n_tokens)
        built = ReplyBuilder()
        built.add(stream.deltas())
        assert (built.reply.text, built.reply.reasoning) == (done.text, done.reasoning)
        assert built.reply.tool_calls == done.tool_calls
        assert stream.completion.tool_calls == done.tool_calls
        assert stream.completion.text == done.text
        assert "".join(model.chat_stream(ASK, max_new_tokens=n_tokens)) == done.text


def test_async_calls_return_the_same() -> None:
    model = replying_model(REPLY)

    async def answers() -> tuple[Any, Any, list[ReplyDelta]]:
        one, several = await asyncio.gather(
            model.achat(ASK, max_new_tokens=200), model.achat([ASK, ASK], max_new_tokens=200)
        )
        deltas = [each async for each in model.achat_stream(ASK, max_new_tokens=200)]
        return one, several, deltas

    done = chat(model)
    one, several, deltas = asyncio.run(answers())
    for each in (one, *several):
        assert (each.text, each.reasoning, each.tool_calls) == (
            done.text,
            done.reasoning,
            done.tool_calls,
        )
    built = ReplyBuilder()
    built.add(deltas)
    assert (built.reply.text, built.reply.tool_calls) == (done.text, done.tool_calls)


def test_leaving_an_async_stream_ends_the_generation() -> None:
    """The next call has the model to itself."""
    model = replying_model(REPLY)

    async def leave() -> ReplyDelta:
        stream = model.achat_stream(ASK, max_new_tokens=200)
        delta = await anext(stream)
        await stream.aclose()
        return delta

    assert asyncio.run(leave()).kind == "reasoning"
    chat(model)
    assert engine_of(model).idle


def test_a_prompt_of_a_chat_is_one_of_complete() -> None:
    """Beside other prompts, too: each is taken apart, or not, by itself."""
    model = replying_model(REPLY)
    prompt = model.chat_prompt(ASK)
    whole, plain = model.complete([prompt, prompt.token_ids], max_new_tokens=200)
    assert (whole.text, whole.reasoning) == ("I look.", "Hm.")
    assert plain.text == REPLY.replace("<tool_call>", "")
    think = model.chat_prompt(ASK, reply_format="think")
    for other in (prompt.token_ids, think):
        both = model.complete([other, prompt], max_new_tokens=200)
        assert both[1].tool_calls == whole.tool_calls


def test_a_closed_stream_ends() -> None:
    stream = replying_model(REPLY).chat_stream(ASK, max_new_tokens=200)
    first = next(stream.deltas())
    assert (first.kind, first.text) == ("reasoning", "H")
    stream.close()
    assert {each.kind for each in stream.deltas()} <= {"reasoning"}
    assert stream.completion.finish_reason == "cancelled"


def test_several_replies_of_several_conversations() -> None:
    other = [*ASK, {"role": "assistant", "content": "a"}, *ASK]
    model = replying_model(REPLY, "<think>Yes.</think>No.")
    done = model.chat([ASK, other], num_return_sequences=2, top_k=1, max_new_tokens=200)
    assert [each.text for each in done] == ["I look.", "I look.", "No.", "No."]
    assert [each.reasoning for each in done] == ["Hm.", "Hm.", "Yes.", "Yes."]
    assert done[0].tool_calls == done[1].tool_calls != ()


def test_the_prompt_opens_the_reasoning() -> None:
    reply = b"Hm.</think>Yes."
    model = replying_model(template="{{ messages[-1].content }}{#- <tool_call> #}<think>")
    n_prompt = len(b"Lima?<think>")
    model.backend.script = lambda ids: reply[len(ids) - n_prompt] if len(ids) < 27 else EOS
    done = chat(model)
    assert (done.text, done.reasoning) == ("Yes.", "Hm.")


def test_a_message_that_begins_a_call_is_continued() -> None:
    template = "{{ messages[-1].content }}{#- <tool_call> #}"
    model = replying_model(template=template)
    begun, call = CALL[:40], CALL.encode()
    model.backend.script = lambda ids: call[len(ids)] if len(ids) < len(call) else EOS
    messages = [*ASK, {"role": "assistant", "content": begun}]
    done = chat(model, messages, continue_final_message=True)
    assert done.text == ""
    assert done.tool_calls[0].arguments == {"city": "Lima"}


def test_stop_strings_end_a_reply_at_a_mark() -> None:
    done = chat(replying_model(REPLY), stop_strings=["</tool_call>"])
    assert (done.finish_reason, done.text) == ("stop", "I look.")
    assert done.tool_calls[0].arguments == {"city": "Lima"}
    done = chat(replying_model(REPLY), stop_strings=["<tool_call>"])
    assert (done.finish_reason, done.text, done.tool_calls) == ("stop", "I look.\n", ())


def test_a_reply_stays_whole_without_a_format() -> None:
    """As before: special tokens have no text."""
    whole = REPLY.replace("<tool_call>", "")
    assert chat(replying_model(REPLY), reply_format="none").text == whole
    model = replying_model(REPLY, template=TEMPLATE.replace("<tool_call>", ""))
    done = chat(model)
    assert (done.text, done.reasoning, done.tool_calls) == (whole, None, ())
    assert "".join(model.chat_stream(ASK, max_new_tokens=200)) == whole


def test_a_format_by_name() -> None:
    model = replying_model(REPLY, template=TEMPLATE.replace("<tool_call>", ""))
    assert chat(model, reply_format="hermes").text == "I look."
    with pytest.raises(ValueError, match=r"reply_format must be one of .*hermes.*got 'hermez'"):
        chat(model, reply_format="hermez")
    assert model.backend.count("decode") > 0


def test_complete_takes_nothing_apart() -> None:
    model = replying_model(REPLY)
    (done,) = model.complete([list(b"0|")], max_new_tokens=200)
    assert done.text == REPLY.replace("<tool_call>", "")
    assert done.tool_calls == ()


def test_the_message_of_a_reply_renders() -> None:
    model = replying_model(REPLY, "Sunny.")
    done = chat(model)
    result = {"role": "tool", "tool_call_id": done.tool_calls[0].id, "content": "sunny"}
    assert done.message == {
        "role": "assistant",
        "content": "I look.",
        "reasoning_content": "Hm.",
        "tool_calls": [
            {
                "id": done.tool_calls[0].id,
                "type": "function",
                "function": {"name": "weather", "arguments": {"city": "Lima"}},
            }
        ],
    }
    assert chat(model, [*ASK, done.message, result]).text == "Sunny."
    assert chat(model, [*ASK, done.message, result]).message == {
        "role": "assistant",
        "content": "Sunny.",
    }
