"""How tokens are chosen: each option once, with its check and its flag."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from localgen._util.option_fields import check_fields, choice, integer, number, option, optional
from localgen.config.checks import (
    check_decay,
    check_early_stopping,
    check_flag,
    check_function,
    check_samplers,
    check_temperature,
    check_top_k,
    check_top_n_sigma,
)
from localgen.config.text_checks import check_sequence_breakers
from localgen.config.token_checks import (
    MAX_TOKEN_ID,
    check_bad_words,
    check_forced_ids,
    check_sequence_bias,
    check_token_ids,
)
from localgen.config.watermarking_config import WatermarkingConfig, check_watermark
from localgen.samplers import check_order

# A function of the number of the prompt and of its tokens so far, which returns token ids.
AllowedTokensFn = Callable[[int, Any], Any]

SCHEDULES = ("constant", "heuristic", "heuristic_transient")
_MAX_TOKENS = 2**31 - 1
_MAX_DRAFTED = 512
_MAX_NGRAM = 16

_PROBABILITY = number("above 0 and at most 1", 1e-12, 1.0)
_PENALTY = number("between -1e6 and 1e6", -1e6, 1e6)
_SHARE = number("between 0 and 1", 0.0, 1.0)
_CUTOFF = number("at least 0 and below 1", 0.0, math.nextafter(1.0, 0.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingOptions:
    """How tokens are chosen: names, meaning and defaults as in transformers.

    The engine, ``GenerationConfig`` and the command line all use this one list. To add an option:
    a field here, a processor or filter in ``engine/sampling``, and a test.

    ``top_k=0`` (or -1), ``top_p=1``, ``min_p=None`` or 0 and ``typical_p=1`` switch a filter off;
    ``top_p=0`` keeps the most likely token. ``temperature=0`` needs ``do_sample=False``.
    For ``encoder_*`` the prompt is what an encoder reads in transformers. ``min_new_tokens`` wins
    over ``min_length``. ``renormalize_logits`` changes recorded scores, and which text beams find,
    not what is drawn.
    ``frequency_penalty`` and ``presence_penalty`` count generated tokens only, as OpenAI's do:
    logit - count * frequency_penalty - (count > 0) * presence_penalty.

    Names, meanings and defaults of these are llama.cpp's (``common_params_sampling`` in its
    common/common.h): the options of DRY (``dry_…``), of XTC (``xtc_…``), ``top_n_sigma`` (0 or
    -1 is off), dynamic temperature (``dynatemp_…``), and mirostat, which replaces all filters:
    none may be set beside it.

    ``samplers``: the order, as a list of names of ``localgen.samplers.SAMPLERS`` or llama.cpp's
    strings "top_k;temperature" and "kt". None is transformers' order. A sampler that is not listed
    does not run, so none of its options may be set.

    ``token_healing=True`` generates the last tokens of a prompt again: each of them may give way to
    a longer token that spells the rest of the prompt and goes on. The output always begins with the
    prompt's bytes. ``max_new_tokens`` and ``min_new_tokens`` count from the prompt as given.

    ``num_assistant_tokens`` and the options beside it are for ``assistant_model``.

    ``prompt_lookup_num_tokens`` is the longest draft; how long one is follows from how often they
    are right and from what passes take. See ``engine/speculation.py``.

    ``num_beams`` above 1 is beam search, or beam sampling with ``do_sample=True``; see
    ``engine/beams.py`` for ``length_penalty`` and ``early_stopping`` (True, False or "never").
    """

    do_sample: bool | None = option(
        None,
        optional(check_flag),
        help="Sample, or decode greedily; by default, sample if a sampling option is set.",
    )
    temperature: float = option(1.0, check_temperature, help="Divide the logits by this number.")
    top_k: int = option(50, check_top_k, help="Keep the K most likely tokens; 0 keeps all.")
    top_p: float = option(
        1.0,
        number("between 0 and 1", 0.0, 1.0),
        help="Keep the most likely tokens up to a total probability of P.",
    )
    min_p: float | None = option(
        None,
        optional(number("between 0 and 1", 0.0, 1.0)),
        help="Drop tokens less than P times as likely as the top one.",
    )
    typical_p: float = option(
        1.0, _PROBABILITY, help="Keep the most typical tokens up to a total probability of P."
    )
    epsilon_cutoff: float = option(
        0.0, _CUTOFF, help="Drop tokens with a probability below this; 0 keeps all."
    )
    eta_cutoff: float = option(
        0.0, _CUTOFF, help="Drop tokens by this cutoff and the entropy; 0 keeps all."
    )
    top_h: float | None = option(
        None,
        optional(_PROBABILITY),
        help="Keep the most likely tokens up to this share of the entropy.",
    )
    top_n_sigma: float = option(
        -1.0,
        check_top_n_sigma,
        help="Drop tokens more than N standard deviations below the top one; -1 keeps all.",
    )
    xtc_probability: float = option(
        0.0, _SHARE, help="Apply XTC with this probability: drop the top tokens but one."
    )
    xtc_threshold: float = option(
        0.1, _SHARE, help="Let XTC drop tokens that have at least this probability."
    )
    dynatemp_range: float = option(
        0.0,
        number("between 0 and 1e6", 0.0, 1e6),
        help="Vary the temperature by this much, up and down, with the entropy.",
    )
    dynatemp_exponent: float = option(
        1.0,
        number("between 0 and 1e3", 0.0, 1e3),
        help="Map the entropy to the temperature with this exponent.",
    )
    mirostat: int = option(
        0, integer(0, 2), help="Replace the filters by mirostat 1 or 2; 0 switches it off."
    )
    mirostat_tau: float = option(
        5.0, number("between 0 and 1e3", 0.0, 1e3), help="Set mirostat's target surprise in bits."
    )
    mirostat_eta: float = option(
        0.1, number("between 0 and 1e3", 0.0, 1e3), help="Set mirostat's learning rate."
    )
    samplers: str | Iterable[str] | None = option(
        None,
        optional(check_samplers),
        help="Run these samplers in this order, such as top_k;temperature.",
        flag=str,
    )
    repetition_penalty: float = option(
        1.0,
        number("above 0", 1e-6, 1e6),
        help="Penalize tokens of the prompt and the output by this factor.",
    )
    frequency_penalty: float = option(
        0.0, _PENALTY, help="Subtract this from a token's logit each time it is generated."
    )
    presence_penalty: float = option(
        0.0, _PENALTY, help="Subtract this once from the logit of a generated token."
    )
    dry_multiplier: float = option(
        0.0,
        number("between 0 and 1e6", 0.0, 1e6),
        help="Penalize tokens that continue a repetition by DRY's penalty times this.",
    )
    dry_base: float = option(
        1.75,
        number("between 1 and 1e6", 1.0, 1e6),
        help="Let DRY's penalty grow by this factor with each repeated token.",
    )
    dry_allowed_length: int = option(
        2,
        integer(0, _MAX_TOKENS),
        help="Let DRY penalize repetitions of at least this many tokens.",
    )
    dry_penalty_last_n: int = option(
        64,
        integer(-1, _MAX_TOKENS),
        help="Let DRY look at the last N tokens; 0 switches it off, -1 means all.",
    )
    dry_sequence_breakers: str | Iterable[str] = option(
        ("\n", ":", '"', "*"),
        check_sequence_breakers,
        help="Let no repetition of DRY reach over one of these texts.",
    )
    encoder_repetition_penalty: float = option(
        1.0,
        number("above 0", 1e-6, 1e6),
        help="Favor tokens of the prompt by this factor; below 1, penalize them.",
    )
    no_repeat_ngram_size: int = option(
        0, integer(0), help="Generate no N-gram twice; 0 allows all."
    )
    encoder_no_repeat_ngram_size: int = option(
        0, integer(0), help="Generate no N-gram of the prompt; 0 allows all."
    )
    min_length: int = option(
        0, integer(0), help="End no text before prompt and output have this many tokens."
    )
    min_new_tokens: int | None = option(
        None, optional(integer(0)), help="Generate at least this many tokens."
    )
    bad_words_ids: Iterable[Iterable[int]] | None = option(
        None, optional(check_bad_words), help="Never generate these lists of token ids."
    )
    sequence_bias: Mapping[tuple[int, ...], float] | Iterable[Any] | None = option(
        None,
        optional(check_sequence_bias),
        help="Add a bias to the last token of each of these lists: [[[ID, ...], BIAS], ...].",
    )
    suppress_tokens: Iterable[int] | None = option(
        None, optional(check_token_ids), help="Never generate these token ids."
    )
    begin_suppress_tokens: Iterable[int] | None = option(
        None, optional(check_token_ids), help="Do not begin the output with these token ids."
    )
    prefix_allowed_tokens_fn: AllowedTokensFn | None = option(None, optional(check_function))
    forced_bos_token_id: int | None = option(
        None,
        optional(integer(0, MAX_TOKEN_ID)),
        help="Begin the output with this token id if the prompt is a single token.",
    )
    forced_eos_token_id: int | Iterable[int] | None = option(
        None,
        optional(check_forced_ids),
        help="Let the last token that fits the limit be this token id, or one of these.",
    )
    remove_invalid_values: bool = option(
        False, check_flag, help="Replace scores that are NaN or infinite by numbers."
    )
    exponential_decay_length_penalty: tuple[int, float] | None = option(
        None,
        optional(check_decay),
        help="After START new tokens, raise the end's score by FACTOR per token: [START, FACTOR].",
    )
    renormalize_logits: bool = option(
        False, check_flag, help="Let beams add log-probabilities of what the filters left."
    )
    guidance_scale: float | None = option(
        None,
        optional(number("between -1e4 and 1e4", -1e4, 1e4)),
        help="Move away from the negative prompt, or without one from what would follow the last "
        "token alone; 1 changes nothing.",
    )
    watermarking_config: WatermarkingConfig | Mapping[str, Any] | None = option(
        None,
        optional(check_watermark),
        help='Mark the text, by options such as {"bias": 2.0}; {} takes the defaults.',
    )
    token_healing: bool = option(
        False,
        check_flag,
        help="Let a longer token continue the prompt's last ones, as in a word that is cut.",
    )
    prompt_lookup_num_tokens: int | None = option(
        None,
        optional(integer(1, _MAX_DRAFTED)),
        help="Draft up to N tokens of a pass from what stood after the same tokens before: faster "
        "where the output repeats the prompt.",
    )
    max_matching_ngram_size: int = option(
        2,
        integer(1, _MAX_NGRAM),
        help="Let --prompt-lookup-num-tokens look for up to the last N tokens.",
    )
    num_assistant_tokens: int = option(
        20,
        integer(1, _MAX_DRAFTED),
        help="Let the draft model draft at most N tokens of a pass.",
    )
    num_assistant_tokens_schedule: str = option(
        "constant",
        choice(SCHEDULES),
        help="Keep that number constant, or adapt it: heuristic, heuristic_transient.",
    )
    assistant_confidence_threshold: float = option(
        0.4, _SHARE, help="End a draft with a token that the draft model finds less likely."
    )
    num_beams: int = option(
        1, integer(1, 256), help="Search with N beams for the most likely text; 1 is no search."
    )
    length_penalty: float = option(
        1.0,
        number("between -10 and 10", -10.0, 10.0),
        help="Divide a beam's score by its length to this power: above 0 favors long texts.",
    )
    early_stopping: bool | str = option(
        False,
        check_early_stopping,
        help="Stop beams at the first N texts (true), when no better one is likely (false) or "
        "possible (never).",
    )

    def __post_init__(self) -> None:
        check_fields(self)
        self._check_forced()
        if self.temperature == 0 and self.do_sample is not False:
            raise ValueError(
                "temperature must be above 0, got 0; for greedy decoding use do_sample=False"
            )
        check_order(self)

    def _check_forced(self) -> None:
        """Raise ValueError if all tokens that an option forces are suppressed."""
        bos = None if self.forced_bos_token_id is None else (self.forced_bos_token_id,)
        named = {"forced_bos_token_id": bos, "forced_eos_token_id": self.forced_eos_token_id}
        suppressed = set(self.suppress_tokens or ())
        for name, value in named.items():
            forced = cast("tuple[int, ...]", value or ())
            if forced and suppressed.issuperset(forced):
                raise ValueError(
                    f"{name} has only tokens of suppress_tokens, {list(forced)}, so none would be "
                    f"left to choose; remove one of them from suppress_tokens"
                )
