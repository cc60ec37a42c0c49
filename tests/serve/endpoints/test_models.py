"""/v1/models and /v1/models/{id}."""

from __future__ import annotations

from starlette.testclient import TestClient

from localgen.serve.app import create_app
from localgen.serve.config import ServeConfig
from localgen.serve.pool import ModelPool
from localgen.serve.served_model import ServedModel
from tests.fakes import fake_model

MODELS = [
    ServedModel(names=("org/small:Q4_K_M", "gpt-4o"), source="/secret/a.gguf", created=17),
    ServedModel(names=("big",), source="/secret/b.gguf"),
]  # fmt: skip


def client() -> TestClient:
    pool = ModelPool(MODELS, lambda *_: fake_model())
    return TestClient(create_app(pool, ServeConfig()), base_url="http://localhost")


def test_every_name_is_listed_with_the_model_that_it_means() -> None:
    answer = client().get("/v1/models")
    found = answer.json()
    assert found["object"] == "list"
    assert [(each["id"], each["root"], each["status"]) for each in found["data"]] == [
        ("org/small:Q4_K_M", "org/small:Q4_K_M", "unloaded"),
        ("gpt-4o", "org/small:Q4_K_M", "unloaded"),
        ("big", "big", "unloaded"),
    ]
    assert found["data"][0]["created"] == 17
    assert {each["object"] for each in found["data"]} == {"model"}
    assert "secret" not in answer.text


def test_one_model_by_a_name_with_slashes() -> None:
    answer = client().get("/v1/models/org/small:Q4_K_M")
    assert answer.status_code == 200
    assert answer.json()["id"] == "org/small:Q4_K_M"


def test_an_unknown_model() -> None:
    answer = client().get("/v1/models/gpt-5")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"
    assert "'big'" in answer.json()["error"]["message"]


def test_a_loaded_model_says_how_long_a_text_it_takes() -> None:
    with client() as web:
        body = {"model": "big", "prompt": "x", "max_tokens": 1}
        assert web.post("/v1/completions", json=body).status_code == 200
        found = web.get("/v1/models/big").json()
    assert found["status"] == "loaded"
    assert found["max_model_len"] > 0
