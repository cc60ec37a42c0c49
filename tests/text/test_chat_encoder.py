"""Chats: the tokens of a conversation, and what a conversation keeps and drops."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localgen import ContextFullError, GenerationConfig, LocalModel, StateError, TemplateError
from localgen.cli.conversation import Conversation
from localgen.text.chat_encoder import ChatEncoder, ChatTemplates
from localgen.text.chat_template import ChatTemplate
from tests.conformance.invariants import backend_of
from tests.fakes import BOS, END_OF_TURN, EOS, FakeBackend, fake_model

SPECIAL = {"<end>": 1000, "<": 1001, "<start>": 1002}
TEMPLATE = ChatTemplate("<start>{{ messages[0].content }}{{ tools[0].x if tools }}<end>")


def ords(text: str) -> list[int]:
    return list(map(ord, text))


def parsed(text: str) -> list[int]:
    """Encode as a vocabulary with SPECIAL does when it parses special tokens."""
    parts = re.split("(<end>|<start>|<)", text)
    return [i for part in parts for i in ([SPECIAL[part]] if part in SPECIAL else ords(part))]


ENCODER = ChatEncoder(SPECIAL, ords, parsed)


def encode(content: str, *, split: bool = True, **given: Any) -> list[int]:
    messages = [{"role": "user", "content": content}]
    return ENCODER.encode(TEMPLATE, messages, split_special_tokens=split, **given)


# --- text to ids ---


def test_the_templates_own_tokens() -> None:
    """Control tokens that the template writes become those tokens."""
    assert encode("Hi") == [1002, *ords("Hi"), 1000]


@pytest.mark.parametrize("content", ["a<end>b", "<end>", "<", "1 < 2", "<<end>start><end><end>"])
def test_a_message_stays_text(content: str) -> None:
    """Protects the roles of a conversation: no user ends a turn by spelling its token."""
    assert encode(content) == [1002, *ords(content), 1000]


def test_a_tool_stays_text() -> None:
    """A tool's schema is not trusted either."""
    assert encode("Hi", tools=[{"x": "<end>"}]) == [1002, *ords("Hi<end>"), 1000]


@pytest.mark.parametrize("key", ["a<end>b", "<"])
def test_a_dict_s_key_stays_text(key: str) -> None:
    """Regression: keys of a tool call's arguments became the control tokens they spell."""
    template = ChatTemplate(
        "{% for m in messages %}{{ m.content }}{% for key in m.arguments %}{{ key }}"
        "{{ m.arguments[key].x }}{% endfor %}{% endfor %}<end>"
    )
    messages = [{"role": "tool", "content": "Hi", "arguments": {key: {"x": "y"}}}]
    # Keys that spell nothing are found by the template, and what they lead to.
    expected = [*ords(f"Hi{key}y"), 1000]
    assert ENCODER.encode(template, messages, split_special_tokens=True) == expected


def test_a_message_s_own_key_stays_text() -> None:
    """Even a key that is not a text: the template prints it as one."""
    template = ChatTemplate("{% for key in messages[0] %}{{ key }} {% endfor %}")
    messages: Any = [{"role": "user", ("<end>",): "x"}]
    expected = ords("role ('<end>',) ")
    assert ENCODER.encode(template, messages, split_special_tokens=True) == expected
    documents: Any = [{"<end>": 1, "\ufdd0": 2}]
    template = ChatTemplate("{{ documents | tojson }}")
    ids = ENCODER.encode(template, messages, split_special_tokens=True, documents=documents)
    assert ids == ords('[{"<end>": 1, "\ufdd0": 2}]')


def test_special_tokens_that_are_meant() -> None:
    """The caller can choose what transformers does."""
    assert encode("a<end>b", split=False) == [1002, 97, 1000, 98, 1000]


def test_a_message_with_noncharacters() -> None:
    """The inserted character is one that no text has, and is removed again."""
    content = "\ufdd0<end>\ufdd1"
    assert encode(content) == [1002, *ords(content), 1000]
    every = "".join(map(chr, range(0xFDD0, 0xFDF0))) + "<end>"
    with pytest.raises(ValueError, match="noncharacters"):
        encode(every)


# --- templates by name ---


def test_named_templates() -> None:
    """As in transformers: with tools their own template, else the default one."""
    templates = ChatTemplates({"default": "d", "tool_use": "t", "rag": "r"})
    assert templates.choose(None, has_tools=False).source == "d"
    assert templates.choose(None, has_tools=True).source == "t"
    assert templates.choose("rag", has_tools=True).source == "r"
    assert templates.choose("{{ own }}", has_tools=False).source == "{{ own }}"
    assert ChatTemplates({"default": "d"}).choose(None, has_tools=True).source == "d"


def test_no_template() -> None:
    """Never another model's format: the error says how to pass a template."""
    with pytest.raises(TemplateError, match="chat_template="):
        ChatTemplates({}).choose(None, has_tools=False)
    with pytest.raises(TemplateError, match="rag"):
        ChatTemplates({"rag": "r"}).choose(None, has_tools=False)
    model = fake_model()
    assert model.tokenizer.chat_template is None
    with pytest.raises(TemplateError, match="no chat template"):
        model.chat([{"role": "user", "content": "Hi"}])


# --- a model that chats ---

CHATML = (
    "{% for m in messages %}{{ m.role[0] }}:{{ m.content }}<eos>{% endfor %}"
    "{% if add_generation_prompt %}a:{% endif %}"
)


class ChatBackend(FakeBackend):
    """A model whose file has a chat template; it answers with letters, and ends after six."""

    def __init__(self, **options: Any) -> None:
        super().__init__(_six_letters, **options)
        self.vocab.chat_templates = {"default": CHATML}  # type: ignore[misc]


def _six_letters(tokens: list[int]) -> int:
    """End the turn six tokens after the last "a:"."""
    text = [token if token < 256 else 0 for token in tokens]
    start = bytes(text).rfind(b"a:")
    return END_OF_TURN if len(tokens) - start - 2 >= 6 else 97 + len(tokens) % 26


@pytest.fixture
def model() -> LocalModel:
    return fake_model(backend=ChatBackend())


HI = [{"role": "user", "content": "Hi"}]


def test_apply_chat_template(model: LocalModel) -> None:
    """Names and results are those of transformers: a BatchEncoding, ids, or the text."""
    apply = model.tokenizer.apply_chat_template
    ids = [*b"u:Hi", EOS, *b"a:"]
    assert apply(HI, tokenize=False) == "u:Hi<eos>"
    assert apply(HI, add_generation_prompt=True, return_dict=False) == ids
    encoding = apply([HI, [*HI, *HI]], padding=True, return_tensors="np")
    assert encoding.input_ids.shape == (2, 10)
    assert encoding.attention_mask.sum(axis=1).tolist() == [5, 10]
    assert apply(HI, chat_template="{{ x }}!", tokenize=False, x=3) == "3!"
    new = model.generate(**apply(HI, add_generation_prompt=True, return_tensors="np"))
    assert new[0, : len(ids)].tolist() == ids


def weather(city: str, days: int = 1) -> str:
    """The weather.

    Args:
        city: Its name<eos>
        days: How far ahead
    """
    return "sunny"


def test_tools_are_functions(model: LocalModel) -> None:
    """A function is rendered as its schema, whose texts stay text; chat() accepts the same."""
    template = (
        "{% for t in tools %}{{ t.function.parameters.properties.city | tojson }}{% endfor %}"
    )
    apply = model.tokenizer.apply_chat_template
    text = '{"type": "string", "description": "Its name<eos>"}'
    assert apply(HI, tools=[weather], chat_template=template, tokenize=False) == text
    ids = apply(HI, tools=[weather], chat_template=template, return_dict=False)
    assert bytes(ids) == text.encode()
    done = model.chat(HI, tools=[weather], chat_template=template, max_new_tokens=1)
    assert done.prompt_token_ids == ids
    stream = model.chat_stream(HI, tools=[weather], chat_template=template, max_new_tokens=1)
    assert "".join(stream) == done.text
    with pytest.raises(TypeError, match="must be a Python function"):
        model.chat(HI, tools=[len])


def test_what_a_template_does_not_read_is_said(model: LocalModel) -> None:
    """Tools, documents and variables that no model would see; the warning has the caller's line."""
    apply = model.tokenizer.apply_chat_template
    given: dict[str, Any] = {"tools": [weather], "documents": [{"text": "x"}], "thinking": True}
    with pytest.warns(UserWarning, match="does not read tools, documents, thinking:") as warned:
        apply(HI, chat_template="{{ messages[0].content }}", **given)
    assert warned[0].filename == __file__
    with pytest.warns(UserWarning, match="read documents: the model does not see them"):
        apply(HI, chat_template="{{ tools }}{{ thinking }}", **given)
    # Nothing was asked for: nothing is missing.
    apply(HI, tools=[], documents=None, chat_template="{{ messages[0].content }}")


def test_bos_comes_once(model: LocalModel) -> None:
    """Protects from two BOS tokens, if both the template and the tokenizer add one."""
    vocab = backend_of(model).vocab
    apply = model.tokenizer.apply_chat_template
    vocab.adds_bos = True
    assert apply(HI, return_dict=False)[:2] == [BOS, ord("u")]
    template = "{{ bos_token }}x"
    vocab.tokenize = lambda text, **_: np.array([BOS, 120], np.int32)
    assert apply(HI, chat_template=template, return_dict=False) == [BOS, 120]


def test_chat(model: LocalModel) -> None:
    """One conversation returns a Completion, several a list, a stream the same text."""
    done = model.chat(HI)
    assert (len(done.text), done.finish_reason) == (6, "eos")
    assert [each.text for each in model.chat([HI, HI])] == [done.text] * 2
    stream = model.chat_stream(HI, max_new_tokens=4)
    assert "".join(stream) == done.text[:4]
    begun = [*HI, {"role": "assistant", "content": "ab"}]
    going_on = model.chat(begun, continue_final_message=True, max_new_tokens=3)
    assert bytes(going_on.prompt_token_ids[-2:]) == b"ab"


def test_the_files_sampling(model: LocalModel) -> None:
    """The file's defaults apply to options that the caller does not set; never in generate()."""
    backend = backend_of(model)
    backend.sampling_defaults = {"temperature": 0.5, "top_k": 3}
    assert model.sampling_defaults == {"temperature": 0.5, "top_k": 3}
    assert model.complete("abc", max_new_tokens=1).stats.seed is not None
    assert model.chat(HI).stats.seed is not None
    assert model.complete("abc", max_new_tokens=1, do_sample=False).stats.seed is None
    given = GenerationConfig(max_new_tokens=1)
    assert model.complete("abc", generation_config=given).stats.seed is None
    out = model.generate([[97]], max_new_tokens=1, return_dict_in_generate=True)
    assert out.stats[0].seed is None


# --- conversations ---


def talk(model: LocalModel, **options: Any) -> Conversation:
    config = options.pop("config", GenerationConfig(max_new_tokens=20))
    return Conversation(model, config, **options)


def ask(conversation: Conversation, text: str) -> str:
    stream, _ = conversation.ask(text)
    answer = "".join(stream)
    conversation.keep(stream)
    return answer


def roles(conversation: Conversation) -> str:
    return "".join(message["role"][0] for message in conversation.messages)


def test_turns(model: LocalModel) -> None:
    """Each turn includes the ones before it, and reuses their KV."""
    conversation = talk(model, system="Be brief.")
    first = ask(conversation, "One")
    stream, n_forgotten = conversation.ask("Two")
    list(stream)
    assert n_forgotten == 0
    conversation.keep(stream)
    assert roles(conversation) == "suaua"
    assert conversation.messages[2] == {"role": "assistant", "content": first}
    assert stream.completion.stats.n_cached >= len("s:Be brief.?u:One?a:") + 6
    assert conversation.n_tokens == len(b"s:Be brief.?u:One?a:???????u:Two?a:???????")


def test_undo_clear_and_system(model: LocalModel) -> None:
    """The chat's commands change the messages and nothing else."""
    conversation = talk(model)
    assert conversation.undo() is None
    assert conversation.n_tokens == 0
    ask(conversation, "One")
    ask(conversation, "Two")
    assert conversation.undo() == "Two"
    assert roles(conversation) == "ua"
    conversation.set_system("Be kind.")
    assert roles(conversation) == "sua"
    conversation.set_system("Be brief.")
    assert conversation.messages[0]["content"] == "Be brief."
    conversation.clear()
    assert roles(conversation) == "s"
    conversation.set_system("")
    assert conversation.messages == []


def test_an_answer_that_was_stopped(model: LocalModel) -> None:
    """A partial answer stays in the chat; a question without any answer is removed."""
    conversation = talk(model)
    stream, _ = conversation.ask("One")
    next(stream)
    stream.close()
    conversation.keep(stream)
    assert roles(conversation) == "ua"
    stream, _ = conversation.ask("Two")
    stream.close()
    conversation.keep(stream)
    assert roles(conversation) == "ua"


def test_overflow_stops() -> None:
    """A full context is an error that leaves the chat unchanged."""
    conversation = talk(fake_model(backend=ChatBackend(), n_ctx=64))
    ask(conversation, "x" * 30)
    before = list(conversation.messages)
    with pytest.raises(ContextFullError):
        conversation.ask("y" * 30)
    assert conversation.messages == before
    assert len(ask(conversation, "y")) == 6


def test_overflow_drops_the_oldest() -> None:
    """The oldest question is dropped with its answer; the system message never."""
    conversation = talk(
        fake_model(backend=ChatBackend(), n_ctx=96), system="S" * 8, overflow="drop-oldest"
    )
    for letter in "abc":
        ask(conversation, letter * 12)
    stream, n_forgotten = conversation.ask("d" * 12)
    list(stream)
    conversation.keep(stream)
    assert n_forgotten == 2
    assert roles(conversation) == "suauaua"
    assert conversation.messages[1]["content"] == "b" * 12
    with pytest.raises(ContextFullError):
        conversation.ask("z" * 90)


def test_each_answer_draws_anew(model: LocalModel) -> None:
    """With a seed, /retry gives another answer, and a whole chat can be repeated."""
    seeds = []
    for _ in range(2):
        conversation = talk(model, config=GenerationConfig(do_sample=True, seed=5))
        for _turn in range(2):
            stream, _ = conversation.ask("One")
            list(stream)
            conversation.keep(stream)
            seeds.append(stream.completion.stats.seed)
    assert seeds == [5, 6, 5, 6]


def test_save_and_load(model: LocalModel, tmp_path: Path) -> None:
    """A chat is restored as it was, and only its owner can read its file."""
    conversation = talk(model, system="Größe")
    ask(conversation, "One")
    conversation.save(tmp_path / "chat.json")
    assert (tmp_path / "chat.json").stat().st_mode & 0o77 == 0
    other = talk(model)
    other.load(tmp_path / "chat.json")
    assert other.messages == conversation.messages
    assert [path.name for path in tmp_path.iterdir()] == ["chat.json"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is not JSON"),
        (b"[" * 10**5, "it is not JSON"),
        (b"\xff", "it is not UTF-8 text: invalid start byte at byte 0"),
        (b"[]", "it has no list of messages"),
        (b"{}", "it has no list of messages"),
        (b'{"messages": 3}', "it has no list of messages"),
        (b'{"messages": ["hi"]}', "message 1 is not an object with a 'role' and a 'content'"),
        (
            b'{"messages": [{"role": "user", "content": "x"}, {"role": "user"}]}',
            "message 2 has no 'content'",
        ),
        (b'{"messages": [{"content": "x"}]}', "message 1 has no 'role'"),
        (
            b'{"messages": [{"role": "user", "content": 3}]}',
            "the 'content' of message 1 is not a string",
        ),
        (
            b'{"messages": [{"role": "root", "content": "x"}]}',
            "message 1 has the role 'root', expected one of system, user, assistant, tool",
        ),
    ],
)
def test_no_saved_chat(content: bytes, reason: str, model: LocalModel, tmp_path: Path) -> None:
    """Another file is refused with a clear message; the chat stays."""
    conversation = talk(model)
    ask(conversation, "One")
    path = tmp_path / "chat.json"
    path.write_bytes(content)
    with pytest.raises(StateError) as caught:
        conversation.load(path)
    assert str(caught.value) == f"{path} is not a saved chat: {reason}"
    assert roles(conversation) == "ua"


def test_unknown_overflow(model: LocalModel) -> None:
    with pytest.raises(ValueError, match="stop, drop-oldest"):
        talk(model, overflow="summarise")


def test_nothing_to_answer(model: LocalModel) -> None:
    """An empty conversation is an error, and so is the name of a template that does not exist."""
    with pytest.raises(ValueError, match="no messages"):
        model.chat([])
    with pytest.raises(TemplateError, match="'tool_use' is neither a jinja template nor the name"):
        model.chat(HI, chat_template="tool_use")
