"""An error that comes from elsewhere, between any two lines of a step.

Ctrl-C waits until a step is over, but a debugger, a program that embeds Python, or one with a
handler of its own may raise anywhere.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

import localgen
from localgen.generation.call import GenerationCall
from localgen.generation.text_arguments import text_arguments
from tests.fakes import FakeModel, engine_of, fake_model, reference_greedy

PACKAGE = Path(localgen.__file__).parent
BEAMS = PACKAGE / "generation" / "beam_strategy.py"
FILES = frozenset(map(str, (*PACKAGE.glob("engine/*.py"), BEAMS)))
PROMPTS = [["the first", "the first"], ["another that takes two passes"]]
LATER = list(b"the first"), list(b"what comes later")
RIGHT = [reference_greedy(prompt, 2) for prompt in LATER]
Options = dict[str, Any]
OPTIONS: list[Options] = [
    {"repetition_penalty": 1.2, "logprobs": 2, "stop_strings": ["zz"]},
    {"prompt_lookup_num_tokens": 3},
    {"guidance_scale": 1.5},
    {"num_beams": 2},
]
Line = tuple[CodeType, int]


class Interruption:
    """Raises KeyboardInterrupt before the line of this number; lines of ``FILES`` are counted."""

    def __init__(self, number: int | None) -> None:
        self._number = number
        self.lines: list[Line] = []

    def trace(self, frame: FrameType, event: str, _argument: object) -> Any:
        if frame.f_code.co_filename not in FILES:
            return None
        if event == "line":
            self.lines.append((frame.f_code, frame.f_lineno))
            if len(self.lines) - 1 == self._number:
                raise KeyboardInterrupt
        return self.trace


def calls(model: FakeModel, options: Options) -> list[GenerationCall]:
    options = {"max_new_tokens": 3, "do_sample": False, **options}
    return [model._requests.from_texts(text_arguments(prompts, **options)) for prompts in PROMPTS]


def run(model: FakeModel, made: list[GenerationCall], number: int | None = None) -> list[Line]:
    """Run calls together to their end; return the lines up to an error before that one."""
    engine, interruption = engine_of(model), Interruption(number)
    for call in made:
        engine.submit(call.request)
    tracing = sys.gettrace()
    trace: Any = interruption.trace
    n_steps = 0
    while not all(call.request.done for call in made):
        n_steps += 1
        assert n_steps < 100, "a request was lost"
        sys.settrace(trace)
        try:
            engine.step()
        except KeyboardInterrupt:
            trace = tracing
        finally:
            sys.settrace(tracing)
    return interruption.lines


def texts(call: GenerationCall) -> list[list[int]]:
    return [each.new_token_ids.tolist() for each in call.sequences]


@pytest.mark.slow
def test_an_error_at_any_line() -> None:
    """Each call ends as it would have, or with "cancelled", and only one of them does; the engine
    is idle and exact after it. Each line is tried where it is reached first."""
    tried: set[Line] = set()
    n_cancelled = 0
    for options in OPTIONS:
        model = fake_model()
        expected = calls(model, options)
        for number, line in enumerate(run(model, expected)):
            if line not in tried:
                tried.add(line)
                n_cancelled += check(options, expected, number, line)
    assert len(tried) > 700
    assert n_cancelled < len(tried) / 4


def check(options: Options, expected: list[GenerationCall], number: int, line: Line) -> int:
    """Make calls with an error before this line; return how many of them it ended."""
    model = fake_model()
    made = calls(model, options)
    assert run(model, made, number)[-1] == line
    n_cancelled = 0
    for call, whole in zip(made, expected, strict=True):
        assert call.request.error is None, line
        if any(each.finish_reason == "cancelled" for each in call.sequences):
            n_cancelled += 1
        else:
            assert texts(call) == texts(whole), line
    assert n_cancelled <= 1, line
    engine = engine_of(model)
    assert (engine.idle, engine.kv_cache.n_pinned) == (True, 0), line
    after = model.complete([*LATER], max_new_tokens=2)
    assert [each.token_ids for each in after] == RIGHT, line
    return n_cancelled
