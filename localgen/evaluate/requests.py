"""What a request of lm-eval asks for → token ids that fit, and a GenerationConfig. Pure, and
without lm-eval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from localgen.config import GenerationConfig

# Names that tasks give to the most new tokens; the first one given counts, as in lm-eval.
_MAX_TOKENS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")


@dataclass(frozen=True, slots=True)
class ScoringRequest:
    """A continuation to score: token ids of its context and its own. n_cut: how many tokens of the
    context were left out at its beginning."""

    context: tuple[int, ...]
    continuation: tuple[int, ...]
    n_cut: int


def scoring_request(
    context: Sequence[int], continuation: Sequence[int], max_length: int, what: object
) -> ScoringRequest:
    """Return a request whose tokens, without the last one, are at most ``max_length``.

    The last token is never computed, so it takes no room. A long context loses its beginning, as in
    lm-eval's own models. Raises ValueError for a continuation that is empty or longer than that,
    and for an empty context; ``what`` is the request as it was given.
    """
    if not continuation or not context:
        part = "context" if continuation else "continuation"
        raise ValueError(
            f"the {part} of a request has no tokens of its own, so there is nothing to score: "
            f"{what!r:.200}"
        )
    n_context = max_length + 1 - len(continuation)
    if n_context < 1:
        raise ValueError(
            f"a continuation of {len(continuation)} tokens does not fit max_length={max_length}; "
            f"load the model with a larger max_length: {what!r:.200}"
        )
    n_cut = max(0, len(context) - n_context)
    return ScoringRequest(tuple(context[n_cut:]), tuple(continuation), n_cut)


def generation_config(
    options: Mapping[str, Any], *, max_gen_toks: int, end_text: str | None, seed: int
) -> GenerationConfig:
    """Return what the ``gen_kwargs`` of a request ask for.

    Greedy unless they set ``do_sample`` or a temperature above 0. max_gen_toks: the most new tokens
    where they name none. end_text: what the EOS token is spelled as; it also ends a text. seed: of
    a sampled text where they have none. Raises TypeError for options that GenerationConfig lacks,
    ValueError for bad values.
    """
    given = dict(options)
    limits = [given.pop(name) for name in _MAX_TOKENS if given.get(name) is not None]
    for name in _MAX_TOKENS:
        given.pop(name, None)
    stops = _stops(given.pop("until", None), end_text)
    temperature = given.pop("temperature", None)
    do_sample = given.pop("do_sample", None)
    if do_sample is None:
        do_sample = bool(temperature)
    if do_sample:
        given.setdefault("seed", seed)
        if temperature is not None:
            given["temperature"] = float(temperature)
    return GenerationConfig(
        do_sample=do_sample,
        max_new_tokens=int(limits[0] if limits else max_gen_toks),
        stop_strings=stops or None,
        **given,
    )


def _stops(until: str | Sequence[str] | None, end_text: str | None) -> list[str]:
    """Return the texts that end a generation, without empty and equal ones."""
    given = [until] if isinstance(until, str) else [*(until or ())]
    return list(dict.fromkeys(text for text in [*given, end_text] if text))


def device_name(device: str) -> str:
    """Return localgen's name of a device that lm-eval names as PyTorch does.

    Raises ValueError for one of several GPUs: localgen uses those that llama.cpp finds.
    """
    name, _, number = device.partition(":")
    if number not in ("", "0"):
        raise ValueError(
            f"device must not choose one of several GPUs, got {device!r}; pass 'cuda' and set "
            f"CUDA_VISIBLE_DEVICES"
        )
    return {"mps": "metal"}.get(name, name)


def n_sequences(batch_size: int | str | None, max_batch_size: int | None) -> int | None:
    """Return how many sequences lm-eval's batch sizes let run together; None for the default.

    batch_size: a number, also as text, or "auto". Raises ValueError for anything else.
    """
    text = str(batch_size if batch_size is not None else "auto").partition(":")[0]
    if text == "auto":
        return max_batch_size
    if max_batch_size is not None:
        raise ValueError(
            f"max_batch_size needs batch_size='auto', got batch_size={batch_size!r} and "
            f"max_batch_size={max_batch_size!r}; leave one of them out"
        )
    if not text.isdecimal() or not int(text):
        raise ValueError(f"batch_size must be a number above 0 or 'auto', got {batch_size!r}")
    return int(text)
