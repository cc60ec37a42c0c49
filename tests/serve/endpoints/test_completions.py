"""/v1/completions: its answers, its streams, echoes and log-probabilities."""

from __future__ import annotations

import pytest

from tests.fakes import fake_model, reference_greedy
from tests.serve.conftest import Serve, chunks_of

PATH = "/v1/completions"


def test_prompts_of_each_form(serve: Serve) -> None:
    client = serve(fake_model())
    text = bytes(reference_greedy([*b"abc"], 5)).decode()
    for prompt, n_choices in (("abc", 1), ([97, 98, 99], 1), (["abc", "abc"], 2)):
        answer = client.post(PATH, json={"prompt": prompt, "max_tokens": 5, "temperature": 0})
        choices = answer.json()["choices"]
        assert [each["text"] for each in choices] == [text] * n_choices
        assert [each["index"] for each in choices] == list(range(n_choices))


def test_each_chunk_has_the_usage_so_far_if_asked_for(serve: Serve) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    body = {"prompt": ["abc", "de"], "n": 2, "max_tokens": 4, "temperature": 1, "seed": 1,
            "stream": True, "stream_options": options}  # fmt: skip
    *chunks, last = chunks_of(serve(fake_model()).post(PATH, json=body).text)
    counts = [each["usage"]["completion_tokens"] for each in chunks]
    assert counts == sorted(counts)
    assert chunks[-1]["usage"] == last["usage"]
    assert last["usage"]["prompt_tokens"] == 5


def test_an_echo_has_the_logprobs_of_the_prompt(serve: Serve) -> None:
    model = fake_model()
    body = {"prompt": "abc", "echo": True, "logprobs": 2, "max_tokens": 2, "temperature": 0}
    (choice,) = serve(model).post(PATH, json=body).json()["choices"]
    found = choice["logprobs"]
    assert choice["text"][:3] == "abc"
    assert "".join(found["tokens"]) == choice["text"]
    assert found["token_logprobs"][0] is None
    assert found["text_offset"] == list(range(5))
    scores = model.score("abc").tolist()
    assert found["token_logprobs"][1:3] == pytest.approx(scores, abs=1e-4)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"suffix": "x"}, "suffix"),
        ({"best_of": 2}, "best_of"),
        ({"prompt": ["a" * 2**19, "b" * 2**19, "c"]}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"min_tokens": 20}, "min_tokens"),
        ({"prompt": ""}, "prompt"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(
    serve: Serve, fields: dict[str, object], param: str
) -> None:
    response = serve(fake_model()).post(PATH, json={"prompt": "abc", **fields})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param
