"""Jobs on a fake model: what a line may contain, and results that survive any failure."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from localgen import (
    BackendError,
    DecodeError,
    GenerationConfig,
    JobError,
    LocalgenError,
    LocalModel,
    ModelConfig,
    ModelNotFoundError,
)
from localgen.engine.backend import Batch
from localgen.jobs import rows
from localgen.jobs.job import Job, check_not_same, open_lines
from localgen.jobs.results import Record, make_header, open_results, other_versions
from localgen.jobs.rows import row_seed
from tests.fakes import EOS, FakeBackend, FakeVocab, constrain, fake_model
from tests.generation.replying import TEMPLATE, replying_model

HOT: dict[str, Any] = {"temperature": 3.0, "max_new_tokens": 4}


@pytest.fixture(autouse=True)
def no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip fsync: no test here needs it, and it is slow."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)


@pytest.fixture
def model() -> Iterator[LocalModel]:
    with fake_model() as model:
        yield model


class Files:
    """A job's files in a folder, with methods to write them and run the job."""

    def __init__(self, folder: Path) -> None:
        self.source, self.target = folder / "in.jsonl", folder / "out.jsonl"
        self.weights = folder / "weights.gguf"
        self.weights.write_bytes(b"weights")

    def write(self, *lines: Any) -> None:
        """Write the input: objects as JSON, text as it is."""
        texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
        self.source.write_text("".join(text + "\n" for text in texts), "utf-8")

    def header(self, loading: ModelConfig | None = None, **options: Any) -> Record:
        return make_header(self.weights, loading or ModelConfig(), GenerationConfig(**options))

    def run(
        self,
        model: LocalModel,
        *,
        header: Record | None = None,
        overwrite: bool = False,
        reasoning: Any = None,
        **options: Any,
    ) -> list[Record]:
        """Run the job and return what it reported."""
        reports: list[Record] = []
        header = header or self.header(**options)
        with (
            open_lines(str(self.source)) as lines,
            open_results(str(self.target), header, overwrite=overwrite) as results,
        ):
            job = Job(lines, results, GenerationConfig(**options), reasoning=reasoning)
            job.run(model, reports.append)
        return reports

    def records(self) -> list[Record]:
        """Return the records of the output, without its header."""
        return [json.loads(line) for line in self.target.read_bytes().splitlines()][1:]

    def results(self) -> dict[Any, Record]:
        """Return each id's record, without the statistics that differ between runs."""
        records = self.records()
        assert len({record["line"] for record in records}) == len(records), "a line came twice"
        return {record["id"]: _repeatable(record) for record in records}


def _repeatable(record: Record) -> Record:
    return {**record, "stats": {"seed": record["stats"]["seed"]}} if "stats" in record else record


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


# --- what a line may contain ---


def test_any_option_of_a_call(files: Files, model: LocalModel) -> None:
    """Pairs and lists are JSON; a function has no place in a line."""
    options: list[dict[str, Any]] = [
        {"min_length": 9, "encoder_repetition_penalty": 1.5},
        {"forced_eos_token_id": [33, 34], "begin_suppress_tokens": [97]},
        {"exponential_decay_length_penalty": [1, 3.5], "encoder_no_repeat_ngram_size": 1},
        {"prefix_allowed_tokens_fn": "f"},
    ]
    files.write(*({"prompt": "a cat", "max_new_tokens": 6, **more} for more in options))
    files.run(model)
    done = files.results()
    for number, more in enumerate(options[:3], 1):
        alone = model.complete("a cat", max_new_tokens=6, **more)
        assert done[number]["token_ids"] == alone.token_ids
    assert "must be a function of (batch_id, input_ids), got 'f'" in done[4]["error"]["message"]


def test_results_are_those_of_complete(files: Files, model: LocalModel) -> None:
    """A row gives the same as complete(), whatever runs beside it."""
    files.write(
        {"prompt": "the cat", "max_new_tokens": 5},
        {"prompt_token_ids": [1, 2, 3], "logprobs": 2},
        {"id": "x", "prompt": "a dog", "stop_strings": ["e", "a"]},
    )
    files.run(model, max_new_tokens=7)
    done = files.results()
    for row_id, prompt, options in (
        (1, "the cat", {"max_new_tokens": 5}),
        (2, [1, 2, 3], {"logprobs": 2, "max_new_tokens": 7}),
        ("x", "a dog", {"stop_strings": ["e", "a"], "max_new_tokens": 7}),
    ):
        (alone,) = model.complete([prompt], **options)
        for name in ("text", "token_ids", "finish_reason", "stop_match"):
            assert done[row_id][name] == getattr(alone, name)
    assert done[1]["prompt"] == "the cat"
    assert done[2]["prompt_token_ids"] == [1, 2, 3]
    assert [len(step["top"]) for step in done[2]["logprobs"]] == [2] * 7
    assert "logprobs" not in done[1]


def test_lines_with_beams(files: Files, model: LocalModel) -> None:
    """They have a score; a line that asks for too many fails alone."""
    files.write(
        {"prompt": "the cat", "num_beams": 3, "length_penalty": 2.0, "early_stopping": "never"},
        {"prompt": "the cat", "num_beams": 100},
        {"prompt": "the cat"},
    )
    files.run(model, max_new_tokens=5)
    done = files.results()
    options: dict[str, Any] = {"num_beams": 3, "length_penalty": 2.0, "early_stopping": "never"}
    (alone,) = model.complete(["the cat"], max_new_tokens=5, **options)
    assert (done[1]["text"], done[1]["score"]) == (alone.text, pytest.approx(alone.score))
    assert "num_beams=100 must be at most max_sequences" in done[2]["error"]["message"]
    assert "score" not in done[3]


def test_lines_with_constraints(files: Files, model: LocalModel) -> None:
    """A line's own takes the place of the job's; one that two options constrain fails alone."""
    constrain(model)
    files.write(
        {"prompt": "the cat"},
        {"prompt": "the cat", "choices": ["yes", "no"]},
        {"prompt": "the cat", "choices": ["yes"], "max_new_tokens": 2},
        {"prompt": "the cat", "choices": ["yes"], "regex": "a|b"},
        {"prompt": "the cat", "regex": None},
    )
    files.run(model, max_new_tokens=5, regex="12|13")
    done = files.results()
    assert done[1]["text"] in {"12", "13"}
    assert done[2]["text"] in {"yes", "no"}
    assert (done[2]["is_valid"], done[2]["parsed"]) == (True, [done[2]["text"]])
    assert (done[3]["text"], done[3]["is_valid"], "parsed" in done[3]) == ("ye", False, False)
    assert "regex and choices cannot be used together" in done[4]["error"]["message"]
    assert "is_valid" not in done[5]


def test_what_separates_lines(files: Files, model: LocalModel) -> None:
    """Blank lines are counted and skipped; a byte-order mark and CRLF do no harm.

    Characters inside a text that look like the end of a line do not end it.
    """
    lines = ['\ufeff{"prompt": "a"}\r', "", "  \t", json.dumps({"prompt": "b\u2028c\r\n"})]
    files.source.write_bytes("\n".join(lines).encode())  # the last line has no end
    files.run(model, max_new_tokens=1)
    prompts = {record["line"]: record["prompt"] for record in files.records()}
    assert prompts == {1: "a", 4: "b\u2028c\r\n"}


def test_unicodes_ends_of_lines_are_escaped(files: Files, model: LocalModel) -> None:
    """Regression: a reader that splits lines as str.splitlines() does failed on the output."""
    text = "a\x85b\u2028c\u2029d é"
    files.write({"prompt": text, "id": text})
    files.run(model, max_new_tokens=1)
    output = files.target.read_text("utf-8")
    assert output.splitlines() == output.rstrip("\n").split("\n")
    assert "é" in output
    assert [(record["id"], record["prompt"]) for record in files.records()] == [(text, text)]


BAD_LINES = {
    "no JSON": ('{"prompt": "a"', "not JSON"),
    "no UTF-8": ("NOT UTF-8", "not UTF-8"),
    "no object": ('["a"]', "object"),
    "a number only": ("1", "object"),
    "too deep": ("[" * 100_000, "nested"),
    "too large a number": ('{"prompt": "a", "top_k": ' + "1" * 5000 + "}", "limit"),
    "NaN": ('{"prompt": "a", "temperature": NaN}', "NaN"),
    "a name twice": ('{"prompt": "a", "prompt": "b"}', "duplicate key 'prompt'"),
    "no prompt": ({"id": "x"}, "prompt, prompt_token_ids and messages"),
    "prompt misspelt": ({"promt": "a"}, "did you mean 'prompt' instead of 'promt'?"),
    "two prompts": ({"prompt": "a", "prompt_token_ids": [1]}, "got prompt and prompt_token_ids"),
    "prompt that is no text": ({"prompt": ["a"]}, "must be a string"),
    "empty prompt": ({"prompt": ""}, "the prompt is empty"),
    "no token ids": ({"prompt_token_ids": []}, "prompt_token_ids"),
    "token id that is none": ({"prompt_token_ids": [1, True]}, "prompt_token_ids"),
    "token id too large": ({"prompt_token_ids": [1000]}, "1000"),
    "prompt too long": ({"prompt": "a" * 600}, "600 tokens"),
    "no messages": ({"messages": []}, "a non-empty list of messages"),
    "messages that are no list": ({"messages": "Hi"}, "a non-empty list of messages"),
    "a chat without a template": (
        {"messages": [{"role": "user", "content": "Hi"}]},
        "no chat template: it is not a chat model, or it was converted without one. Give the "
        "prompt as text instead of messages",
    ),
    "an argument of a chat without messages": (
        {"prompt": "a", "reasoning": "off"},
        "'reasoning' needs messages, and this line has prompt",
    ),
    "a flag of a chat that is none": (
        {"messages": [{"role": "user", "content": "Hi"}], "continue_final_message": 1},
        "continue_final_message must be True or False",
    ),
    "unknown option": ({"prompt": "a", "temprature": 1}, "did you mean 'temperature'?"),
    "a field of datasets": ({"prompt": "a", "sampling_params": {}}, "set each option by its own"),
    "option of the call": (
        {"prompt": "a", "num_return_sequences": 2},
        "'num_return_sequences' cannot be set in a job",
    ),
    "bad value": ({"prompt": "a", "top_p": 7}, "top_p"),
    "value of a wrong type": ({"prompt": "a", "max_new_tokens": "8"}, "max_new_tokens"),
    "null for a number": (
        {"prompt": "a", "frequency_penalty": None},
        "frequency_penalty",
    ),
    "several seeds": ({"prompt": "a", "seed": [1]}, "seed"),
    "lone surrogate": ('{"prompt": "a\\ud800"}', "surrogate"),
    "lone surrogate in a stop": ('{"prompt": "a", "stop_strings": ["\\ud800"]}', "surrogate"),
    "lone surrogate in the id": ('{"prompt": "a", "id": "\\ud800"}', "surrogate"),
    "lone surrogate in a name": ('{"prompt": "a", "\\ud800": 1}', "unknown option"),
    "number too large": ('{"prompt": "a", "temperature": 1e999}', "the number 1e999 is too large"),
    "number too large, unread": (
        '{"messages": [{"role": "user", "content": "a", "x": -1e999}]}',
        "the number -1e999 is too large",
    ),
    **{
        f"{depth} levels": (
            '{"messages": [{"role": "user", "content": ' + "[" * depth + "]" * depth + "}]}",
            "nested too deeply",
        )
        # Each limit of Python's between reading a line and writing its record.
        for depth in range(100, 1000, 45)
    },
    "id that is none": ({"prompt": "a", "id": 1.5}, "id must be"),
    "id that is true": ({"prompt": "a", "id": True}, "id must be"),
    "id that is null": ({"prompt": "a", "id": None}, "id must be"),
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_bad_line(name: str, files: Files, model: LocalModel) -> None:
    """It becomes a record with the error, and the lines around it are done."""
    line, part = BAD_LINES[name]
    files.write({"prompt": "before", "id": "a"}, line, {"prompt": "after", "id": "b"})
    if name == "no UTF-8":
        files.source.write_bytes(files.source.read_bytes().replace(b"NOT UTF-8", b'{"\xff": 1}'))
    reports = files.run(model, max_new_tokens=2)
    records = {record["line"]: record for record in files.records()}
    assert set(records) == {1, 2, 3}
    assert set(records[2]) == {"id", "line", "error", "line_hash"}
    assert part in records[2]["error"]["message"]
    types = ("ValueError", "TypeError", "ContextFullError", "TemplateError")
    assert records[2]["error"]["type"] in types
    assert records[1]["text"]
    assert records[3]["text"]
    assert len(reports) == 3


def test_a_chat(files: Files) -> None:
    """The model's template renders the messages, and the record has them unchanged."""
    backend = FakeBackend()
    template = "{% for m in messages %}{{ m.content }}{% endfor %}:"
    backend.vocab.chat_templates = {"default": template}  # type: ignore[misc]
    messages = [{"role": "user", "content": "Hi"}]
    files.write({"messages": messages}, {"prompt": "Hi:"})
    with fake_model(backend=backend) as model:
        files.run(model, max_new_tokens=4)
    records = {record["line"]: record for record in files.records()}
    assert records[1]["messages"] == messages
    assert records[1]["token_ids"] == records[2]["token_ids"]


CALL = {"name": "weather", "arguments": {"city": "Lima"}}
SAID = f"<think>Hm.</think>I look.<tool_call>{json.dumps(CALL)}</tool_call>"
THINKS = TEMPLATE.replace("{#-", "{{ enable_thinking }}{#- <think>")
ASK = [{"role": "user", "content": "Lima?"}]


def test_a_reply_is_taken_apart(files: Files) -> None:
    files.write({"messages": ASK, "max_new_tokens": 200}, {"prompt": "0|", "max_new_tokens": 200})
    with replying_model(SAID) as model:
        files.run(model)
    chat, plain = (record for _, record in sorted(files.results().items()))
    assert (chat["text"], chat["reasoning"]) == ("I look.", "Hm.")
    (call,) = chat["tool_calls"]
    assert {name: call[name] for name in CALL} == CALL
    assert plain["text"].startswith("<think>")
    assert not {"reasoning", "tool_calls"} & plain.keys()


def test_arguments_of_a_chat(files: Files) -> None:
    """A line's own reasoning counts, else the job's; a prompt that is no chat has none."""
    now = {"type": "function", "function": {"name": "now", "description": "Tell the time."}}
    chats: list[dict[str, Any]] = [
        {"tools": [now]},
        {"tools": [now], "tool_choice": "now", "parallel_tool_calls": False, "reasoning": 2},
        {"reasoning": "off", "continue_final_message": False},
        {"template_variables": {"enable_thinking": "some"}, "reasoning": None},
        {"reply_format": "none"},
    ]
    lines = [{"messages": ASK, "max_new_tokens": 200, **each} for each in chats]
    files.write(*lines, {"prompt": "0|"})
    with replying_model(SAID, template=THINKS) as model:
        files.run(model, reasoning="on")
    records = files.results()
    assert [records[line]["reasoning"] for line in (1, 2, 3, 4)] == ["Hm.", "Hm", "Hm.", "Hm."]
    assert [each["name"] for each in records[2]["tool_calls"]] == ["now"]
    assert records[5]["text"].startswith("<think>")
    assert "reasoning" not in records[6]


def test_healing_leaves_the_end_of_a_chat_template(files: Files) -> None:
    """A colon may begin a token. One that ends a text is generated again; one of a template not."""

    class Vocab(FakeVocab):
        chat_templates: ClassVar[dict[str, str]] = {
            "default": "{% for m in messages %}{{ m.content }}{% endfor %}:"
        }

        def token_bytes(self, token_id: int) -> bytes:
            return b":)" if token_id == 200 else super().token_bytes(token_id)

    backend = FakeBackend()
    backend.vocab = Vocab()
    chat = {"messages": [{"role": "user", "content": "Hi"}]}
    heals = {"token_healing": True}
    files.write({**chat, **heals}, chat, {"prompt": "Hi:", **heals})
    with fake_model(backend=backend) as model:
        files.run(model, max_new_tokens=4)
    records = {record["line"]: record for record in files.records()}
    assert records[1]["token_ids"] == records[2]["token_ids"]
    assert [records[line]["stats"]["n_prompt"] for line in (1, 2, 3)] == [3, 3, 2]
    assert records[3]["text"]


SPELLS_SURROGATES = "{% for m in messages %}{{ m.content }}{% endfor %}"
REFUSES = "{{ raise_exception(messages[0].content) }}"


@pytest.mark.parametrize(
    ("template", "message", "key"),
    [
        (SPELLS_SURROGATES, {"role": "user", "content": "a", "name": "\ud800"}, "text"),
        (SPELLS_SURROGATES, {"role": "user", "content": "a", "\ud800": 1}, "text"),
        (SPELLS_SURROGATES, {"role": "user", "content": "\ud800"}, "error"),
        (REFUSES, {"role": "user", "content": "\ud800"}, "error"),
    ],
)
def test_a_lone_surrogate_that_the_model_does_not_see(
    template: str, message: Any, key: str, files: Files
) -> None:
    """No UTF-8 can encode it: the job once ended when it wrote the record."""
    backend = FakeBackend()
    backend.vocab.chat_templates = {"default": template}  # type: ignore[misc]
    files.write({"messages": [message]}, {"prompt": "after"})
    with fake_model(backend=backend) as model:
        files.run(model, max_new_tokens=2)
    records = {record["line"]: record for record in files.records()}
    assert key in records[1]
    assert key == "error" or records[1]["messages"] == [message]
    assert records[2]["text"]


def test_id_of_a_bad_line(files: Files, model: LocalModel) -> None:
    """It is the line's own if it has one, else its number; null if the line is not JSON."""
    files.write({"prompt": 1, "id": "x"}, {"prompt": 1}, "{")
    files.run(model)
    assert [record["id"] for record in files.records()] == ["x", 2, None]


def test_duplicate_ids(files: Files, model: LocalModel) -> None:
    """The second is refused, also if a line's number is the id; 2 and "2" are two ids."""
    files.write({"id": "x", "prompt": "a"}, {"id": 3, "prompt": "b"}, {"prompt": "c"})
    with files.source.open("a") as file:
        file.write('{"id": "x", "prompt": "d"}\n{"id": "3", "prompt": "e"}\n')
    files.run(model, max_new_tokens=1)
    errors = {r["line"]: r["error"]["message"] for r in files.records() if "error" in r}
    assert set(errors) == {3, 4}
    assert "already used by line 2" in errors[3]
    assert "already used by line 1" in errors[4]


def test_a_draft_model_that_cannot_be_used_fails_the_job(files: Files, model: LocalModel) -> None:
    """Once, before anything is written, and not once a line."""
    files.write({"prompt": "a"}, {"prompt": "b"})
    with pytest.raises(ModelNotFoundError, match="no-such-model"):
        files.run(model, assistant_model="no-such-model.gguf")
    assert not files.target.read_bytes()


# --- seeds ---


def test_a_row_depends_on_nothing_but_itself(files: Files, model: LocalModel) -> None:
    """The same id, prompt and seed give the same text among other lines, in another order."""
    rows = [{"id": f"r{i}", "prompt": "same"} for i in range(6)]
    files.write(*rows)
    files.run(model, seed=5, **HOT)
    first = {row_id: record["text"] for row_id, record in files.results().items()}
    files.write(*rows[:2:-1], {"prompt": "another"}, rows[1])
    files.run(model, seed=5, overwrite=True, **HOT)
    again = {row_id: record["text"] for row_id, record in files.results().items()}
    assert {name: again[name] for name in ("r5", "r4", "r3", "r1")} == {
        name: first[name] for name in ("r5", "r4", "r3", "r1")
    }
    assert len(set(first.values())) > 1


def test_seed_of_a_line_wins(files: Files, model: LocalModel) -> None:
    """It gives the draws of this seed alone; the statistics have each row's seed."""
    files.write({"prompt": "same", "seed": 11}, {"prompt": "same"}, {"prompt": "same", "seed": 11})
    files.run(model, seed=5, **HOT)
    done = files.results()
    alone = {seed: model.complete("same", seed=seed, **HOT).text for seed in (11, row_seed(5, 2))}
    assert done[1]["text"] == done[3]["text"] == alone[11]
    assert done[2]["text"] == alone[row_seed(5, 2)]
    assert [done[i]["stats"]["seed"] for i in (1, 2, 3)] == [11, row_seed(5, 2), 11]


def test_seeds_of_rows_differ() -> None:
    """By seed and by id, 1 and "1" included; every JSON parser reads them exactly."""
    seeds = {row_seed(seed, row_id) for seed in (0, 1) for row_id in (0, 1, "0", "1", "é", "")}
    assert len(seeds) == 12
    assert max(seeds) < 2**53


def test_the_jobs_seed_does_not_turn_sampling_on(files: Files, model: LocalModel) -> None:
    """Every job has a seed, but rows are greedy unless an option turns sampling on."""
    files.write({"prompt": "a"}, {"prompt": "a", "temperature": 3.0}, {"prompt": "a", "seed": 1})
    files.run(model, max_new_tokens=4)
    seeds = {row_id: record["stats"]["seed"] for row_id, record in files.results().items()}
    assert seeds[1] is None
    assert seeds[2] is not None
    assert seeds[3] == 1


def test_a_given_seed_turns_sampling_on(files: Files, model: LocalModel) -> None:
    """As in complete(), where a seed alone turns sampling on and do_sample=False overrides it."""
    files.write({"prompt": "a"}, {"prompt": "a", "do_sample": False})
    files.run(model, max_new_tokens=2, seed=3)
    done = files.results()
    assert done[1]["stats"]["seed"] == row_seed(3, 1)
    assert done[2]["stats"]["seed"] is None


def test_greedy_line_of_a_job_that_samples(files: Files, model: LocalModel) -> None:
    """It is greedy, without a warning (an error here) about the job's sampling options."""
    files.write({"prompt": "a", "do_sample": False})
    (greedy,) = files.run(model, seed=3, **HOT)
    (alone,) = model.complete(["a"], max_new_tokens=4)
    assert greedy["text"] == alone.text
    assert greedy["stats"]["seed"] is None


# --- resuming ---

SMALL_HEADER = {
    "localgen_batch": 1,
    "model": {"file": "m", "size": 1, "fingerprint": "f"},
    "versions": {},
    "model_options": {},
    "generation_options": {},
    "seed": 1,
}


@pytest.mark.slow
def test_cut_anywhere(files: Files, model: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process may be killed at any byte: resuming then runs exactly the incomplete rows.

    The results are the same, sampled ones included. Of the records after the second, only the bytes
    beside their ends are tried, since they are written and read as the others are.
    """
    files.write({"prompt": "é"}, {"prompt": 1}, {"id": "x", "prompt": "b"}, {"prompt": "c"})
    files.run(model, header=SMALL_HEADER, **HOT)
    whole, expected = files.target.read_bytes(), files.results()
    asked: list[object] = []
    acomplete = model.acomplete

    async def counted(prompts: Any, **options: Any) -> Any:
        asked.append(model.tokenizer.decode(prompts[0]))
        return await acomplete(prompts, **options)

    monkeypatch.setattr(model, "acomplete", counted)
    line_ends = [i for i, byte in enumerate(whole) if byte == ord("\n")]
    beside = {line_end + offset for line_end in line_ends for offset in (-1, 0, 1, 2)}
    cuts = [i for i in range(len(whole)) if i <= line_ends[2] or i in beside]
    for end in cuts:
        files.target.write_bytes(whole[:end])
        asked.clear()
        files.run(model, header=SMALL_HEADER, **HOT)
        kept = whole[:end].splitlines(keepends=True)[1:]
        there = [json.loads(line) for line in kept if line.endswith(b"\n")]
        done = {record.get("prompt") for record in there}
        assert sorted(map(str, asked)) == sorted({"é", "b", "c"} - done), end
        assert files.results() == expected, end
        assert files.target.read_bytes().startswith(whole[: whole[:end].rfind(b"\n") + 1]), end


def test_nothing_left(files: Files, model: LocalModel) -> None:
    """A job that is done does not change, to the byte."""
    files.write({"prompt": "a"}, "{")
    files.run(model, max_new_tokens=2)
    before = files.target.read_bytes()
    (report,) = files.run(model, max_new_tokens=2)
    assert report["line"] == 2, "a bad line is reported each time"
    assert files.target.read_bytes() == before


def test_fresh_seed_is_kept(files: Files, model: LocalModel) -> None:
    """Without a seed a job chooses one; it is in the header, and resuming uses it."""
    files.write({"id": "a", "prompt": "same"}, {"id": "b", "prompt": "same"})
    files.run(model, **HOT)
    whole, expected = files.target.read_bytes(), files.results()
    header, first, _ = whole.splitlines(keepends=True)
    seed = json.loads(header)["seed"]
    files.target.write_bytes(header + first)
    files.run(model, **HOT)
    assert files.results() == expected
    assert {record["stats"]["seed"] for record in expected.values()} == {
        row_seed(seed, "a"),
        row_seed(seed, "b"),
    }
    files.run(model, overwrite=True, **HOT)
    assert json.loads(files.target.read_bytes().splitlines()[0])["seed"] != seed


def refused(files: Files, model: LocalModel, *parts: str, **options: Any) -> None:
    """Assert that the job is refused with a message, and that its output is unchanged."""
    before = files.target.read_bytes()
    with pytest.raises(JobError) as caught:
        files.run(model, **options)
    for part in (*parts, "--overwrite"):
        assert part in str(caught.value)
    assert files.target.read_bytes() == before


@pytest.fixture
def half(files: Files, model: LocalModel) -> Files:
    """A job whose lines 1 and 2 are done and line 3 is not."""
    files.write({"prompt": "a"}, {"prompt": "b"}, {"prompt": "c"})
    files.run(model, max_new_tokens=2)
    lines = files.target.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line).get("line", 0) < 3]
    files.target.write_bytes(b"".join(kept))
    return files


def test_line_that_was_changed(half: Files, model: LocalModel) -> None:
    """The result of another line is not kept silently."""
    half.write({"prompt": "a"}, {"prompt": "B"}, {"prompt": "c"})
    refused(half, model, "line 2", "has changed", max_new_tokens=2)


def test_line_that_is_gone(half: Files, model: LocalModel) -> None:
    """Nor is a result without a line."""
    half.write({"prompt": "a"})
    refused(half, model, "line 2", "was removed", max_new_tokens=2)


def test_lines_not_done_may_change(half: Files, model: LocalModel) -> None:
    """They have no result yet that could be wrong; space around a line does not matter."""
    half.write('  {"prompt": "a"}\r', {"prompt": "b"}, {"prompt": "C"}, {"prompt": "d"})
    half.run(model, max_new_tokens=2)
    assert {record["prompt"] for record in half.records()} == {"a", "b", "C", "d"}


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"max_new_tokens": 3}, ["max_new_tokens was 2 and is now 3"]),
        ({"temperature": 2.0}, ["temperature was 1.0 and is now 2.0"]),
        ({"seed": 4}, ["seed was None and is now 4"]),
    ],
)
def test_changed_options(
    options: dict[str, Any], parts: list[str], half: Files, model: LocalModel
) -> None:
    """The message names what differs, with both values."""
    refused(half, model, *parts, **{"max_new_tokens": 2, **options})


def test_changed_model_options(half: Files, model: LocalModel) -> None:
    """Another KV cache type changes the results; more threads or sequences do not."""
    header = half.header(ModelConfig(kv_type="q8_0"), max_new_tokens=2)
    refused(half, model, "kv_type was 'f16' and is now 'q8_0'", header=header, max_new_tokens=2)
    header = half.header(ModelConfig(n_threads=1, max_sequences=2), max_new_tokens=2)
    half.run(model, header=header, max_new_tokens=2)
    assert len(half.records()) == 3


def test_memory_check_may_be_left_out(half: Files, model: LocalModel) -> None:
    """Regression: NotEnoughMemoryError advises it, but resuming with it was refused."""
    header = half.header(ModelConfig(check_memory=False), max_new_tokens=2)
    half.run(model, header=header, max_new_tokens=2)
    assert len(half.records()) == 3


def test_an_option_that_is_newer_than_the_file(half: Files, model: LocalModel) -> None:
    """Regression: a job could not be resumed after an update. The option had its default then."""
    old = half.header(max_new_tokens=2)
    del old["generation_options"]["min_length"], old["model_options"]["check_memory"]
    first, *others = half.target.read_bytes().splitlines(keepends=True)
    assert json.loads(first)["generation_options"].pop("min_length") == 0
    half.target.write_bytes(b"".join([json.dumps(old).encode() + b"\n", *others]))
    refused(half, model, "min_length was 0 and is now 3", max_new_tokens=2, min_length=3)
    half.run(model, max_new_tokens=2)
    assert len(half.records()) == 3


def test_changed_model(half: Files, model: LocalModel) -> None:
    """Only the content counts: a file may be renamed, but not replaced."""
    half.weights = half.weights.rename(half.weights.with_name("renamed.gguf"))
    half.run(model, max_new_tokens=2)
    half.weights.write_bytes(b"WEIGHTS")
    refused(half, model, "the model was weights.gguf (7 bytes", max_new_tokens=2)


def test_other_versions(files: Files) -> None:
    """Versions that differ between the start of a job and its resumption are named."""
    now = files.header()
    old = {**now, "versions": {**now["versions"], "numpy": "1.0"}}
    assert other_versions(now, now) == []
    assert other_versions(old, now) == [f"numpy {now['versions']['numpy']} (started with 1.0)"]


@pytest.mark.parametrize(
    "content", [b"a letter", b"a letter\n", b'{"prompt": "a"}\n', b"\x00\xff", b"[1]\n"]
)
def test_file_that_is_not_an_output(content: bytes, files: Files, model: LocalModel) -> None:
    """Another file is not overwritten because of a wrong name."""
    files.write({"prompt": "a"})
    files.target.write_bytes(content)
    refused(files, model, "not the output of a job")


def test_format_of_another_version(files: Files, model: LocalModel) -> None:
    """A file in an unknown format is not appended to."""
    files.write({"prompt": "a"})
    for header in (b'{"localgen_batch": 2, "seed": 1}\n', b'{"localgen_batch": 1}\n'):
        files.target.write_bytes(header)
        refused(files, model, "another version")


def test_overwrite(half: Files, model: LocalModel) -> None:
    """It discards the file, even results of a job with other options."""
    half.run(model, overwrite=True, max_new_tokens=3)
    assert [len(record["token_ids"]) for record in half.records()] == [3, 3, 3]
    half.target.write_text("a letter\n" * 1000)
    half.run(model, overwrite=True, max_new_tokens=1)
    assert len(half.records()) == 3


def test_damaged_line(half: Files, model: LocalModel) -> None:
    """A kill can only truncate the last line; any other corrupt line is an error."""
    header, first, second = half.target.read_bytes().splitlines(keepends=True)
    no_result = b'{"id": 1, "line": 1, "line_hash": ""}'
    no_line = b'{"id": 1, "line": "x", "line_hash": "", "text": ""}'
    for damaged in (first[:-9], b"\x00" * 9, b"{}", no_result, no_line):
        half.target.write_bytes(header + damaged + b"\n" + second)
        with pytest.raises(JobError, match=r"line 2 is corrupt\. Delete"):
            half.run(model, max_new_tokens=2)
    half.target.write_bytes(header + second)
    half.run(model, max_new_tokens=2)
    assert len(half.results()) == 3


def test_bad_line_that_was_fixed(files: Files, model: LocalModel) -> None:
    """Fixing a bad line loses no result, so the job need not start over."""
    files.write({"prompt": "a"}, {"prompt": 1}, {"prompt": 2})
    files.run(model, max_new_tokens=2)
    files.write({"prompt": "a"}, {"prompt": "b"}, {"prompt": 2})
    reports = files.run(model, max_new_tokens=2)
    assert {record["line"] for record in reports} == {2, 3}
    records = files.records()
    assert [record["line"] for record in records if "text" in record] == [1, 2]
    assert sorted(record["line"] for record in records if "error" in record) == [2, 3]
    assert [record["line"] for record in files.run(model, max_new_tokens=2)] == [3]


def test_fixed_line_with_an_id_that_is_taken(files: Files, model: LocalModel) -> None:
    """Also if the line that has it comes later and is already done."""
    files.write("{", {"id": "x", "prompt": "b"})
    files.run(model, max_new_tokens=2)
    files.write({"id": "x", "prompt": "a"}, {"id": "x", "prompt": "b"})
    (report,) = files.run(model, max_new_tokens=2)
    assert "already used by line 2" in report["error"]["message"]


def test_second_process(files: Files) -> None:
    """Two processes that write the same file would corrupt each other's lines."""
    header = files.header()
    with open_results(str(files.target), header):
        for overwrite in (False, True):
            with (
                pytest.raises(JobError, match="another process"),
                open_results(str(files.target), header, overwrite=overwrite),
            ):
                pass
    with open_results(str(files.target), header):
        pass


# --- input and output ---


def test_same_file(files: Files) -> None:
    """By any name: the job would destroy its own input."""
    files.write({"prompt": "a"})
    link, hard = files.source.with_name("link"), files.source.with_name("hard")
    link.symlink_to(files.source)
    hard.hardlink_to(files.source)
    for target in (files.source, link, hard, files.source.parent / "." / "in.jsonl"):
        with pytest.raises(ValueError, match="same file"):
            check_not_same(str(files.source), str(target))
    check_not_same(str(files.source), str(files.target))
    check_not_same("/dev/null", "/dev/null")


def test_pipe_as_input(files: Files, model: LocalModel) -> None:
    """A pipe can be read only once, and a job reads its input twice."""
    read_end, write_end = os.pipe()
    with os.fdopen(write_end, "w") as file:
        file.write('{"prompt": "a"}\n{"prompt": "b"}\n')
    files.source = Path(f"/dev/fd/{read_end}")
    try:
        files.run(model, max_new_tokens=1)
    finally:
        os.close(read_end)
    assert len(files.records()) == 2


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="this system has no such devices")
def test_a_device_as_input() -> None:
    """Regression: /dev/zero has one line without an end, /dev/urandom lines without an end."""
    for device in ("/dev/zero", "/dev/urandom"):
        with pytest.raises(OSError, match="it is a device") as caught, open_lines(device):
            pass
        assert caught.value.filename == device
    with open_lines(os.devnull) as lines:
        assert not lines.read()


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="this system does not name open files")
@pytest.mark.parametrize("is_pipe", [False, True])
def test_a_line_without_an_end(
    is_pipe: bool, files: Files, model: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more than the longest line is read of it, from a pipe too, and nothing is written."""
    monkeypatch.setattr(rows, "MAX_LINE_BYTES", 1000)
    text = b'{"prompt": "a"}\n' + b"x" * 999 + b"\n" + b"x" * 1001
    files.source.write_bytes(text)
    read_end, write_end = os.pipe()
    os.write(write_end, text)
    if is_pipe:
        files.source = Path(f"/dev/fd/{read_end}")
    try:
        with pytest.raises(JobError, match="line 3 of the input is longer than 0 MB"):
            files.run(model)
    finally:
        os.close(read_end)
        os.close(write_end)
    assert not files.target.exists() or not files.target.read_bytes()


def test_warnings_that_are_errors(files: Files, model: LocalModel) -> None:
    """With ``python -W error``, a line's warning fails this line alone."""
    files.write(
        {"prompt": "a"},
        {"prompt": "a", "do_sample": False, "temperature": 0.5},
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        records = files.run(model, max_new_tokens=2)
    errors = {record["line"]: record.get("error", {}).get("type") for record in records}
    assert errors == {1: None, 2: "UserWarning"}


def test_a_template_that_fails(files: Files) -> None:
    """Regression: an error that was not a TemplateError ended the job; it is an error per line."""
    backend = FakeBackend()
    backend.vocab.chat_templates = {"default": "{{ cycler() }}"}  # type: ignore[misc]
    messages = [{"role": "user", "content": "Hi"}]
    files.write({"messages": messages}, {"messages": messages}, {"prompt": "a"})
    with fake_model(backend=backend) as model:
        records = files.run(model, max_new_tokens=1)
    errors = {record["line"]: record.get("error", {}).get("type") for record in records}
    assert errors == {1: "TemplateError", 2: "TemplateError", 3: None}


def test_results_reach_the_disk_every_few_seconds(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power failure loses a few seconds' work, and no row waits for the disk in between."""
    now, synced = [100.0], []
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr(os, "fsync", lambda _: synced.append(now[0]))
    with open_results(str(files.target), files.header()) as results:
        for seconds in (100.0, 104.0, 106.0, 110.0, 111.5):
            now[0] = seconds
            results.write({"id": 1})
    assert synced == [106.0, 111.5]


def run_and(files: Files, model: LocalModel, meddle: Callable[[], object], after: int = 2) -> str:
    """Run the job, ``meddle`` once ``after`` records are reported, and return the error's text."""
    n_reports = 0

    def report(_: Record) -> None:
        nonlocal n_reports
        n_reports += 1
        if n_reports == after:
            meddle()

    with (
        open_lines(str(files.source)) as lines,
        open_results(str(files.target), files.header(max_new_tokens=2)) as results,
        pytest.raises(JobError) as caught,
    ):
        Job(lines, results, GenerationConfig(max_new_tokens=2)).run(model, report)
    return str(caught.value)


@pytest.mark.parametrize("after", [1, 5, 8])
def test_output_that_is_deleted(after: int, files: Files, model: LocalModel) -> None:
    """Regression: the job ended well, without a file. Its results are there again.

    Also if it is deleted after the last record.
    """
    files.write(*({"prompt": "a" * n} for n in range(1, 9)))
    said = run_and(files, model, files.target.unlink, after)
    assert said == (
        f"{files.target} was deleted while the job was writing it. The results so far are in "
        f"{files.target}."
    )
    n_kept = len(files.records())
    assert after <= n_kept <= after + 1
    reports = files.run(model, max_new_tokens=2)
    assert len(reports) == 8 - n_kept
    assert len(files.results()) == 8


def test_output_that_is_replaced(files: Files, model: LocalModel) -> None:
    """A new file under its name, say of an editor, is not overwritten."""
    files.write(*({"prompt": "a" * n} for n in range(1, 9)))
    kept = Path(f"{files.target}.kept")

    def replaced() -> None:
        files.target.unlink()
        files.target.write_text("a letter")

    said = run_and(files, model, replaced)
    assert said.endswith(f"The results so far are in {kept}.")
    assert files.target.read_text() == "a letter"
    files.target = kept
    assert len(files.records()) >= 2
    files.run(model, max_new_tokens=2)
    assert len(files.results()) == 8


def test_output_that_is_moved(files: Files, model: LocalModel) -> None:
    files.write(*({"prompt": "a" * n} for n in range(1, 9)))
    moved = files.target.with_name("moved")
    said = run_and(files, model, lambda: files.target.rename(moved))
    assert said.endswith(
        "was moved or replaced while the job was writing it. The results so far "
        "are in the moved file."
    )
    assert not files.target.exists()
    files.target = moved
    files.run(model, max_new_tokens=2)
    assert len(files.results()) == 8


def test_output_whose_folder_is_deleted(files: Files, model: LocalModel) -> None:
    folder = files.target.parent / "results"
    folder.mkdir()
    files.target = folder / "out.jsonl"
    files.write(*({"prompt": "a" * n} for n in range(1, 9)))
    said = run_and(files, model, lambda: shutil.rmtree(folder))
    assert said.endswith("The results so far are lost: No such file or directory.")


def test_output_on_a_full_disk(
    files: Files, model: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the file; the next run resumes."""
    files.write({"prompt": "a"}, {"prompt": "b"})
    sync = os.fsync

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(JobError, match=rf"{files.target} cannot be written: No space left"):
        files.run(model, max_new_tokens=2)
    monkeypatch.setattr(os, "fsync", sync)
    assert files.run(model, max_new_tokens=2) == []


@pytest.mark.skipif(sys.platform != "linux", reason="names are text elsewhere")
def test_a_models_name_that_is_not_text(files: Files, model: LocalModel) -> None:
    """Regression: 'utf-8' codec can't encode character '\\udcff'."""
    files.weights = files.weights.rename(files.weights.with_name(os.fsdecode(b"w\xff.gguf")))
    files.write({"prompt": "a"}, {"prompt": "b"})
    files.run(model, max_new_tokens=2)
    header = json.loads(files.target.read_bytes().splitlines()[0])
    assert os.fsencode(header["model"]["file"]) == b"w\xff.gguf"
    assert files.run(model, max_new_tokens=2) == []


def test_output_that_is_no_file(files: Files, model: LocalModel) -> None:
    """A device or a pipe is only written to, not read."""
    files.write({"prompt": "a"})
    files.target = Path("/dev/null")
    (report,) = files.run(model, max_new_tokens=1)
    assert report["text"]


def test_output_in_unicode(files: Files, model: LocalModel) -> None:
    """Text is not escaped, and is UTF-8 in any locale."""
    files.write({"prompt": "é漢"})
    files.run(model, max_new_tokens=1)
    assert '"é漢"'.encode() in files.target.read_bytes()


# --- many rows, and what goes wrong with them ---


def most_at_once(model: LocalModel, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Return a function that says how many rows were submitted at once, at most."""
    now, most = 0, 0
    acomplete = model.acomplete

    async def counted(prompts: Any, **options: Any) -> Any:
        nonlocal now, most
        now += 1
        most = max(most, now)
        try:
            for _ in range(100):  # the job submits what it may before the first row can end
                await asyncio.sleep(0)
            return await acomplete(prompts, **options)
        finally:
            now -= 1

    monkeypatch.setattr(model, "acomplete", counted)
    return lambda: most


@pytest.mark.parametrize(("options", "expected"), [({}, 8), ({"max_time": 900.0}, 4)])
def test_few_rows_at_once(
    options: dict[str, Any],
    expected: int,
    files: Files,
    model: LocalModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However long the input is, only enough rows are submitted to keep the four slots busy.

    Rows with a time limit never wait for a slot.
    """
    most = most_at_once(model, monkeypatch)
    files.write(*({"prompt": str(i)} for i in range(60)))
    files.run(model, max_new_tokens=2, **options)
    assert len(files.results()) == 60
    assert most() == expected


@pytest.mark.parametrize(
    ("prompts", "max_new_tokens", "deterministic", "expected"),
    [
        (["ab"] * 9, 8, True, 1),  # always one row at a time
        (["ab"] * 9, 8, False, 3),  # 30 tokens, 10 each
        (["x" * 22, *["ab"] * 9], 8, False, 1),  # slots are as long as the longest row
        (["x" * 40, *["ab"] * 9], 8, False, 3),  # the first row fits nowhere
        (["ab"] * 9, 2, False, 4),  # seven would fit, but max_sequences is four
    ],
)
def test_no_clock_runs_while_a_row_waits(
    prompts: list[str],
    max_new_tokens: int,
    deterministic: bool,
    expected: int,
    files: Files,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Regression: rows with a max_time were submitted up to max_sequences.

    If fewer could run, the others ended by "time" without a token.
    """
    files.write(*({"prompt": prompt} for prompt in prompts))
    backend = FakeBackend(budget=30)
    with fake_model(backend=backend, deterministic=deterministic) as model:
        most = most_at_once(model, monkeypatch)
        files.run(model, max_new_tokens=max_new_tokens, max_time=900.0)
    assert most() == expected


def test_row_that_others_left_no_time(
    files: Files, model: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row whose time ran out before its first token is retried when it is alone.

    What it gives then is its result, even if it is empty.
    """
    n_running = 0
    alone: list[str] = []
    starved: set[str] = set()
    both_starved = asyncio.Event()
    acomplete = model.acomplete

    async def starving(prompts: Any, **options: Any) -> Any:
        nonlocal n_running
        text = model.tokenizer.decode(prompts[0])
        n_running += 1
        if n_running == 1 and text != "first":
            alone.append(text)
        (done,) = await acomplete(prompts, **options)
        if text == "first":
            await both_starved.wait()  # so that these are not alone
        n_running -= 1
        if text == "never" or (text == "late" and alone.count("late") == 0):
            starved.add(text)
            if len(starved) == 2:
                both_starved.set()
            return [replace(done, finish_reason="time", token_ids=[], text="")]
        return [done]

    monkeypatch.setattr(model, "acomplete", starving)
    files.write(*({"id": name, "prompt": name} for name in ("first", "late", "never", "last")))
    reports = files.run(model, max_new_tokens=3, max_time=900.0)
    assert sorted(alone) == ["late", "never"]  # in the order in which they ran out of time
    assert len(reports) == 4
    ends = {row_id: record["finish_reason"] for row_id, record in files.results().items()}
    assert ends == {"first": "length", "last": "length", "late": "length", "never": "time"}


class FailingBackend(FakeBackend):
    """Raises ``error`` in each pass that contains an "X"."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def decode(self, batch: Batch, should_stop: Any = None) -> Any:
        if ord("X") in batch.token_ids:
            raise self.error
        return super().decode(batch, should_stop)


def test_failed_pass_is_retried(files: Files) -> None:
    """A failed pass fails its rows, not the job; resuming retries them."""
    files.write({"prompt": "a"}, {"prompt": "X"}, {"prompt": "b"})
    with fake_model(backend=FailingBackend(DecodeError("no")), max_sequences=1) as broken:
        files.run(broken, max_new_tokens=2)
    errors = {r["line"]: r["error"] for r in files.records() if "error" in r}
    assert errors == {2: {"type": "DecodeError", "message": "no"}}
    with fake_model() as fixed:
        (report,) = files.run(fixed, max_new_tokens=2)
    assert report["prompt"] == "X"


def test_row_too_long_for_the_kv_budget(files: Files) -> None:
    """Regression: a single such row ended every run before any other row was done.

    With a larger budget, resuming runs it.
    """
    files.write({"prompt": "aa"}, {"prompt": "x" * 300}, {"prompt": "bb"})
    with fake_model(backend=FakeBackend(budget=200)) as small:
        files.run(small, max_new_tokens=4)
    errors = {r["line"]: r["error"] for r in files.records() if "error" in r}
    assert {r["line"] for r in files.records()} == {1, 2, 3}
    assert errors.keys() == {2}
    assert errors[2]["type"] == "KvBudgetError"
    assert "a sequence of 304 tokens does not fit" in errors[2]["message"]
    with fake_model() as large:
        (report,) = files.run(large, max_new_tokens=4)
    assert report["line"] == 2
    assert "text" in report


def test_failed_backend_ends_the_run(files: Files) -> None:
    """An error that would hit every row is raised, not written for each of them."""
    files.write({"prompt": "a"}, {"prompt": "X"}, {"prompt": "b"})
    with (
        fake_model(backend=FailingBackend(BackendError("gone")), max_sequences=1) as broken,
        pytest.raises(BackendError, match="gone"),
    ):
        files.run(broken, max_new_tokens=2)
    assert "a" in [record["prompt"] for record in files.records()]
    assert "X" not in [record["prompt"] for record in files.records()]
    with fake_model() as fixed:
        files.run(fixed, max_new_tokens=2)
    assert set(files.results()) == {1, 2, 3}


def test_row_that_was_cancelled(
    files: Files, model: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An incomplete text is never written as a result."""
    acomplete = model.acomplete

    async def cancelled(prompts: Any, **options: Any) -> Any:
        (done,) = await acomplete(prompts, **options)
        return [replace(done, finish_reason="cancelled")]

    monkeypatch.setattr(model, "acomplete", cancelled)
    files.write({"prompt": "a"})
    with pytest.raises(LocalgenError, match="line 1"):
        files.run(model, max_new_tokens=2)
    assert files.records() == []


def test_rows_are_written_as_they_end(files: Files) -> None:
    """A short row after a long one is written before the long one ends."""
    backend = FakeBackend(lambda tokens: EOS if tokens[0] == ord("s") else ord("l"))
    files.write({"prompt": "long", "max_new_tokens": 400}, {"prompt": "short"})
    with fake_model(backend=backend) as model:
        files.run(model)
    assert [record["id"] for record in files.records()] == [2, 1]


def test_a_record_has_the_columns_of_its_line(files: Files, model: LocalModel) -> None:
    kept = {"category": "x", "text": [1, None]}
    files.write(
        {"id": "a", "prompt": "cat", "columns": kept},
        {"id": "b", "prompt": "cat", "columns": kept, "top_p": "x"},
        {"id": "c", "prompt": "cat", "columns": "x"},
        {"id": "d", "prompt": "cat", "columns": {}},
    )
    files.run(model)
    found = files.results()
    assert found["a"]["columns"] == found["b"]["columns"] == kept
    assert "error" in found["b"]
    assert found["c"]["error"]["message"] == "columns must be an object, got str"
    assert "columns" not in found["d"]
