"""One call on its way: what was asked for, and its request in the engine."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from localgen.config import GenerationConfig
from localgen.engine.decoding import DecodingStrategy
from localgen.engine.guidance import GuidanceStrategy
from localgen.engine.request import Request
from localgen.engine.sequence import Sequence
from localgen.generation.beam_strategy import BeamStrategy
from localgen.generation.constraining import Constraint
from localgen.generation.inputs import Prompts
from localgen.generation.sequences import Key
from localgen.generation.text_tracker import Clock


@dataclass(slots=True, kw_only=True)
class GenerationCall:
    """The sequences of one call, ``num_return_sequences`` for each prompt.

    configs: one for each prompt. keys: of each sequence's random stream. pad_token_id: what pads
    the rows of ``generate()``. started: ``time.perf_counter()`` when the call came in.
    preparing_seconds: what it took until its request was ready, tokenizing excepted. text_clock:
    the time that text takes while it runs, finishing_clock: and when it is finished. away_seconds:
    what the caller did between the pieces of a stream. guide_of: the guide of each guided sequence.
    constraint_of: the constraint of each sequence that has one.
    beams, results: of a beam search, whose request has more sequences than the call returns.
    """

    request: Request
    prompts: Prompts
    configs: list[GenerationConfig]
    keys: list[Key]
    n_vocab: int
    started: float
    preparing_seconds: float
    text_clock: Clock
    beams: BeamStrategy | None = None
    results: list[Sequence] | None = None
    finishing_clock: Clock = field(default_factory=Clock, init=False)
    pad_token_id: int = 0
    guide_of: dict[Sequence, Sequence] = field(default_factory=dict)
    constraint_of: dict[Sequence, Constraint] = field(default_factory=dict)
    away_seconds: float = field(default=0.0, init=False)
    _left_at: float | None = field(default=None, init=False)

    @property
    def sequences(self) -> list[Sequence]:
        """What the call returns: of beams, the best texts, which are known when they are done."""
        if self.beams is not None and self.results is not None:
            if self.request.done:
                self.beams.finish()
            return self.results
        if not self.guide_of:
            return self.request.sequences
        guides = set(self.guide_of.values())
        return [each for each in self.request.sequences if each not in guides]

    def use(self, strategy: DecodingStrategy) -> None:
        """Let ``strategy`` decode the sequences that give a result."""
        if self.guide_of:
            strategy = GuidanceStrategy(strategy, self.guide_of)
        self.request.strategy = strategy

    def leave(self) -> None:
        """Note that the caller has the control now, unless it had it already."""
        if self._left_at is None:
            self._left_at = time.perf_counter()

    def resume(self, *, starts: bool = False) -> None:
        """Note that the caller waits again; ``starts``: for the first time, so that the call counts
        from now on."""
        if self._left_at is None:
            return
        away, self._left_at = time.perf_counter() - self._left_at, None
        if starts:
            self.started += away
        else:
            self.away_seconds += away

    @property
    def elapsed(self) -> float:
        """Seconds that the caller has waited for this call."""
        now = time.perf_counter() if self._left_at is None else self._left_at
        return now - self.started - self.away_seconds
