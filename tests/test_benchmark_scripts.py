"""The scripts in benchmarks/: what they conclude from measured times, without a model."""

from __future__ import annotations

import datetime
import importlib
import math
from pathlib import Path
from types import SimpleNamespace

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def _scripts_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))


def test_each_script_is_in_the_readme() -> None:
    readme = (FOLDER / "README.md").read_text("utf-8")
    scripts = {path.name for path in FOLDER.glob("*.py")} - {"common.py", "floors.py", "oracle.py"}
    assert not {name for name in scripts if f"`{name}`" not in readme}


def test_the_ratio_is_to_the_floor_with_the_faster_median() -> None:
    """One lucky round of the slower floor does not choose it."""
    floors = importlib.import_module("floors")
    rounds = [
        {"on": 2.0, "off": 4.0, "ours": 4.0},
        {"on": 2.0, "off": 1.0, "ours": 2.0},
        {"on": 3.0, "off": 5.0, "ours": 4.0},
    ]
    row = floors.floor_columns(rounds, 12, "ours")
    assert row["floor"] == "on"
    assert (row["ratio_min"], row["ratio"], row["ratio_max"]) == (0.5, 0.75, 1.0)
    assert row["floor_off_tokens_per_s"] == 3.0


def test_the_best_fixed_number_of_threads_is_that_of_the_medians() -> None:
    busy = importlib.import_module("busy")
    speeds = {"auto": 9.0, "fixed-1": 10.0, "fixed-2": 4.0, "llama.cpp": 3.0}
    found = {way: {"tokens_per_s": speed, "threads": None} for way, speed in speeds.items()}
    auto = busy.rows_of("busy", list(speeds), [found])[0]
    assert (auto["by_best_fixed"], auto["by_llama_cpp"]) == (0.9, 3.0)


def test_only_llama_cpps_way_says_how_threads_wait() -> None:
    """Each other process waits as localgen chooses, whatever this environment says."""
    busy = importlib.import_module("busy")
    given = {"OMP_WAIT_POLICY": "passive", "A": "b"}
    assert busy.environment_of("auto", given) == {"A": "b"}
    assert busy.environment_of("llama.cpp", given) == {"A": "b", "GOMP_SPINCOUNT": "300000"}


def test_busy_loops_are_dead_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = importlib.import_module("busy")
    ended = []

    class Loop:
        def __init__(self, _command: object) -> None: ...
        def kill(self) -> None:
            ended.append("killed")

        def wait(self) -> None:
            ended.append("waited")

    monkeypatch.setattr(busy.subprocess, "Popen", Loop)
    with pytest.raises(KeyboardInterrupt), busy.busy_loops(2):
        raise KeyboardInterrupt
    assert ended == ["killed"] * 2 + ["waited"] * 2


def test_copied_tokens_stand_in_runs_of_four_in_the_prompt() -> None:
    speculation = importlib.import_module("speculation")
    done = SimpleNamespace(prompt_token_ids=[1, 2, 3, 4, 5], token_ids=[9, 1, 2, 3, 4, 9, 3, 4])
    assert speculation.copied(done) == 0.5


class Tokenizer:
    def apply_chat_template(self, messages: list[dict[str, str]], **_: object) -> str:
        return messages[0]["content"]


def test_there_are_20_different_copy_prompts_of_all_kinds() -> None:
    prompts = importlib.import_module("speculation").copy_prompts(Tokenizer())
    kinds = ["json" if "[\n" in each else "code" if "def " in each else "text" for each in prompts]
    assert len(set(prompts)) == len(prompts) == 20
    assert (kinds.count("code"), kinds.count("text"), kinds.count("json")) == (10, 6, 4)


def test_there_are_20_schemas_of_each_kind_and_the_same_ones_each_time() -> None:
    kinds = importlib.import_module("schema_kinds")
    first, again = kinds.samples(), kinds.samples()
    assert len(first) == 200
    assert {sum(each.kind == kind for each in first) for kind in kinds.KINDS} == {20}
    is_plain = [isinstance(each.given, dict) for each in first]
    assert is_plain.count(False) == 20
    assert [each for each, plain in zip(first, is_plain, strict=True) if plain] == [
        each for each, plain in zip(again, is_plain, strict=True) if plain
    ]


def test_a_text_is_judged_by_its_schema_and_by_its_class() -> None:
    schemas = importlib.import_module("schemas")
    judge = schemas.Judge({"type": "string", "format": "date"})
    assert judge.reason_against('"2024-02-29"') == ""
    assert "is not a 'date'" in judge.reason_against('"2023-02-29"')
    assert judge.reason_against("[")
    assert "too large" in schemas.Judge(datetime.timedelta).reason_against('"P9999999999D"')
    tally = schemas.Tally("texts")
    tally.judge("here", judge, '"2023-02-29"')
    tally.judge("here", schemas.Judge({"pattern": r"\p{L}"}), '"a"')
    assert (tally.ended, tally.wrong, tally.unjudged) == (2, 1, 1)


def test_runs_that_a_text_repeats_by_hand() -> None:
    """After 8, 1: 2 3 stood before. After 3: 4 did. A run may repeat its own end."""
    oracle = importlib.import_module("oracle")
    assert oracle.known_runs([1, 2, 3, 4, 8], [1, 2, 3, 9]) == [2, 1, 0]
    assert oracle.known_runs([5], [7, 7, 7, 7, 6]) == [0, 2, 1, 0]


def test_the_oracle_puts_drafts_into_a_pass_that_pay() -> None:
    oracle = importlib.import_module("oracle")
    text = ([1, 2, 3, 4, 5], [1, 2, 3, 4, 5])
    assert oracle.best_passes([text], lambda n_tokens: 1.0) == [[4]]
    assert oracle.best_passes([text], float) == [[1]] * 4
    both = oracle.best_passes([text, ([1, 2], [3, 4, 5])], lambda n_tokens: 1.0)
    assert both == [[4, 1], [0, 1]]


def test_an_answer_is_whole_only_with_its_last_event() -> None:
    clients = importlib.import_module("http_clients")
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    events = [
        b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n',
        b'data: {"choices": [{"delta": {"content": "b"}, "finish_reason": "stop"}]}\n\n',
        b'data: {"choices": [], "usage": {"completion_tokens": 5}}\n\n',
        b"data: [DONE]\n\n",
    ]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in events)
    whole = clients.parsed(head + chunks + b"0\r\n\r\n", 0.0, None, cut=False)
    assert (whole.text, whole.n_tokens, whole.finish_reason, whole.ended) == ("ab", 5, "stop", True)
    part = clients.parsed(head + chunks[: chunks.index(b'"b"')], 0.0, None, cut=True)
    assert (part.text, part.n_tokens, part.ended) == ("a", 1, False)
    failed = clients.parsed(
        b'HTTP/1.1 429 No\r\n\r\n{"error": {"type": "a"}}', 0.0, None, cut=False
    )
    assert (failed.status, failed.error) == (429, {"type": "a"})
    assert clients.parsed(b"", 0.0, None, cut=False).status == 0


def test_a_text_is_compared_where_it_first_differs() -> None:
    """A text that forks is as wrong as its first other token was unlikely."""
    greedy = importlib.import_module("greedy_texts")
    top = (
        (("a", -0.1), ("I", -3.0)),
        ((" fine", -0.5), (" fist", -0.6), ("", -0.9)),
        ((" day", -0.1), ("", -0.4), (" dog", -5.0)),
    )
    wanted = greedy.GreedyText("a fine day", (1, 6, 10), top)

    def gap(text: str, n_new: int = 3, *, is_whole: bool = True) -> float:
        return round(float(wanted.gap(text, n_new=n_new, is_whole=is_whole)), 6)

    assert gap("a fine day") == gap("a fine", 2) == gap("a f", is_whole=False) == 0
    assert gap("a fist goes") == gap("a fis", is_whole=False) == 0.1
    assert gap("a fine dog") == 4.9
    assert gap("a fine") == 0.3  # it ended a token earlier
    assert gap("a") == 0.4
    assert gap("I do") == 2.9
    assert gap("another") == gap("a fine day at", 5) == math.inf


@pytest.mark.parametrize("is_whole", [True, False])
def test_bytes_that_are_no_character_do_not_make_a_text_wrong(is_whole: bool) -> None:
    """At the end of a text they were taken from one side alone."""
    greedy = importlib.import_module("greedy_texts")
    top = ((("a", -0.1),), (("\ufffd", -0.5), ("b\ufffd", -0.7), ("", -0.9)))
    wanted = greedy.GreedyText("a\ufffd", (1, 1), top)

    def gap(text: str, n_new: int) -> float:
        return round(float(wanted.gap(text, n_new=n_new, is_whole=is_whole)), 6)

    assert gap("a\ufffd", 2) == gap("a\ufffd", 9) == gap("a", 1) == 0
    assert gap("ab\u00e9", 2) == gap("ab", 2) == 0.2
    assert gap("abc", 2) == gap("ac", 2) == math.inf


def test_a_request_that_ends_while_a_worker_is_killed_was_at_that_kill() -> None:
    """The time after a kill alone is later than the end of what it ended."""
    watch = importlib.import_module("server_watch")
    turn = watch.Turn(10.0, 11.0, 12.0)
    assert turn.is_at((11.999, 12.2))
    assert turn.is_at((12.001, 12.2)), "clocks differ by some milliseconds"
    assert turn.is_at((10.9, 11.1))
    assert not turn.is_at((12.1, 12.2))
    assert not turn.is_at((10.1, 10.2))
    assert turn.waited_through((10.1, 10.2))
    assert not turn.waited_through((10.9, 11.1))
    assert not turn.waited_through((9.9, 10.1))


def test_a_turn_is_read_from_the_access_log() -> None:
    watch = importlib.import_module("server_watch")
    lines = [
        "2026-01-02 03:04:05,500 1-2 127.0.0.1 POST /v1/x 200 model=m prompt=4 new=3 "
        "waited=1.250s 3.000s",
        "2026-01-02 03:04:05,500 1-3 127.0.0.1 POST /v1/x 503 0.500s",
        "2026-01-02 03:04:05,500 loaded m in 1.0 s",
    ]
    turns = watch.turns_of(lines)
    assert [*turns] == ["1-2", "1-3"]
    ended = turns["1-2"].ended
    assert turns["1-2"] == watch.Turn(ended - 3, ended - 1.75, ended)
    assert turns["1-3"] == watch.Turn(ended - 0.5, ended - 0.5, ended)
