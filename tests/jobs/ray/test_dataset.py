"""Datasets on a real Ray, with actors that run SmolLM2."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

pyarrow: Any = pytest.importorskip("pyarrow", reason="needs the extra localgen[ray]")
ray: Any = pytest.importorskip("ray", reason="needs the extra localgen[ray]")

from localgen.errors import ActorsDoNotFitError, RayJobError  # noqa: E402
from localgen.jobs.ray import GenerateActor, generate  # noqa: E402
from localgen.jobs.ray.columns import error_of  # noqa: E402
from localgen.jobs.ray.dataset import group  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.real,
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield
    ray.shutdown()


def rows(n: int) -> list[dict[str, Any]]:
    params = {"max_tokens": 6, "temperature": 0.9}
    return [
        {"id": i, "prompt": f"Number {i} is", "sampling_params": params, "topic": str(i)}
        for i in range(n)
    ]


def run(given: list[dict[str, Any]], **options: Any) -> list[dict[str, Any]]:
    dataset = ray.data.from_items(given)
    found: list[dict[str, Any]] = generate(dataset, "smollm2", **options).take_all()
    return found


def test_any_number_of_actors_gives_the_same_texts_in_the_same_order() -> None:
    loading = {"deterministic": True}
    one, two = (
        run(rows(24), n_actors=n, num_cpus=2 / n, preserve_order=True, load_options=loading)
        for n in (1, 2)
    )
    assert one == two
    assert [row["id"] for row in one] == list(range(24))
    assert all(row["topic"] == str(row["id"]) and row["error"] is None for row in one)


def test_as_many_actors_as_cpus_leave_ray_one_to_move_rows() -> None:
    """Ray waited for ever for a CPU to run ``preprocess`` on."""
    found = run(rows(2), n_actors=2, preprocess=lambda row: {"prompt": f"So {row['prompt']}"})
    assert sorted(row["id"] for row in found) == [0, 1]
    assert all(row["error"] is None for row in found)


@pytest.mark.parametrize("options", [
    {"n_actors": 3}, {"n_actors": (3, 9)}, {"num_cpus": 4}, {"num_gpus": 1}, {"memory": 2**50},
])  # fmt: skip
def test_actors_for_which_the_cluster_has_no_room_are_refused_with_numbers(
    options: dict[str, Any],
) -> None:
    with pytest.raises(ActorsDoNotFitError, match=r"the cluster has 1 node of 2 CPUs") as found:
        run(rows(1), **options)
    assert found.value.n_actors == (3 if "n_actors" in options else 1)
    assert found.value.n_fit == (2 if "n_actors" in options else 0)


def test_a_wrong_row_fails_alone() -> None:
    given = rows(3)
    given[1]["sampling_params"] = {"max_tokens": 0, "temperature": 1.0}
    found = {row["id"]: row for row in run(given)}
    assert "max_new_tokens must be at least 1" in found[1]["error"]
    assert found[0]["error"] is found[2]["error"] is None


def actors() -> list[psutil.Process]:
    """The processes of the pool."""
    found = []
    for each in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has ended since
            if "GenerateActor" in "".join(each.cmdline()):
                found.append(each)
    return found


def test_an_actor_that_is_killed_loses_no_row() -> None:
    dataset = ray.data.from_items(rows(96), override_num_blocks=12)
    found: list[dict[str, Any]] = []
    for row in generate(dataset, "smollm2", batch_size=4).iter_rows():
        if not found:
            for each in actors():
                each.kill()
        found.append(row)
    assert sorted(row["id"] for row in found) == list(range(96))
    assert all(row["error"] is None for row in found)


def test_the_rows_of_one_block_are_spread_over_the_actors() -> None:
    dataset = ray.data.from_items(rows(256), override_num_blocks=1)
    blocks = generate(dataset, "smollm2", batch_size=4).materialize()
    assert blocks.num_blocks() > 8


def preprocess(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "messages": [
            {"role": "system", "content": "You are a calculator."},
            {"role": "user", "content": f"{row['id']} + 1 = ?"},
        ],
        "sampling_params": {"temperature": 0.3, "max_tokens": 8, "detokenize": False},
    }


def postprocess(row: dict[str, Any]) -> dict[str, Any]:
    return {"answer": row["generated_text"].upper(), **row}


def test_functions_written_for_build_processor_get_and_give_its_columns() -> None:
    dataset = ray.data.range(6)
    found = generate(dataset, "smollm2", preprocess=preprocess, postprocess=postprocess).take_all()
    assert sorted(row["id"] for row in found) == list(range(6))
    for row in found:
        assert row["answer"] == row["generated_text"].upper()
        assert row["num_generated_tokens"] == len(row["generated_tokens"]) <= 8
        assert row["num_input_tokens"] > 10
        assert {"messages", "sampling_params"} < row.keys()


def test_a_row_that_failed_is_not_postprocessed() -> None:
    given = rows(2)
    given[1]["sampling_params"] = {"max_tokens": 0, "temperature": 1.0}
    found = generate(ray.data.from_items(given), "smollm2", postprocess=postprocess).take_all()
    (failed,) = [row for row in found if row["error"]]
    assert failed["id"] == 1
    assert failed.get("answer") is None


def test_numbers_that_only_some_rows_have_stay_whole() -> None:
    given = [{"prompt": "a", "max_new_tokens": 3}, {"prompt": "b"}]
    dataset = ray.data.from_items(given, override_num_blocks=1)
    found = generate(dataset, "smollm2", max_new_tokens=5, min_new_tokens=3).take_all()
    by_prompt = {row["prompt"]: row for row in found}
    assert [row["error"] for row in found] == [None, None]
    assert by_prompt["a"]["num_generated_tokens"] == by_prompt["a"]["max_new_tokens"] == 3
    assert by_prompt["b"]["max_new_tokens"] is None


def test_a_long_row_holds_back_no_row_of_later_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A barrier at the end of a batch of 4 would leave its other slots empty for ever."""

    class Waiting(GenerateActor):
        def __init__(self, *_: object, **__: object) -> None:
            self.n_ended = 0
            self.many_ended = asyncio.Event()

        async def _result(self, given: Any) -> dict[str, Any]:
            if given["id"] == 0:
                await asyncio.wait_for(self.many_ended.wait(), 100)
            self.n_ended += 1
            if self.n_ended == 40:
                self.many_ended.set()
            return error_of(ValueError("no model"))

    monkeypatch.setattr("localgen.jobs.ray.dataset.GenerateActor", Waiting)
    found = run(rows(64), batch_size=4, load_options={"max_sequences": 32})
    assert sorted(row["id"] for row in found) == list(range(64))


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ({}, ("cpu", 2)),
        ({"n_threads": 1}, ("cpu", 1)),
        ({"device": "auto"}, ("auto", 2)),
        ({"n_gpu_layers": 0}, ("auto", 2)),
    ],
)
def test_models_follow_the_resources_of_their_actors_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], used: tuple[str, int]
) -> None:
    class Telling(GenerateActor):
        async def __call__(self, _: Any) -> Any:
            config = self._model._model.config
            yield {"used": [(config.device, config.n_threads)]}

    monkeypatch.setattr("localgen.jobs.ray.dataset.GenerateActor", Telling)
    (found,) = run(rows(1), num_cpus=2, load_options=given)
    assert tuple(found["used"]) == used


def test_the_name_that_ray_data_has_for_the_number_of_actors_is_refused_with_ours() -> None:
    with pytest.raises(TypeError, match="unknown option 'concurrency'; n_actors is"):
        generate(ray.data.from_items([{"prompt": "a"}]), "smollm2", concurrency=2)


def test_ray_client_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    given = ray.data.from_items([{"prompt": "a"}])
    monkeypatch.setattr("localgen.jobs.ray.dataset.client.is_connected", lambda: True)
    with pytest.raises(RayJobError, match="Ray Client"):
        generate(given, "smollm2")


def test_rows_that_begin_alike_become_neighbours() -> None:
    table = pyarrow.table({"prompt": [f"{i % 3}: {i}" for i in range(9)], "n": range(9)})
    assert group(table)["n"].to_pylist() == [0, 3, 6, 1, 4, 7, 2, 5, 8]
    assert group(table.slice(0, 0)).num_rows == 0


def test_log_probabilities_are_returned_as_json() -> None:
    given: list[dict[str, Any]] = [{"prompt": "One", "logprobs": 2}, {"prompt": "Two"}]
    one, two = sorted(run(given, max_new_tokens=3), key=lambda row: str(row["prompt"]))
    steps = json.loads(one["generated_logprobs"])
    assert [step["token_id"] for step in steps] == list(one["generated_tokens"])
    assert all(len(step["top"]) == 2 for step in steps)
    assert two["generated_logprobs"] is None


def test_chats_are_answered() -> None:
    given = [{"messages": [{"role": "user", "content": "Say hi."}], "max_new_tokens": 8}]
    (found,) = run(given)
    assert found["generated_text"]
    assert found["num_generated_tokens"] <= 8
    assert found["finish_reason"] in ("eos", "length")
