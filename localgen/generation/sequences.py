"""Checked prompts and resolved configs → the sequences of one call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import numpy as np

from localgen.config import GenerationConfig
from localgen.engine.backend import TokenIds
from localgen.engine.constraint import Matcher
from localgen.engine.draft_model import Drafting
from localgen.engine.guidance import guide_for
from localgen.engine.prompt_lookup import LookupTracker
from localgen.engine.recorders import LogprobRecorder, StepRecorder
from localgen.engine.sampling.allowed_tokens import AllowedTokens
from localgen.engine.sampling.chain import Sampler
from localgen.engine.sampling.dry import Breakers
from localgen.engine.sampling.guided import is_guided
from localgen.engine.sampling.scratch import Scratch
from localgen.engine.sequence import Recorder, Sequence, Speculation
from localgen.engine.suffix_index import MatchChances
from localgen.engine.trackers import Tracker
from localgen.engine.uniforms import UniformStream
from localgen.generation import resolve
from localgen.generation.answer_matcher import AnswerMatcher, AnswerTokens
from localgen.generation.assistants import drafting
from localgen.generation.constraining import Constraint, Constraints
from localgen.generation.healed_matcher import HealedMatcher
from localgen.generation.healing import HealingTracker, PromptEnd, n_to_back_up
from localgen.generation.hooks import NO_HOOKS, Hooks, allowed_tokens_function
from localgen.generation.inputs import Prompts
from localgen.generation.text_tracker import Clock, TextTracker
from localgen.generation.thought_matcher import ThoughtMatcher, Thoughts
from localgen.text.byte_index import ByteIndex
from localgen.text.detokenizer import Detokenizer
from localgen.text.replies.start import ReplyStart
from localgen.text.replies.thoughts import Place
from localgen.text.tokenizer import Tokenizer

# The key of a random stream: (seed, number).
Key = tuple[int, int]


@dataclass(kw_only=True)
class SequenceBuilder:
    """Builds the sequences of one call.

    n_ctx: the most tokens of a sequence. started: ``time.perf_counter()`` when the call came in.
    keep_text: whether the sequences keep their text. text_clock: adds up the time for that.
    guide_of: the guides of the guided ones among them, after ``build``.
    byte_index: returns the index of the vocabulary, for token healing. scratch: rows that samplers
    share. constraints: of the model. constraint_of: those of the sequences that have one, after
    ``build``. no_speculation_because: why the model's sequences have no drafts; None if they may.
    """

    tokenizer: Tokenizer
    n_ctx: int
    started: float
    byte_index: Callable[[], ByteIndex]
    scratch: Scratch
    constraints: Callable[[], Constraints]
    keep_text: bool = False
    hooks: Hooks = NO_HOOKS
    no_speculation_because: str | None = None
    text_clock: Clock = field(default_factory=Clock)
    guide_of: dict[Sequence, Sequence] = field(default_factory=dict, init=False)
    constraint_of: dict[Sequence, Constraint] = field(default_factory=dict, init=False)
    # Special tokens that are part of the text of the next sequence all the same: its reply is taken
    # apart at them.
    _marks: frozenset[bytes] = field(default=frozenset(), init=False)
    _samplers: dict[int, Sampler] = field(default_factory=dict, init=False)
    # Texts of one call repeat their prompts alike, so they learn together how much.
    _match_chances: MatchChances = field(default_factory=MatchChances, init=False)

    def build(
        self, prompts: Prompts, configs: list[GenerationConfig], keys: list[Key]
    ) -> list[Sequence]:
        """Return ``num_return_sequences`` sequences for each prompt, in order.

        configs: one for each prompt. keys: one for each sequence. Raises ContextFullError, and
        ValueError for token ids outside the vocabulary.
        """
        sequences: list[Sequence] = []
        negative = prompts.negative or [None] * len(configs)
        n_fixed = prompts.n_fixed or [0] * len(configs)
        replies = prompts.replies or [None] * len(configs)
        given = zip(
            *(configs, prompts.token_ids, prompts.lengths, n_fixed, negative, replies), strict=True
        )
        for batch_id, (config, token_ids, length, fixed, negative_ids, reply) in enumerate(given):
            self._marks = _marks(reply)
            limit = resolve.new_token_limit(config, len(token_ids), length, self.n_ctx)
            end = self._end_to_heal(config, token_ids, fixed)
            constraint = self._constraint(config)
            follows = self._matchers(config, constraint, reply, token_ids)
            if is_guided(config):
                n_before = 1 if negative_ids is None else len(negative_ids)
                n_before += 0 if end is None else len(end.token_ids)  # which the guide gets, too
                limit = resolve.guide_limit(limit, n_before, self.n_ctx)
            first = len(sequences)
            for _ in range(config.num_return_sequences):
                index = len(sequences)
                matcher = follows()
                if matcher is not None and end is not None:
                    matcher = HealedMatcher(matcher, end)
                sequence = self._sequence(
                    index, config, token_ids, limit, keys[index], end, matcher
                )
                if constraint is not None:
                    self.constraint_of[sequence] = constraint
                if index > first:
                    sequence.prompt_of = sequences[first]
                if config.prefix_allowed_tokens_fn is not None:
                    self._constrain(sequence, config.prefix_allowed_tokens_fn, prompts, batch_id)
                sequences.append(sequence)
                if is_guided(config):
                    self._add_guide(sequence, negative_ids, len(keys) + index)
            resolve.warn_of_prompt(config, len(token_ids), limit)
        return sequences

    def _constrain(
        self, sequence: Sequence, function: Callable[..., Any], prompts: Prompts, batch_id: int
    ) -> None:
        """Let a function of the caller's choose what may come next in a sequence; it sees the
        prompt as it was given, padding included, unless its end is generated again."""
        matrix = None if sequence.n_backed_up else prompts.matrix
        prompt = sequence.prompt_ids if matrix is None else matrix[batch_id]
        asked = allowed_tokens_function(function, uses_torch=prompts.is_torch)
        sequence.trackers += (AllowedTokens(asked, batch_id, prompt.tolist()),)

    def build_beams(self, results: list[Sequence], config: GenerationConfig) -> list[Sequence]:
        """Return ``num_beams`` sequences for each prompt, which are decoded for ``results``: those
        that ``build`` returned."""
        sequences: list[Sequence] = []
        for first in results[:: config.num_return_sequences]:
            group = [self._beam(first, config) for _ in range(config.num_beams)]
            for index, beam in enumerate(group):
                beam.index = len(sequences) + index
                beam.group = tuple(group)
                beam.prompt_of = group[0] if index else None
            sequences += group
        for result in results:
            result.stop_checks = ()  # it is filled when all was decided
        return sequences

    def drafting_of(
        self, sequences: list[Sequence], configs: list[GenerationConfig], keys: list[Key]
    ) -> dict[Sequence, Drafting]:
        """Return how a draft model drafts for each sequence that ``build`` returned."""
        n_vocab = self.tokenizer.vocab_size
        of_each = [each for each in configs for _ in range(each.num_return_sequences)]
        return {
            sequence: drafting(config, n_vocab, key[0], self._breakers(config))
            for sequence, config, key in zip(sequences, of_each, keys, strict=True)
        }

    def _beam(self, result: Sequence, config: GenerationConfig) -> Sequence:
        """Return a sequence with the prompt of a result, and as much of its state as decides."""
        kept = (TextTracker,) if config.stop_strings is None else ()
        return Sequence(
            index=0,
            prompt_ids=result.prompt_ids,
            max_new_tokens=result.max_new_tokens,
            eos_token_ids=result.eos_token_ids,
            sampler=result.sampler,
            uniform=result.uniform,
            trackers=tuple(each.copy() for each in result.trackers if not isinstance(each, kept)),
            stop_checks=result.stop_checks,
            deadline=result.deadline,
            n_backed_up=result.n_backed_up,
        )

    def _add_guide(self, sequence: Sequence, negative: TokenIds | None, index: int) -> None:
        prompt_ids = sequence.prompt_ids[-1:] if negative is None else negative
        guide = guide_for(sequence, prompt_ids, index)
        alike = (each for each in self.guide_of.values() if each.prompt_of is None)
        guide.prompt_of = next(
            (each for each in alike if np.array_equal(each.prompt_ids, prompt_ids)), None
        )
        self.guide_of[sequence] = guide

    def _end_to_heal(
        self, config: GenerationConfig, token_ids: TokenIds, n_fixed: int
    ) -> PromptEnd | None:
        """Return the tokens of a prompt that are generated again; None if there are none."""
        if not config.token_healing:
            return None
        index = self.byte_index()
        banned = self._eos_token_ids(config) | resolve.banned_token_ids(config)
        n_tokens = n_to_back_up(token_ids, n_fixed, index, banned)
        return PromptEnd(token_ids[-n_tokens:], index) if n_tokens else None

    def _constraint(self, config: GenerationConfig) -> Constraint | None:
        return None if config.constraint is None else self.constraints().of(config)

    def _matchers(
        self,
        config: GenerationConfig,
        constraint: Constraint | None,
        reply: ReplyStart | None,
        token_ids: TokenIds,
    ) -> Callable[[], Matcher | None]:
        """Return what makes the matcher of each sequence of a prompt, or None if any text may come.

        Raises ValueError where the reasoning of a reply could not end.
        """
        start = reply if reply is None or constraint is None else reply.constrained()
        limit = start.max_reasoning_tokens if start is not None and start.is_to_reason else None
        is_answer = constraint is not None and start is not None and not start.is_enforced
        if start is None or not (is_answer or limit is not None):
            return lambda: None if constraint is None else constraint.matcher()
        thoughts = self._thoughts(start, config, token_ids)
        closes = thoughts.marks.closes
        tokens = AnswerTokens(closes, self.byte_index(), thoughts.n_vocab) if is_answer else None

        def matcher() -> Matcher | None:
            inner = None if constraint is None else constraint.matcher()
            if inner is not None and tokens is not None:
                inner = AnswerMatcher(thoughts, tokens, inner)
            return inner if limit is None else ThoughtMatcher(thoughts, limit, inner)

        return matcher

    def _thoughts(
        self, start: ReplyStart, config: GenerationConfig, token_ids: TokenIds
    ) -> Thoughts:
        """Return the reasoning of a reply. Raises ValueError if its end mark ends the reply."""
        vocab = self.tokenizer
        thoughts = Thoughts(
            marks=start.marks,
            begins=start.begins,
            last_id=int(token_ids[-1]),
            token_bytes=vocab.token_bytes,
            encode=vocab.encode_after,
            n_vocab=vocab.vocab_size,
        )
        ending = thoughts.ending(Place("thoughts"), 0, thoughts.last_id)
        if ends := self._eos_token_ids(config).intersection(ending):
            what = "a limit of the reasoning" if config.constraint is None else config.constraint[0]
            raise ValueError(
                f"{what} needs the end mark of the reasoning, and token {min(ends)} of that is in "
                f"eos_token_id, so the reply would end there: leave eos_token_id out"
            )
        return thoughts

    def _eos_token_ids(self, config: GenerationConfig) -> frozenset[int]:
        vocab = self.tokenizer
        return resolve.eos_token_ids(config, vocab.eos_token_ids, vocab.vocab_size)

    def _sequence(
        self,
        index: int,
        config: GenerationConfig,
        token_ids: TokenIds,
        limit: int,
        key: Key,
        end: PromptEnd | None,
        matcher: Matcher | None,
    ) -> Sequence:
        eos_token_ids = self._eos_token_ids(config)
        sampler = self._sampler(config, len(eos_token_ids))
        n_backed_up = 0
        healing: list[Tracker] = []
        if end is not None:
            n_backed_up = len(end.token_ids)
            token_ids = token_ids[:-n_backed_up]
            limit += n_backed_up
            healing.append(HealingTracker(end))
        trackers = [*healing, *sampler.new_trackers(token_ids, limit)]
        if matcher is not None:
            tracker = self.constraints().tracker(matcher, config, sampler, eos_token_ids)
            trackers.append(tracker)
        if self.keep_text or config.stop_strings is not None:
            new_stream = self._new_stream(config, 0 if end is None else len(end.data))
            trackers.append(TextTracker(new_stream, eos_token_ids, self.text_clock))
        speculation = None
        if config.prompt_lookup_num_tokens is not None or config.assistant_model is not None:
            speculation = Speculation(off_because=self.no_speculation_because)
            has_lookup = config.prompt_lookup_num_tokens is not None
            if has_lookup and self.no_speculation_because is None:
                trackers.append(self._lookup_tracker(config, token_ids))
        return Sequence(
            index=index,
            prompt_ids=token_ids,
            max_new_tokens=limit,
            eos_token_ids=eos_token_ids,
            sampler=sampler,
            uniform=UniformStream(*key),
            trackers=tuple(trackers),
            stop_checks=self.hooks.stop_checks(),
            recorders=_recorders(config),
            deadline=None if config.max_time is None else self.started + config.max_time,
            n_backed_up=n_backed_up,
            speculation=speculation,
        )

    def _new_stream(self, config: GenerationConfig, n_skipped: int) -> Callable[[], Detokenizer]:
        """n_skipped: how many bytes at the beginning are the prompt's."""
        stops = tuple(config.stop_strings or ())
        vocab = self.tokenizer
        if not self.keep_text:  # special tokens are text to generate(), as in transformers
            return lambda: Detokenizer(vocab.token_bytes, stops, n_skipped=n_skipped)
        shown = partial(_shown_bytes, vocab, self._marks) if self._marks else vocab.text_bytes
        hidden = partial(_hidden_bytes, vocab, shown)
        return lambda: Detokenizer(shown, stops, hidden, n_skipped)

    def _sampler(self, config: GenerationConfig, n_eos: int) -> Sampler:
        """One for all sequences of a config."""
        if id(config) not in self._samplers:
            n_vocab = self.tokenizer.vocab_size
            resolve.check_option_ids(config, n_vocab)
            # As in transformers: a beam can go on if its best tokens all end it.
            min_kept = n_eos + 1 if config.num_beams > 1 else 1
            self._samplers[id(config)] = Sampler(
                config,
                n_vocab,
                self.hooks.processors(),
                self._breakers(config),
                min_kept=min_kept,
                scratch=self.scratch,
            )
        return self._samplers[id(config)]

    def _breakers(self, config: GenerationConfig) -> Breakers:
        """DRY's sequence breakers; none where it is off."""
        texts = cast("tuple[str, ...]", config.dry_sequence_breakers)
        return self.tokenizer.dry_breakers(texts) if config.dry_multiplier else {}

    def _lookup_tracker(self, config: GenerationConfig, token_ids: TokenIds) -> LookupTracker:
        n_drafted = config.prompt_lookup_num_tokens
        assert n_drafted is not None
        max_ngram = config.max_matching_ngram_size
        return LookupTracker(token_ids, max_ngram, n_drafted, self._match_chances)


def _recorders(config: GenerationConfig) -> tuple[Recorder, ...]:
    if config.logprobs is not None:
        return (LogprobRecorder(config.logprobs),)
    if (config.output_scores or config.output_logits) and config.num_beams == 1:
        return (StepRecorder(keep_logits=config.output_logits, keep_scores=config.output_scores),)
    return ()


def _marks(start: ReplyStart | None) -> frozenset[bytes]:
    """Return the marks at which a reply is taken apart."""
    return frozenset() if start is None else frozenset(map(str.encode, start.form.marks))


def _shown_bytes(vocab: Tokenizer, marks: frozenset[bytes], token_id: int) -> bytes:
    data = vocab.text_bytes(token_id)
    return data or (data if (data := vocab.token_bytes(token_id)) in marks else b"")


def _hidden_bytes(vocab: Tokenizer, shown: Callable[[int], bytes], token_id: int) -> bytes:
    return b"" if shown(token_id) else vocab.token_bytes(token_id)
