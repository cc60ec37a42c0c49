"""The types of the results and their JSON; it measures nothing."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from localgen.benchmark.cases import N_AFTER_PREFIX, Case
from localgen.benchmark.measuring import Spread

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchTest:
    """One case: the seconds of each round, of localgen and of llama.cpp alone, in alternation.

    localgen_seconds: of the whole call. ttft_seconds: from its start to the first token of the
    first sequence. llama_cpp_seconds: of the same passes. not_measured: why there are no rounds.
    """

    case: Case
    localgen_seconds: tuple[float, ...] = ()
    llama_cpp_seconds: tuple[float, ...] = ()
    ttft_seconds: tuple[float, ...] = ()
    not_measured: str | None = None

    def with_round(self, *, localgen: float, llama_cpp: float, ttft: float) -> BenchTest:
        """Return a copy with the seconds of one more round."""
        return dataclasses.replace(
            self,
            localgen_seconds=(*self.localgen_seconds, localgen),
            llama_cpp_seconds=(*self.llama_cpp_seconds, llama_cpp),
            ttft_seconds=(*self.ttft_seconds, ttft),
        )

    @property
    def localgen_tps(self) -> Spread | None:
        """Tokens per second of all sequences together; None without rounds."""
        return _spread(self.case.n_tokens / seconds for seconds in self.localgen_seconds)

    @property
    def llama_cpp_tps(self) -> Spread | None:
        """llama.cpp's tokens per second; None without rounds."""
        return _spread(self.case.n_tokens / seconds for seconds in self.llama_cpp_seconds)

    @property
    def ratio(self) -> Spread | None:
        """localgen's speed divided by llama.cpp's, in each round: 1 means no overhead."""
        rounds = zip(self.llama_cpp_seconds, self.localgen_seconds, strict=True)
        return _spread(llama_cpp / localgen for llama_cpp, localgen in rounds)

    @property
    def ttft(self) -> Spread | None:
        """Seconds to the first token; None without rounds."""
        return _spread(self.ttft_seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchMemory:
    """Bytes.

    peak_rss_bytes: the process's peak, mapped weights included; None if the peak was before the
    model was loaded. before_bytes: the peak before that. estimated_ram_bytes, estimated_gpu_bytes:
    the estimate for the weights and the largest context of all tests (see ``localgen.inspect``).
    """

    peak_rss_bytes: int | None
    before_bytes: int
    estimated_ram_bytes: int
    estimated_gpu_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchSetup:
    """What was measured, with which settings and where.

    file: its name. file_bytes: of all shards. device: "cpu", or the GPUs' names. n_gpu_layers: -1
    means all. flash_attention: "auto" lets llama.cpp decide. machine: versions, CPU and platform.
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
    """How fast a model is here; ``tests`` are in the order in which they ran.

    load_seconds: to check and load the file, without loading llama.cpp's library.
    """

    setup: BenchSetup
    load_seconds: float
    memory: BenchMemory
    tests: tuple[BenchTest, ...]

    def __getitem__(self, name: str) -> BenchTest:
        """Return the first test of that name, such as "tg128"; raise KeyError if there is none."""
        for test in self.tests:
            if test.case.name == name:
                return test
        names = dict.fromkeys(test.case.name for test in self.tests)
        raise KeyError(f"no test is called {name!r}; the tests are {', '.join(names)}")

    @property
    def cold(self) -> BenchTest | None:
        """The longest prompt with an empty cache, whose ``ttft`` is that of a first call."""
        return self._longest(lambda case: not case.n_cached)

    @property
    def cached(self) -> BenchTest | None:
        """A short prompt after that one, cached: its ``ttft`` is that of a chat's next turn."""
        n_cached = self.cold.case.n_prompt if self.cold else 0
        return self._longest(
            lambda case: (
                n_cached > 0 and (case.n_cached, case.n_prompt) == (n_cached, N_AFTER_PREFIX)
            )
        )

    def _longest(self, is_meant: Callable[[Case], bool]) -> BenchTest | None:
        found = [
            test
            for test in self.tests
            if test.case.kind == "prefill" and is_meant(test.case) and test.ttft
        ]
        return max(found, key=lambda test: test.case.length, default=None)

    def to_json(self) -> str:
        """Return one line of JSON: all rounds, and the figures computed from them."""
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
