"""Turn a call's arguments into a request: checked prompts and configs → sequences → request."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from localgen._util import system
from localgen._util.checks import check_int
from localgen._util.warn import warn
from localgen.completion import TokenLogprob
from localgen.config import GenerationConfig, ModelConfig, SamplingOptions
from localgen.engine.backend import TokenIds
from localgen.engine.capacity import check_fits
from localgen.engine.decoding import DecodingStrategy, SamplingStrategy
from localgen.engine.prompt_lookup import LookupDrafter
from localgen.engine.prompt_scoring import PromptScoring
from localgen.engine.request import Request
from localgen.engine.sampling.chain import Sampler
from localgen.engine.sampling.guided import is_guided
from localgen.engine.sampling.scratch import Scratch
from localgen.engine.sequence import Sequence as EngineSequence
from localgen.engine.speculation import SpeculativeStrategy
from localgen.engine.unified_kv import n_cells_of
from localgen.engine.uniforms import UniformStream
from localgen.errors import ContextFullError
from localgen.generation import choosing, resolve, results
from localgen.generation.assistants import Assistants, check_assistant
from localgen.generation.batch_strategy import BatchStrategy
from localgen.generation.beam_batch import BeamBatch
from localgen.generation.beam_strategy import BeamStrategy
from localgen.generation.call import GenerationCall
from localgen.generation.chat_arguments import ChatArguments, Conversation
from localgen.generation.chat_rendering import render_chat
from localgen.generation.choice_arguments import ChooseArguments, ClassifyArguments
from localgen.generation.choosing import Choosing
from localgen.generation.constraining import Constraints
from localgen.generation.continuation_scores import ContinuationScores
from localgen.generation.defaults import CallDefaults, Configs
from localgen.generation.hooks import NO_HOOKS, Functions, Hooks, as_hooks
from localgen.generation.inputs import (
    ChatPrompt,
    Prompt,
    Prompts,
    as_prompts,
    encode,
    id_row,
    negative_rows,
    prompts_from_ids,
    prompts_from_texts,
)
from localgen.generation.model_backend import ModelBackend
from localgen.generation.sequences import SequenceBuilder
from localgen.generation.text_arguments import StreamArguments, TextArguments
from localgen.generation.tool_choice import with_grammar
from localgen.text.byte_index import ByteIndex, byte_index
from localgen.text.tokenizer import Tokenizer


class RequestBuilder:
    """Builds the calls of one model; it runs none."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        backend: ModelBackend,
        config: ModelConfig,
        assistants: Assistants,
    ) -> None:
        self._tokenizer = tokenizer
        # As in transformers, changing the tokenizer's pad token later does not change the model's.
        self._pad_token_id = tokenizer.pad_token_id
        self._backend = backend
        self._config = config
        self._scratch = Scratch.of_size(tokenizer.vocab_size)
        self._assistants = assistants

    @functools.cached_property
    def own_defaults(self) -> GenerationConfig:
        """The options of a model that was just loaded; finding its ends takes a while."""
        return GenerationConfig(
            eos_token_id=self._tokenizer.eos_token_ids, pad_token_id=self._pad_token_id
        )

    @functools.cached_property
    def defaults(self) -> CallDefaults:
        """The options that calls start from; it may be set."""
        return CallDefaults(self.own_defaults)

    @functools.cached_property
    def _byte_index(self) -> ByteIndex:
        """The vocabulary by bytes, for token healing; it reads every token."""
        return byte_index(self._backend.vocab, self._tokenizer.token_bytes)

    @functools.cached_property
    def constraints(self) -> Constraints:
        """The constraints of calls; it may be set."""
        # Imported here: only calls with a constraint need llguidance.
        from localgen.constraints.compiler import Compiler  # noqa: PLC0415
        from localgen.constraints.matcher import masks_of  # noqa: PLC0415
        from localgen.constraints.vocabulary import tokenizer_for  # noqa: PLC0415

        vocab, token_bytes = self._backend.vocab, self._tokenizer.token_bytes
        compiler = Compiler(lambda: tokenizer_for(vocab, token_bytes), vocab.n_vocab)
        n_idle = self._backend.idle_cpus
        in_parallel = functools.partial(masks_of, n_threads=n_idle or system.usable_cpus())
        return Constraints(compiler, in_parallel, vocab.eog_ids, runs_ahead=n_idle > 0)

    def from_ids(
        self,
        input_ids: Any,
        attention_mask: Any,
        config: Configs,
        overrides: dict[str, Any],
        *,
        logits_processor: Functions | None,
        stopping_criteria: Functions | None,
        cancel: threading.Event | None,
        negative: tuple[Any, Any] = (None, None),
    ) -> GenerationCall:
        """Build the call for ``generate()``; ``negative``: the ids and mask of negative prompts."""
        started = time.perf_counter()
        resolve.check_cancel(cancel)
        configs = resolve.with_outputs_resolved(
            resolve.resolved_configs(config, overrides, defaults=self.defaults.config, infer=False)
        )
        self._backend.check_usable()
        vocab = self._tokenizer
        pad = resolve.pad_token_id(configs[0], self._pad_token_id, vocab.vocab_size)
        eos = resolve.eos_token_ids(configs[0], vocab.eos_token_ids, vocab.vocab_size)
        ends = eos.union(vocab.eos_token_ids)
        prompts = prompts_from_ids(input_ids, attention_mask, vocab.vocab_size, pad, ends)
        hooks = as_hooks(logits_processor, stopping_criteria, uses_torch=prompts.is_torch)
        check_assistant(configs, together=bool(hooks))
        if any(each is not None for each in negative):
            if not any(map(is_guided, configs)):
                warn("negative_prompt_ids has no effect without guidance_scale")
            counts = [config.num_return_sequences for config in self._each(configs, prompts)]
            rows = negative_rows(*negative, vocab.vocab_size, pad, counts)
            prompts = replace(prompts, negative=rows)
        call = self._call(prompts, configs, started, cancel=cancel)
        call.pad_token_id = pad if pad is not None else min(eos, default=0)
        if hooks:
            self._decode_together(call, hooks)
        return call

    @property
    def _no_speculation_because(self) -> str | None:
        """Why sequences of this model have no drafts; None if they may have some."""
        if self._config.deterministic:
            return (
                "deterministic=True: llama.cpp may round the logits of several tokens in a pass "
                "differently from those of one"
            )
        if not self._backend.can_truncate:
            return "the model has a recurrent state, which cannot go back to before a wrong draft"
        return None

    def _strategy(self, sequences: list[EngineSequence]) -> DecodingStrategy:
        """Return the strategy for sampled or greedy sequences."""
        if any(each.speculation and not each.speculation.off_because for each in sequences):
            return SpeculativeStrategy(LookupDrafter(), self._backend.pass_costs)
        return SamplingStrategy()

    def _decode_together(self, call: GenerationCall, hooks: Hooks) -> None:
        """Let ``hooks`` see all sequences of a call as one batch."""
        resolve.check_no_speculation(call.configs)
        n_most = self._config.max_sequences
        n_all = len(call.request.sequences)
        if n_all > n_most:
            guides = ", guides included" if call.guide_of else ""
            raise ValueError(
                f"generate() with logits_processor or stopping_criteria decodes all its sequences "
                f"together, got {n_all}{guides}, and max_sequences is {n_most}: load the model "
                f"with a larger max_sequences, pass fewer prompts, or use complete(), whose "
                f"functions see one sequence at a time"
            )
        if call.beams is not None:
            n_new = max(each.max_new_tokens for each in call.request.sequences)
            config = call.configs[0]
            prompts = results.prompt_rows(call)[:: config.num_return_sequences]
            call.beams.batch = BeamBatch(hooks, prompts, config.num_beams, n_new, call.pad_token_id)
            return
        strategy = BatchStrategy(
            hooks, call.sequences, results.prompt_rows(call), call.pad_token_id
        )
        call.use(strategy)

    def from_texts(self, given: TextArguments[Any, Any]) -> GenerationCall:
        """Build the call for ``complete()``."""
        started = time.perf_counter()
        resolve.check_cancel(given.cancel)
        config, split = given.generation_config, given.split_special_tokens
        prompts = as_prompts(given.prompts)
        overrides = with_grammar(given.overrides, prompts)
        hooks = as_hooks(given.logits_processor, given.stopping_criteria)
        defaults = self.defaults.config
        samples = overrides.get("do_sample")
        searches = overrides.get("num_beams", defaults.num_beams) not in (None, 1)
        if config is None and (samples or (samples is None and not searches)):
            of_file = self._backend.sampling_defaults
            defaults = resolve.with_file_defaults(defaults, of_file, overrides)
        configs = resolve.resolved_configs(config, overrides, defaults=defaults, infer=True)
        for each in configs:
            resolve.check_text_options(each)
        self._backend.check_usable()
        encoded = prompts_from_texts(prompts, self._tokenizer, split_special_tokens=split)
        if any(each.negative_prompt is not None for each in configs):
            negative = [config.negative_prompt for config in self._each(configs, encoded)]
            rows = [self._negative(each, split) for each in negative]
            encoded = replace(encoded, negative=rows)
        return self._call(
            encoded, configs, started, keep_text=True, hooks=hooks, cancel=given.cancel
        )

    def from_text(self, given: StreamArguments) -> GenerationCall:
        """Build the call for ``stream()``, which has one sequence."""
        prompts: list[Prompt] = [given.prompts]
        call = self.from_texts(replace(given, prompts=prompts))  # type: ignore[arg-type]
        resolve.check_streams(call.configs[0])
        if len(call.sequences) != 1:
            raise ValueError(
                f"stream() gives one text; num_return_sequences is {len(call.sequences)}"
            )
        return call

    def from_prefix(self, text: Prompt, split_special_tokens: bool) -> GenerationCall:
        """Build the call for ``prefill()``: one sequence, which stays in the KV cache."""
        started = time.perf_counter()
        self._backend.check_usable()
        token_ids = self._encode(text, split_special_tokens)
        config = GenerationConfig(max_new_tokens=1, do_sample=False)
        prompts = Prompts(token_ids=[token_ids], lengths=[len(token_ids)])
        call = self._call(prompts, [config], started)
        call.sequences[0].pins = True
        return call

    def sequence_to_score(self, text: Prompt, split_special_tokens: bool) -> EngineSequence:
        """Build the sequence for ``score()``, which is no call: nothing is generated."""
        self._backend.check_usable()
        return self._sequence_to_evaluate(self._encode(text, split_special_tokens))

    def sequences_to_evaluate(
        self, input_ids: Any, attention_mask: Any
    ) -> tuple[Prompts, list[EngineSequence]]:
        """Build a sequence for each row of ``model(input_ids)``, in which nothing is generated."""
        self._backend.check_usable()
        vocab = self._tokenizer
        ends = frozenset(vocab.eos_token_ids)
        pad = self._pad_token_id
        prompts = prompts_from_ids(input_ids, attention_mask, vocab.vocab_size, pad, ends)
        return prompts, [self._sequence_to_evaluate(row) for row in prompts.token_ids]

    def choosing(self, given: ChooseArguments | ClassifyArguments[Any]) -> Choosing:
        """Build the call for ``choose()`` and ``classify()``; see ``choosing.build``."""
        prompts, choices, texts = given.scored()
        self._backend.check_usable()
        return choosing.build(
            prompts,
            choices,
            texts,
            tokenizer=self._tokenizer,
            backend=self._backend,
            config=self._config,
            new_sequence=self._sequence_to_evaluate,
            normalization=given.normalization,
            unconditional_prompt=given.unconditional_prompt,
            split_special_tokens=given.split_special_tokens,
        )

    def continuations(self, pairs: Sequence[Any]) -> ContinuationScores:
        """Build the call for ``score_continuations()``."""
        self._backend.check_usable()
        return ContinuationScores(
            pairs,
            backend=self._backend,
            config=self._config,
            new_sequence=self._sequence_to_evaluate,
        )

    def tokens_to_score(
        self, token_ids: Any, n_top: int
    ) -> tuple[Request | None, Callable[[], list[TokenLogprob]]]:
        """Build the request for ``ascore_tokens()``, None if nothing is to compute, and what
        returns its results."""
        check_int("top", n_top, 0)
        self._backend.check_usable()
        row = id_row(token_ids, self._tokenizer.vocab_size, "token_ids")
        n_tokens = len(row)
        if n_tokens > self._config.n_ctx:
            raise ContextFullError(n_tokens, self._config.n_ctx)
        check_fits(self._backend, n_tokens, self._config.max_sequences)
        scoring = PromptScoring(row, n_top, self._tokenizer.vocab_size)
        if n_tokens == 1:
            return None, list
        sequence = self._sequence_to_evaluate(row[:1], n_tokens - 1)
        request = Request([sequence], strategy=scoring)
        return request, lambda: [TokenLogprob(*step) for step in scoring.steps]

    def _sequence_to_evaluate(self, token_ids: TokenIds, n_more: int = 0) -> EngineSequence:
        """Return a sequence with room for ``n_more`` tokens that are given, too."""
        if len(token_ids) > self._config.n_ctx:
            raise ContextFullError(len(token_ids), self._config.n_ctx)
        return EngineSequence(
            index=0,
            prompt_ids=token_ids,
            max_new_tokens=n_more,
            is_evaluated=True,
            eos_token_ids=frozenset(),
            sampler=Sampler(SamplingOptions(), self._tokenizer.vocab_size, scratch=self._scratch),
            uniform=UniformStream(0, 0),
        )

    def chat_prompt(self, chat: ChatArguments[Conversation]) -> ChatPrompt:
        """Return a conversation as a prompt; see ``render_chat``."""
        self._backend.check_usable()
        return render_chat(chat, self._tokenizer)

    def _each(self, configs: list[GenerationConfig], prompts: Prompts) -> list[GenerationConfig]:
        """Return one config for each prompt."""
        n_prompts = len(prompts.token_ids)
        if len(configs) not in (1, n_prompts):
            raise ValueError(
                f"generation_config has {len(configs)} entries for {n_prompts} prompts; give one "
                f"for all, or one per prompt"
            )
        return configs if len(configs) == n_prompts else configs * n_prompts

    def _negative(self, prompt: Any, split_special_tokens: bool) -> TokenIds | None:
        if prompt is None:
            return None
        return encode(
            prompt, self._tokenizer, "negative_prompt", split_special_tokens=split_special_tokens
        )

    def _encode(self, text: Prompt, split_special_tokens: bool) -> Any:
        return encode(text, self._tokenizer, "text", split_special_tokens=split_special_tokens)

    def _check_fits(self, sequences: list[EngineSequence], *, n_together: int) -> None:
        """Raise KvBudgetError if the longest sequence, with its group or its guide, could never
        run. n_together: how many must run together if there are no groups."""
        longest = max(sequences, key=lambda each: len(each.tokens))
        n_cells = None
        if longest.group and not self._config.deterministic:
            n_cells = n_cells_of(longest.group)
        check_fits(
            self._backend,
            len(longest.tokens),
            self._config.max_sequences,
            n_together=max(len(longest.group), n_together),
            n_cells=n_cells,
        )

    def _call(
        self,
        prompts: Prompts,
        configs: list[GenerationConfig],
        started: float,
        *,
        keep_text: bool = False,
        hooks: Hooks = NO_HOOKS,
        cancel: threading.Event | None = None,
    ) -> GenerationCall:
        of_each = self._each(configs, prompts)
        for config in configs:
            resolve.warn_of_lengths(config)
        resolve.check_guidance(configs, self._config.max_sequences)
        resolve.check_same_beams(configs, self._config.max_sequences)
        given = check_assistant(of_each, together=False)
        assistant = None
        if given is not None and self._no_speculation_because is None:
            assistant = self._assistants.of(given)
        keys = resolve.stream_keys(
            configs, len(of_each), lambda: resolve.fresh_seed(uses_torch=prompts.is_torch)
        )
        builder = SequenceBuilder(
            tokenizer=self._tokenizer,
            n_ctx=self._config.n_ctx,
            started=started,
            byte_index=lambda: self._byte_index,
            scratch=self._scratch,
            constraints=lambda: self.constraints,
            keep_text=keep_text,
            hooks=hooks,
            no_speculation_because=self._no_speculation_because,
        )
        sequences = builder.build(prompts, of_each, keys)
        guide_of = builder.guide_of
        results, beams = None, None
        if of_each[0].num_beams > 1:
            results, sequences = sequences, builder.build_beams(sequences, of_each[0])
            beams = BeamStrategy(of_each[0], sequences, results, self._tokenizer.vocab_size)
        elif guide_of:  # each pair side by side, so that both come to run
            pairs = ((each, guide_of.get(each)) for each in sequences)
            sequences = [each for pair in pairs for each in pair if each is not None]
        self._check_fits(sequences, n_together=2 if guide_of else 1)
        request = Request(sequences, cancel, strategy=beams or self._strategy(sequences))
        if assistant is not None:
            request.strategy = assistant.strategy(builder.drafting_of(sequences, of_each, keys))
        call = GenerationCall(
            request=request,
            beams=beams,
            results=results,
            prompts=prompts,
            configs=of_each,
            keys=keys,
            n_vocab=self._tokenizer.vocab_size,
            started=started,
            preparing_seconds=time.perf_counter() - started - prompts.text_seconds,
            text_clock=builder.text_clock,
            guide_of=guide_of,
            constraint_of=builder.constraint_of,
        )
        if guide_of:
            call.use(SamplingStrategy())
        return call
