"""Drafts by a second, smaller model, which runs in an engine of its own.

Each sequence of the target model has a follower in the draft model's engine: the same tokens, and
then those that it drafts. One pass of the draft model gives a token for every sequence that still
drafts. After the target's pass a follower takes back what was rejected, and computes only what is
new. It knows token ids and logits, and two engines; see ``acceptance`` for what is kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from localgen.engine.acceptance import Distribution
from localgen.engine.backend import Backend, Logits
from localgen.engine.decoding import Output, Step
from localgen.engine.draft_gain import DraftGain
from localgen.engine.engine import Engine
from localgen.engine.pass_costs import PassCosts
from localgen.engine.request import Request
from localgen.engine.sampling.chain import Sampler
from localgen.engine.sequence import Sequence
from localgen.engine.speculation import NO_DRAFT, Draft, decline
from localgen.engine.uniforms import UniformStream
from localgen.errors import BackendError, LocalgenError

# A follower is never full before its sequence is: its last draft may reach over the end.
_SPARE_TOKENS = 2
# Its own random numbers, apart from those of sequences, which are numbered from 0.
_FIRST_STREAM = 2**63
_N_PROBED = 3
_UNTRIED = "the text ended before there was a draft"
_UNREAD = "reading the text would take the draft model longer than its drafts are likely to save"
# A follower that lacks no more tokens than this, beside a draft, drafts without being asked.
_N_NEAR = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafting:
    """How drafts of one sequence are made.

    sampler: with the options of its sequence, for the draft model's logits. seed: of the draft's
    own random numbers. most: the most tokens of a draft; schedule: "constant", or "heuristic" to
    adapt it to what is accepted. threshold: a draft ends with a token that is less likely.
    is_drawn: whether tokens are drawn from the draft model's distribution, with random numbers of
    their own, for ``acceptance``. Otherwise a token is what the target's own sampler would choose
    from the draft model's logits, by the random number that it will use itself.
    """

    sampler: Sampler
    seed: int
    most: int
    schedule: str
    threshold: float
    is_drawn: bool


class Follower:
    """The draft model's side of one sequence; the decoding strategy of its own request."""

    def __init__(self, target: Sequence, drafting: Drafting, n_vocab: int, n_ctx: int) -> None:
        self.target = target
        self.drafting = drafting
        self.most = drafting.most
        self._n_vocab = n_vocab
        capacity = min(len(target.tokens) + _SPARE_TOKENS, n_ctx)
        self._stream = UniformStream(drafting.seed, _FIRST_STREAM + target.index)
        prompt_ids = target.token_ids.copy()
        n_new = capacity - target.n_tokens
        trackers = drafting.sampler.new_trackers(prompt_ids, n_new)
        if target.constraint is not None:  # what it does not allow would be rejected
            trackers.append(target.constraint.copy())
        self.sequence = Sequence(
            index=target.index,
            prompt_ids=prompt_ids,
            max_new_tokens=n_new,
            eos_token_ids=frozenset(),
            sampler=drafting.sampler,
            uniform=self._stream,
            trackers=tuple(trackers),
        )
        self.request = Request([self.sequence], strategy=self)
        self.is_submitted = self.is_drafting = False
        self.chance = 1.0
        self._limit = 0
        self._n_agreed = target.n_tokens
        self._token_ids: list[int] = []
        self._chances: list[float] = []
        self._distributions: list[Distribution] = []
        self._is_worth: Callable[[Follower], bool] = lambda _: True

    @property
    def is_full(self) -> bool:
        """Whether the draft model's context is too small for the text from now on."""
        return self.target.n_tokens + 1 >= len(self.sequence.tokens)

    @property
    def is_over(self) -> bool:
        """Whether it drafts no more: its sequence or its own request has ended, or is full."""
        return self.is_full or self.target.finish_reason is not None or self.request.done

    @property
    def n_drafted(self) -> int:
        return len(self._token_ids)

    @property
    def n_missing(self) -> int:
        """Tokens of the target that the draft model has not computed."""
        return self.target.n_tokens - min(self.sequence.n_kv, self._n_agreed)

    def submit(self, engine: Engine) -> None:
        """Let the draft model's engine run it, from now on."""
        if not self.is_submitted:
            self.is_submitted = True
            engine.submit(self.request)

    def follow(self, engine: Engine) -> None:
        """Take the target's tokens, after those that both have."""
        own, target = self.sequence, self.target
        n_common = self._n_agreed
        while n_common < min(own.n_tokens, target.n_tokens) and (
            own.tokens[n_common] == target.tokens[n_common]
        ):
            n_common += 1
        own.rollback(own.n_tokens - n_common)
        if own.seq_id is not None and own.n_kv > n_common:
            engine.kv_cache.truncate(own, n_common)
        for token_id in target.tokens[n_common : target.n_tokens].tolist():
            own.accept(token_id)
        if own.n_kv >= own.n_tokens:  # its last token's logits are needed again
            engine.kv_cache.truncate(own, own.n_tokens - 1)
        self._n_agreed = target.n_tokens

    def begin(self, is_worth: Callable[[Follower], bool]) -> None:
        """Draft in the next passes as long as ``is_worth``."""
        own, target = self.sequence, self.target
        if not self.drafting.is_drawn:
            own.uniform = target.uniform.copy()
        self.draft()
        self.chance = 1.0
        n_left = len(target.tokens) - target.n_tokens - 1  # a pass gives one more than its draft
        n_room = len(own.tokens) - own.n_tokens - 1
        self._limit = min(self.most, n_left, n_room)
        self._is_worth = is_worth
        self.is_drafting = self._limit > 0

    def draft(self) -> Draft:
        """Return what was drafted since ``begin``."""
        self.is_drafting = False
        token_ids, chances = tuple(self._token_ids), tuple(self._chances)
        drawn = tuple(self._distributions)
        self._token_ids, self._chances, self._distributions = [], [], []
        return Draft(token_ids, chances, drawn) if token_ids else NO_DRAFT

    def verified(self, n_drafted: int, n_accepted: int) -> None:
        """Adapt the length of drafts, as transformers' heuristic does."""
        if self.drafting.schedule == "constant":
            return
        if n_accepted == n_drafted >= self.most:
            self.most += 2
        elif n_accepted < n_drafted:
            self.most = max(1, self.most - 1)

    def advance(self, outputs: list[Output], step: Step) -> None:
        """Draft a token; see ``DecodingStrategy``."""
        if not outputs or not self.is_drafting or self.sequence.n_pending:
            return
        token_id, chance = self._chosen(_of_width(outputs[0].logits[-1], self._n_vocab))
        self._token_ids.append(token_id)
        self._chances.append(chance)
        self.chance *= chance
        self.sequence.accept(token_id)
        self.is_drafting = (
            len(self._token_ids) < self._limit
            and chance >= self.drafting.threshold
            and not self._is_complete
            and self._is_worth(self)
        )

    @property
    def _is_complete(self) -> bool:
        """Whether its constraint allows nothing after the last token."""
        return self.sequence.constraint is not None and self.sequence.constraint.stops

    def _chosen(self, logits: Logits) -> tuple[int, float]:
        """Return the next token of the draft, and its probability by the draft model."""
        own, sampler = self.sequence, self.drafting.sampler
        if self.drafting.is_drawn:
            q = sampler.distribution(logits, own)
            self._distributions.append(q)
            token_id = q.draw(self._stream())
            return token_id, q.of_one(token_id)
        token_id = sampler.sample(logits, own)
        scores = sampler.process(logits, own)
        best = scores.max()
        return token_id, float(np.exp(scores[token_id] - best) / np.exp(scores - best).sum())


class DraftModel:
    """A draft model beside one target model: its engine, and what it costs and gains there.

    backend: the draft model's, with a KV cache of its own. n_vocab: of the target. One thread at a
    time uses it: the one that drives the target's engine.
    """

    def __init__(self, backend: Backend, n_vocab: int, *, n_ctx: int, max_sequences: int) -> None:
        self._backend = backend
        self._engine = Engine(backend, max_sequences)
        self._n_vocab = n_vocab
        self.n_ctx = n_ctx
        self._followers: dict[Sequence, Follower] = {}
        self.gain = DraftGain()

    def follower(self, target: Sequence, drafting: Drafting) -> Follower | None:
        """Return the follower of a sequence; None if there is no room for one in the context."""
        found = self._followers.get(target)
        if found is None and target.n_tokens + _SPARE_TOKENS < self.n_ctx:
            found = Follower(target, drafting, self._n_vocab, self.n_ctx)
            self._followers[target] = found
        return found

    def retire(self) -> None:
        """End the followers of finished sequences; what they computed stays cached."""
        for target, follower in list(self._followers.items()):
            if target.finish_reason is not None:
                del self._followers[target]
                self._end(follower)

    def _end(self, follower: Follower) -> None:
        if follower.is_submitted and not follower.request.done:
            self._engine.end(follower.request, "cancelled")

    def probe(self, target: Sequence, drafting: Drafting, should_stop: Callable[[], bool]) -> None:
        """Measure a pass of the draft model, on a sequence of one token."""
        short = Sequence(
            index=target.index,
            prompt_ids=target.token_ids[-1:].copy(),
            max_new_tokens=_N_PROBED + 2,
            eos_token_ids=frozenset(),
            sampler=drafting.sampler,
            uniform=target.uniform,
        )
        always = replace(drafting, most=_N_PROBED, threshold=0.0)
        follower = Follower(short, always, self._n_vocab, self.n_ctx)
        follower.submit(self._engine)
        follower.begin(lambda _: True)
        self._run([follower], should_stop)
        self._end(follower)

    def draft(
        self, followers: list[Follower], n_sequences: int, should_stop: Callable[[], bool]
    ) -> None:
        """Let followers draft, in passes that they share, as long as it is worth its time."""
        started = [each for each in followers if self._starts(each, n_sequences)]
        for each in started:
            each.submit(self._engine)
            each.follow(self._engine)
        # A long text is caught up with pass by pass, and meanwhile the target goes on.
        ready = [each for each in started if each.sequence.n_pending < self._backend.n_batch]
        for each in ready:
            each.begin(lambda follower: self._is_worth(follower, ready, n_sequences))
        if started:
            self._run(started, should_stop)

    def _starts(self, follower: Follower, n_sequences: int) -> bool:
        """Return whether a follower is near its sequence, or may come near at little cost."""
        n_missing, target = follower.n_missing, follower.target
        n_left = len(target.tokens) - target.n_tokens
        is_near = n_missing <= follower.most + _N_NEAR
        return is_near or self.gain.is_worth_starting(n_missing, n_left, n_sequences)

    def _is_worth(self, one: Follower, others: list[Follower], n_sequences: int) -> bool:
        n_drafting = max(1, sum(each.is_drafting for each in others))
        n_drafted = sum(each.n_drafted for each in others)
        chance = one.chance * self.gain.acceptance
        return self.gain.is_worth(chance, n_drafting, n_sequences, n_drafted)

    def _run(self, followers: list[Follower], should_stop: Callable[[], bool]) -> None:
        """Run passes until no follower drafts, and one at least; or until ``should_stop()``."""
        is_first = True
        while is_first or any(each.is_drafting and not each.request.done for each in followers):
            started = time.perf_counter()
            n_pending = sum(each.sequence.n_pending for each in followers)
            n_drafting = sum(each.is_drafting for each in followers)
            self._engine.step(should_stop)
            if should_stop():
                return
            seconds = time.perf_counter() - started
            if n_pending > 2 * len(followers):
                self.gain.caught_up(min(n_pending, self._backend.n_batch), seconds)
            else:
                self.gain.spent(seconds)
            if n_pending == n_drafting and not is_first:
                self.gain.drafted(seconds)
            is_first = False


class ModelDrafter:
    """Drafts with a second model for the sequences of one call; implements ``Drafter``.

    drafting_of: how, for each sequence. guarded: runs a function while nobody can free the draft
    model; raises ClosedError if it was freed.
    """

    def __init__(
        self,
        model: DraftModel,
        drafting_of: Mapping[Sequence, Drafting],
        guarded: Callable[[Callable[[], list[Draft]]], list[Draft]] = lambda call: call(),
    ) -> None:
        self._model = model
        self._drafting_of = dict(drafting_of)
        self._guarded = guarded
        self._n_sequences = self._n_drafted = self._n_accepted = 0

    def propose(
        self, sequences: list[Sequence], costs: PassCosts, should_stop: Callable[[], bool]
    ) -> list[Draft]:
        return self._guarded(lambda: self._drafts(sequences, should_stop))

    def _drafts(self, sequences: list[Sequence], should_stop: Callable[[], bool]) -> list[Draft]:
        model, n_sequences = self._model, len(sequences)
        self._count_pass()
        self._n_sequences = n_sequences
        model.retire()
        if n_sequences not in model.gain.plain:
            model.gain.plain.add(n_sequences)
            # The next pass shows what it takes without drafts.
            return _declined(sequences, _UNTRIED)
        if model.gain.pass_seconds is None:
            model.probe(sequences[0], self._drafting_of[sequences[0]], should_stop)
        if not (model.gain.pays(n_sequences) or model.gain.may_retry(n_sequences)):
            return _declined(sequences, model.gain.why_not(n_sequences))
        followers = [self._follower(each) for each in sequences]
        found = [each for each in followers if each is not None]
        model.draft(found, n_sequences, should_stop)
        for each in found:
            if not each.n_drafted:
                decline(each.target, _UNTRIED if each.is_submitted else _UNREAD)
        return [NO_DRAFT if each is None else each.draft() for each in followers]

    def verified(self, sequence: Sequence, draft: Draft, n_accepted: int) -> None:
        n_drafted = len(draft.token_ids)
        self._n_drafted += n_drafted
        self._n_accepted += n_accepted
        self._model.gain.verified(n_drafted, n_accepted)
        follower = self._model.follower(sequence, self._drafting_of[sequence])
        if follower is not None:
            follower.verified(n_drafted, n_accepted)

    def _count_pass(self) -> None:
        if self._n_sequences:
            self._model.gain.passed(self._n_sequences, self._n_drafted, self._n_accepted)
        self._n_drafted = self._n_accepted = 0

    def _follower(self, sequence: Sequence) -> Follower | None:
        follower = self._model.follower(sequence, self._drafting_of[sequence])
        if follower is None or follower.is_full:
            _give_up(
                sequence,
                f"the draft model's n_ctx={self._model.n_ctx} is too small for a text of "
                f"{sequence.n_tokens} tokens; load it with a larger n_ctx",
            )
            return None
        error = follower.request.error
        if isinstance(error, BackendError):
            _give_up(sequence, f"the draft model's KV cache has no room: {error}")
        elif isinstance(error, LocalgenError):
            _give_up(sequence, f"the draft model failed: {error}")
        return None if follower.is_over else follower


def _declined(sequences: list[Sequence], reason: str) -> list[Draft]:
    for sequence in sequences:
        decline(sequence, reason)
    return [NO_DRAFT] * len(sequences)


def _give_up(sequence: Sequence, reason: str) -> None:
    if sequence.speculation is not None:
        sequence.speculation.off_because = reason


def _of_width(logits: Logits, n_vocab: int) -> Logits:
    """Return a row as wide as the target's: the vocabularies may differ in padding at the end."""
    if len(logits) >= n_vocab:
        return logits[:n_vocab]
    row = np.full(n_vocab, -np.inf, np.float32)
    row[: len(logits)] = logits
    return row
