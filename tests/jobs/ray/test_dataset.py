"""Datasets on a real Ray, with actors that run SmolLM2."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psutil
import pytest

ray: Any = pytest.importorskip("ray", reason="needs the extra localgen[ray]")

from localgen.jobs.ray import generate  # noqa: E402

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


def test_a_wrong_row_fails_alone() -> None:
    given = rows(3)
    given[1]["sampling_params"] = {"max_tokens": 0, "temperature": 1.0}
    found = {row["id"]: row for row in run(given)}
    assert "max_new_tokens must be at least 1" in found[1]["error"]
    assert found[0]["error"] is found[2]["error"] is None


def actors() -> list[psutil.Process]:
    """The processes of the pool."""
    children = psutil.Process().children(recursive=True)
    return [each for each in children if "GenerateActor" in "".join(each.cmdline())]


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


def test_chats_are_answered() -> None:
    given = [{"messages": [{"role": "user", "content": "Say hi."}], "max_new_tokens": 8}]
    (found,) = run(given)
    assert found["generated_text"]
    assert found["num_generated_tokens"] <= 8
    assert found["finish_reason"] in ("eos", "length")
