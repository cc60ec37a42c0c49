"""How tokens are chosen, when a sequence ends, what constrains it, and what is returned."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from localgen._util.option_fields import integer, number, option, optional
from localgen.config.checks import check_assistant, check_flag, check_seed
from localgen.config.sampling_options import SamplingOptions
from localgen.config.text_checks import (
    check_choices,
    check_grammar,
    check_negative_prompt,
    check_schema,
    check_stop_strings,
    check_text,
)
from localgen.config.token_checks import MAX_TOKEN_ID, check_eos_token_id
from localgen.option_names import names_checked
from localgen.samplers import without_effect

DEFAULT_MAX_NEW_TOKENS = 256

# The options that constrain the text, of which a sequence has one at most.
CONSTRAINTS = ("json_schema", "json_object", "regex", "choices", "grammar")
_FORCED = ("forced_bos_token_id", "forced_eos_token_id")
# Greedy decoding does not read these.
_ONLY_WHEN_SAMPLING = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "epsilon_cutoff",
    "eta_cutoff",
    "top_h",
    "top_n_sigma",
    "xtc_probability",
    "dynatemp_range",
    "mirostat",
    "samplers",
)


@names_checked
@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationConfig(SamplingOptions):
    """How tokens are chosen and when a sequence ends; names and meaning as in transformers.

    The options of ``SamplingOptions``, and these:

    Lengths: ``max_new_tokens`` wins over ``max_length`` (which counts the padded prompt too); with
    neither, 256 new tokens. ``max_time`` is in seconds, for the whole call.

    ``do_sample=None`` means False in ``generate()``, as in transformers. In ``complete()`` and
    ``stream()`` it means: sample if any option that only sampling reads (temperature, top_k and the
    other filters, mirostat, samplers, seed) differs from its default, else greedy. There, options
    that are given neither by name nor by a ``generation_config`` come from the model's file
    (``LocalModel.sampling_defaults``).

    ``seed``: None uses fresh entropy; the stats report the seed. An int s gives sequence i the
    random stream (s, i). A list of ints, one a sequence, gives each the stream (its seed, 0): the
    draws that the same prompt and seed get alone. The beams of a prompt are one sequence here.

    ``guidance_scale`` other than 1 runs a second sequence beside each one. It begins with
    ``negative_prompt`` (a text or token ids, in the text API; ``generate()`` takes
    ``negative_prompt_ids``), or without one with the prompt's last token. Scores are
    scale * (log p - log p of the second one) + log p of the second one.

    ``assistant_model``: a smaller ``LocalModel`` with the same vocabulary, or the name or path of
    one, that drafts tokens for this one. Greedy texts, and those of a ``seed``, are the ones that
    the model gives alone; sampled texts without a seed have the same distribution.

    One of ``json_schema``, ``json_object=True``, ``regex``, ``choices`` and ``grammar`` constrains
    the new text; see docs/constraints.md.

    ``logprobs=n`` (text API): log-probabilities of the chosen token and of the n likeliest, from
    the model's own logits. ``return_dict_in_generate``, ``output_scores`` and ``output_logits``
    are for ``generate()``.

    None leaves an option of transformers as it is by default. An option that only transformers has
    is accepted at a value that changes nothing (``use_cache=True``) and is not kept; any other
    value, and any other name, is a TypeError.
    """

    max_new_tokens: int | None = option(None, optional(integer(1)))
    max_length: int | None = option(None, optional(integer(1)))
    max_time: float | None = option(None, optional(number("of seconds above 0", 1e-9, 1e9)))
    stop_strings: str | Iterable[str] | None = option(None, optional(check_stop_strings))
    eos_token_id: int | Iterable[int] | None = option(None, optional(check_eos_token_id))
    pad_token_id: int | None = option(None, optional(integer(0, MAX_TOKEN_ID)))
    num_return_sequences: int = option(1, integer(1, 2**16))
    negative_prompt: str | Iterable[int] | None = option(None, optional(check_negative_prompt))
    json_schema: Any = option(None, optional(check_schema))
    json_object: bool = option(False, check_flag)
    regex: str | None = option(None, optional(check_text))
    choices: Iterable[str] | None = option(None, optional(check_choices))
    grammar: str | None = option(None, optional(check_grammar))
    seed: int | Iterable[int] | None = option(None, optional(check_seed))
    assistant_model: Any = option(None, optional(check_assistant))
    logprobs: int | None = option(None, optional(integer(0)))
    return_dict_in_generate: bool = option(False, check_flag)
    output_scores: bool = option(False, check_flag)
    output_logits: bool = option(False, check_flag)

    def __post_init__(self) -> None:
        SamplingOptions.__post_init__(self)
        given = [name for name in CONSTRAINTS if getattr(self, name) not in (None, False)]
        if len(given) > 1:
            raise ValueError(
                f"{' and '.join(given)} cannot be used together: a text has one constraint; leave "
                f"out all but one"
            )
        forced = [name for name in _FORCED if getattr(self, name) is not None]
        if given and forced:
            raise ValueError(
                f"{forced[0]} cannot be used with {given[0]}, which decides where a text may begin "
                f"and end; leave one of them out"
            )

    @property
    def constraint(self) -> tuple[str, Any] | None:
        """The name and the value of the option that constrains the text, if one does."""
        given = ((name, getattr(self, name)) for name in CONSTRAINTS)
        return next((each for each in given if each[1] not in (None, False)), None)

    @property
    def changed_sampling_options(self) -> list[str]:
        """Names of the options that only sampling reads and that differ from their defaults, except
        for ``temperature=0``, which asks for what greedy decoding does."""
        names = (*_ONLY_WHEN_SAMPLING, "seed")
        defaults = _defaults(self)
        changed = [name for name in names if getattr(self, name) != defaults[name]]
        return [name for name in changed if (name, getattr(self, name)) != ("temperature", 0)]

    @property
    def options_without_effect(self) -> list[tuple[str, str]]:
        """Names of the options that differ from their defaults, though the option that they need is
        off, and of that option."""
        return without_effect(self, _defaults(self))


def _defaults(config: GenerationConfig) -> dict[str, Any]:
    return {each.name: each.default for each in fields(config)}
