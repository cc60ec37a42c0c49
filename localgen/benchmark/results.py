"""What was measured, as types and as JSON; it measures nothing."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from localgen.benchmark.cases import Case
from localgen.benchmark.measuring import Spread

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchTest:
    """One case: seconds of each round, localgen's and those of llama.cpp alone, taken by turns.

    localgen_seconds: of the whole call. ttft_seconds: from its start to the first token of the
    first row. llama_cpp_seconds: of the same passes. not_measured: why there are no rounds.
    """

    case: Case
    localgen_seconds: tuple[float, ...] = ()
    llama_cpp_seconds: tuple[float, ...] = ()
    ttft_seconds: tuple[float, ...] = ()
    not_measured: str | None = None

    def with_round(self, *, localgen: float, llama_cpp: float, ttft: float) -> BenchTest:
        """The same with the seconds of one round more."""
        return dataclasses.replace(
            self,
            localgen_seconds=(*self.localgen_seconds, localgen),
            llama_cpp_seconds=(*self.llama_cpp_seconds, llama_cpp),
            ttft_seconds=(*self.ttft_seconds, ttft),
        )

    @property
    def localgen_tps(self) -> Spread | None:
        """Tokens per second, of all rows together; None without a round, as all of these."""
        return _spread(self.case.n_tokens / seconds for seconds in self.localgen_seconds)

    @property
    def llama_cpp_tps(self) -> Spread | None:
        return _spread(self.case.n_tokens / seconds for seconds in self.llama_cpp_seconds)

    @property
    def ratio(self) -> Spread | None:
        """localgen's speed by llama.cpp's, taken in each round: 1 means that it adds nothing."""
        rounds = zip(self.llama_cpp_seconds, self.localgen_seconds, strict=True)
        return _spread(llama_cpp / localgen for llama_cpp, localgen in rounds)

    @property
    def ttft(self) -> Spread | None:
        """Seconds to the first token."""
        return _spread(self.ttft_seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchMemory:
    """Bytes.

    peak_rss_bytes: the most that the process held, mapped weights included; None if it had held
    more before the model was loaded. before_bytes: the most that it had held by then.
    estimated_ram_bytes, estimated_gpu_bytes: what the largest context of all tests, and the
    weights, were estimated to take (see ``localgen.inspect``).
    """

    peak_rss_bytes: int | None
    before_bytes: int
    estimated_ram_bytes: int
    estimated_gpu_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchSetup:
    """What was measured, with which settings and where.

    file: its name. file_bytes: of all shards. device: "cpu", or the GPUs. n_gpu_layers: -1 means
    all. flash_attention: "auto" leaves it to llama.cpp. machine: versions, CPU and platform.
    """

    file: str
    file_bytes: int
    architecture: str
    n_weights: int
    level: str | None
    bits_per_weight: float
    n_threads: int
    device: str
    n_gpu_layers: int
    flash_attention: str
    kv_type: str
    n_batch: int
    machine: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchResult:
    """How fast a model is here; ``tests`` in the order in which they ran.

    load_seconds: its file checked and loaded, llama.cpp's library being there already.
    """

    setup: BenchSetup
    load_seconds: float
    memory: BenchMemory
    tests: tuple[BenchTest, ...]

    def __getitem__(self, name: str) -> BenchTest:
        """The first test of that name, as "tg128"; KeyError if there is none."""
        for test in self.tests:
            if test.case.name == name:
                return test
        names = dict.fromkeys(test.case.name for test in self.tests)
        raise KeyError(f"{name!r} is no test; {', '.join(names)} are")

    @property
    def cold(self) -> BenchTest | None:
        """The longest prompt from an empty cache, whose ``ttft`` is a fresh call's."""
        return self._longest(cached=False)

    @property
    def cached(self) -> BenchTest | None:
        """A short prompt after that one, cached: its ``ttft`` is that of a chat's next turn."""
        return self._longest(cached=True)

    def _longest(self, *, cached: bool) -> BenchTest | None:
        found = [
            test
            for test in self.tests
            if test.case.kind == "prefill" and bool(test.case.n_cached) == cached and test.ttft
        ]
        return max(found, key=lambda test: test.case.length, default=None)

    def to_json(self) -> str:
        """One JSON object on one line: all rounds, and what follows from them."""
        data = dataclasses.asdict(self)
        data["tests"] = [_as_json(test) for test in self.tests]
        return json.dumps({"schema": SCHEMA, **data})


def _as_json(test: BenchTest) -> dict[str, Any]:
    data = dataclasses.asdict(test)
    spreads = {
        name: getattr(test, name) for name in ("localgen_tps", "llama_cpp_tps", "ratio", "ttft")
    }
    return {
        "name": test.case.name,
        "n_tokens": test.case.n_tokens,
        **data.pop("case"),
        **data,
        **{name: each and dataclasses.asdict(each) for name, each in spreads.items()},
    }


def _spread(values: Iterable[float]) -> Spread | None:
    values = tuple(values)
    return Spread.of(values) if values else None
