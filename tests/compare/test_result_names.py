"""Names of results that are shown together."""

from __future__ import annotations

from typing import Any

from localgen.compare.result_names import result_names

LAPTOP: dict[str, Any] = {
    "source": "model-F16.gguf",
    "date": "2026-11-28 09:15",
    "cpu": "A CPU",
    "n_threads": 2,
    "n_ctx": 512,
    "n_chunks": 16,
    "kv_types": ["f16", "q8_0"],
    "text_sha256": "0123456789abcdef",
    "localgen": "0.1.0",
}


def _names(*settings: dict[str, Any]) -> list[str]:
    found = result_names({f"#{number}": part for number, part in enumerate(settings, 1)})
    assert list(found) == [f"#{number}" for number in range(1, len(settings) + 1)]
    return [*found.values()]


def test_machines_go_by_their_processor() -> None:
    server = {**LAPTOP, "cpu": "Another CPU", "n_threads": 16, "n_chunks": 4}
    assert _names(LAPTOP, server) == ["#1, A CPU, 2 threads", "#2, Another CPU, 16 threads"]


def test_results_of_one_machine_have_their_date_and_what_differs() -> None:
    """Regression: both had the same name. Only the first three differences are named."""
    later = {**LAPTOP, "date": "2026-11-29 18:00", "n_chunks": 64}
    server = {**LAPTOP, "cpu": "Another CPU"}
    assert _names(LAPTOP, server, later) == [
        "#1, A CPU, 2 threads, 2026-11-28 09:15, 16 chunks",
        "#2, Another CPU, 2 threads",
        "#3, A CPU, 2 threads, 2026-11-29 18:00, 64 chunks",
    ]
    other = {**later, "source": "other.gguf", "text_sha256": "fedcba9876543210"}
    assert (
        _names(LAPTOP, other)[1] == "#2, A CPU, 2 threads, other.gguf, 2026-11-29 18:00, 64 chunks"
    )


def test_each_setting_is_shown_in_words() -> None:
    changed: list[tuple[dict[str, Any], str]] = [
        ({"n_ctx": 4096}, "4096 tokens per chunk"),
        ({"text_sha256": "fedcba9876543210"}, "text fedcba98"),
        ({"kv_types": ["f16"]}, "KV cache f16"),
        ({"localgen": "0.2.0"}, "localgen 0.2.0"),
        ({"devices": ["cpu", "cuda"]}, "on cpu, cuda"),
    ]
    for change, text in changed:
        assert _names(LAPTOP, {**LAPTOP, **change})[1] == f"#2, A CPU, 2 threads, {text}"


def test_results_that_are_the_same_have_their_number() -> None:
    assert _names({}, {}) == ["#1", "#2"]
    assert _names({"machine": "arm64", "n_threads": 1}) == ["#1, arm64, 1 thread"]
    assert result_names({"": LAPTOP}) == {"": ""}
