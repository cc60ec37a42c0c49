"""Token ids in, token ids or logits out: what transformers' models do."""

from __future__ import annotations

import threading
from typing import Any

from localgen._util.checks import check_int
from localgen.completion import ForwardOutput
from localgen.generation import results
from localgen.generation.defaults import CallDefaults, as_config, is_config
from localgen.generation.forward import checked_labels, forward_output
from localgen.generation.hooks import Functions
from localgen.generation.inputs import check_token_types, one_of
from localgen.generation.resolve import check_streams
from localgen.generation.streaming import ending, partial_on_error, put_tokens
from localgen.model.parts import ModelParts
from localgen.option_names import normalize_options
from localgen.text.tokenizer import Tokenizer


class TokenMethods(ModelParts):
    """``generate()`` and ``forward()``, and the options that calls start from."""

    @property
    def generation_config(self) -> CallDefaults:
        """The options that a call takes unless it is given others; see ``CallDefaults``.

        Set its attributes, or set it to a ``GenerationConfig``, localgen's or transformers'.
        """
        return self._requests.defaults

    @generation_config.setter
    def generation_config(self, config: Any) -> None:
        self._requests.defaults = CallDefaults(as_config(config, self._requests.own_defaults))

    def generate(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        *,
        inputs: Any = None,
        generation_config: Any = None,
        logits_processor: Functions | None = None,
        stopping_criteria: Functions | None = None,
        streamer: Any = None,
        tokenizer: Tokenizer | None = None,
        token_type_ids: Any = None,
        negative_prompt_ids: Any = None,
        negative_prompt_attention_mask: Any = None,
        cancel: threading.Event | None = None,
        **overrides: Any,
    ) -> Any:
        """Continue a batch of token ids, as ``transformers``' ``generate()`` does.

        input_ids: (batch, length) integers, padded on either side with ``attention_mask`` 0 there;
        inputs: another name for them. generation_config: a ``GenerationConfig``, localgen's or
        transformers', or one for each prompt; also accepted as the second argument.
        logits_processor, stopping_criteria: functions, or lists of them, as in transformers: they
        get the whole batch, (rows, length) and (rows, n_vocab), padded as given, and a finished row
        is padded on. All sequences are then decoded together, so they must fit ``max_sequences``.
        streamer: an object with ``put`` and ``end``, for a single sequence; ``end`` is called
        however the call ends. tokenizer: this model's, which ``stop_strings`` use anyway.
        token_type_ids: all 0. negative_prompt_ids, negative_prompt_attention_mask: for
        ``guidance_scale``, one row for all prompts or one each.
        cancel: an event that ends the call when set, from any thread. overrides: fields of
        ``GenerationConfig``, and options that only transformers has at a value that changes
        nothing, such as ``use_cache=True``.

        Returns int64 (batch * num_return_sequences, length + new), padded on the right; torch
        tensors for torch input; a ``GenerateOutput`` with ``return_dict_in_generate=True``, or a
        ``GenerateBeamOutput`` with ``num_beams`` above 1.
        Sampling torch input without a seed draws one from torch's generator.
        Raises ValueError, TypeError, ContextFullError, DecodeError; GenerationInterrupted on
        Ctrl-C, whose ``partial`` holds what was generated.
        """
        with ending(streamer):
            if tokenizer is not None and tokenizer is not self.tokenizer:
                raise ValueError(
                    f"tokenizer must be this model's own, model.tokenizer, or left out, "
                    f"got {tokenizer!r}"
                )
            if is_config(attention_mask):  # transformers' second argument
                if generation_config is not None:
                    raise TypeError("generate() got two generation_configs")
                attention_mask, generation_config = None, attention_mask
            check_token_types(token_type_ids)
            call = self._requests.from_ids(
                one_of(input_ids, inputs, overrides),
                attention_mask,
                generation_config,
                overrides,
                logits_processor=logits_processor,
                stopping_criteria=stopping_criteria,
                cancel=cancel,
                negative=(negative_prompt_ids, negative_prompt_attention_mask),
            )
            if streamer is not None:
                check_streams(call.configs[0])
            if streamer is not None and len(call.sequences) != 1:
                raise ValueError(
                    f"a streamer takes one sequence, this call has {len(call.sequences)}"
                )
            with partial_on_error(lambda: results.generate_output(call)):
                self._driver.submit(call.request)
                if streamer is None:
                    self._driver.run(call.request)
                else:
                    put_tokens(streamer, call, self._driver)
        if streamer is not None:
            call.leave()
            with partial_on_error(lambda: results.generate_output(call)):
                streamer.end()
        return results.generated(call)

    def __call__(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        *,
        token_type_ids: Any = None,
        labels: Any = None,
        logits_to_keep: int = 0,
        return_dict: bool = True,
        **options: Any,
    ) -> ForwardOutput:
        """Return the logits after each token of a batch, in one forward pass for each row.

        input_ids, attention_mask: as in ``generate()``. labels: the same ids, or -100 where there
        is none, for the ``loss`` of predicting each from those before. logits_to_keep: return the
        logits of so many places at the end; 0 is all. options: those that only transformers has, at
        a value that changes nothing, such as ``use_cache=False``. Other calls wait meanwhile.

        The logits take 4 * n_vocab bytes for each token, twice while the result is made: 400 MB for
        1,000 tokens of a vocabulary of 50,000. With ``logits_to_keep``, only the places that are
        kept are computed and take memory: 0.4 MB for the last token of a row; but ``labels`` need
        the logits of all tokens once. ``score()`` needs 16 MiB whatever the length.
        Raises ContextFullError, DecodeError, TypeError or ValueError.
        """
        check_token_types(token_type_ids)
        if not return_dict or normalize_options(options, loads=False):
            raise TypeError(
                f"model(…) takes input_ids and attention_mask, and returns an object with logits; "
                f"got {', '.join(options) or 'return_dict=False'}"
            )
        prompts, sequences = self._requests.sequences_to_evaluate(input_ids, attention_mask)
        n_vocab = self._backend.n_vocab
        wanted = checked_labels(labels, prompts, n_vocab)
        check_int("logits_to_keep", logits_to_keep, 0)
        n_wanted = logits_to_keep if wanted is None else 0  # the loss needs all
        for each in sequences:
            each.output_from = max(each.n_prompt - n_wanted, 0) if n_wanted else 0
        with partial_on_error(lambda: None), self._driver.alone() as (engine, interrupted):
            self._backend.check_usable()
            logits = [engine.prompt_logits(sequence, interrupted) for sequence in sequences]
        return forward_output(prompts, logits, n_vocab, wanted, logits_to_keep)

    forward = __call__

    def compute_transition_scores(
        self,
        sequences: Any,
        scores: Any,
        beam_indices: Any = None,
        normalize_logits: bool = False,
    ) -> Any:
        """Return the score of each new token, float32 (rows, new).

        sequences, scores: of a ``GenerateOutput``; beam_indices: of one with beams.
        normalize_logits: return log-probabilities. Tokens after the end of a row are NaN, with
        beam_indices 0. A torch tensor if ``sequences`` is one.
        """
        return results.transition_scores(
            sequences, scores, beam_indices, normalize_logits=normalize_logits
        )
