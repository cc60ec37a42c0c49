"""The sequences of one call on their way through the engine, and where the call's time went."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from localgen.engine.decoding import DecodingStrategy, SamplingStrategy
from localgen.engine.sequence import Sequence


@dataclass(slots=True)
class Timings:
    """Seconds of the steps that a request took part in: forward passes with prompt tokens, without,
    choosing tokens, drafting tokens, and Python bookkeeping. wait: seconds in which only others had
    their turn. n_threads: CPU threads of the last pass; 0 before it.
    """

    prefill: float = 0.0
    decode: float = 0.0
    sample: float = 0.0
    draft: float = 0.0
    overhead: float = 0.0
    wait: float = 0.0
    n_threads: int = 0

    @property
    def total(self) -> float:
        in_passes = self.prefill + self.decode
        return in_passes + self.sample + self.draft + self.overhead + self.wait

    def count_wait(self, started: float, counted: float) -> None:
        """Count the time since ``started`` as waiting, but for what steps have counted since
        ``total`` was ``counted``."""
        self.wait += max(0.0, time.perf_counter() - started - (self.total - counted))


@dataclass(slots=True, eq=False)
class Request:
    """Sequences that were asked for together, and the strategy that decodes them.

    cancel: an event of the caller's that ends its sequences with "cancelled". error: what ended
    them instead of a ``finish_reason``; it is for the caller to raise.
    """

    sequences: list[Sequence]
    cancel: threading.Event | None = None
    strategy: DecodingStrategy = field(default_factory=SamplingStrategy)
    timings: Timings = field(default_factory=Timings)
    error: BaseException | None = None
    is_cancelled: bool = False
    n_unfinished: int = field(init=False)

    def __post_init__(self) -> None:
        self.n_unfinished = len(self.sequences)

    @property
    def done(self) -> bool:
        return not self.n_unfinished

    @property
    def is_stopped(self) -> bool:
        """Whether somebody, perhaps in another thread, asked for its end."""
        return self.is_cancelled or (self.cancel is not None and self.cancel.is_set())
