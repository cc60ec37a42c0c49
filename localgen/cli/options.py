"""The options that several commands share, each declared once; it knows typer, and loads nothing.

A command takes a group of options as one parameter, and ``with_options`` shows typer its fields.
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any

import typer

from localgen import hub
from localgen.completion import Stats
from localgen.config import GenerationConfig, ModelConfig
from localgen.errors import LocalgenError

_MODEL = ModelConfig()
_CONFIG = GenerationConfig()

LOGPROBS_HELP = "log-probabilities of the n likeliest tokens."

ModelName = Annotated[
    str | None,
    typer.Option(
        "-m",
        "--model",
        help="A .gguf file, org/name[:LEVEL] on the Hub, or an alias (smollm2).",
        metavar="MODEL",
    ),
]
SplitSpecialTokens = Annotated[
    bool, typer.Option("--split-special-tokens", help="Take special tokens in PROMPT as text.")
]


@dataclass(frozen=True, kw_only=True)
class GenerationOptions:
    """How tokens are chosen and when a text ends."""

    max_new_tokens: Annotated[int | None, typer.Option(help="Most new tokens (256).")] = None
    max_time: Annotated[float | None, typer.Option(help="Most seconds.")] = None
    min_new_tokens: Annotated[int | None, typer.Option(help="Fewest new tokens.")] = None
    stop: Annotated[
        list[str] | None,
        typer.Option("--stop", metavar="TEXT", help="Stop before this text; may be repeated."),
    ] = None
    do_sample: Annotated[
        bool | None,
        typer.Option(help="Sample or be greedy; by default, sample if a sampling option is set."),
    ] = None
    temperature: Annotated[float, typer.Option()] = _CONFIG.temperature
    top_k: Annotated[int, typer.Option()] = _CONFIG.top_k
    top_p: Annotated[float, typer.Option()] = _CONFIG.top_p
    min_p: Annotated[float | None, typer.Option()] = None
    typical_p: Annotated[float, typer.Option()] = _CONFIG.typical_p
    repetition_penalty: Annotated[float, typer.Option()] = _CONFIG.repetition_penalty
    frequency_penalty: Annotated[float, typer.Option()] = _CONFIG.frequency_penalty
    presence_penalty: Annotated[float, typer.Option()] = _CONFIG.presence_penalty
    no_repeat_ngram_size: Annotated[int, typer.Option()] = _CONFIG.no_repeat_ngram_size
    seed: Annotated[int | None, typer.Option(help="Makes sampling repeatable.")] = None

    def config(self, **more: Any) -> GenerationConfig:
        """As a GenerationConfig, with ``more`` of its fields. Raises ValueError."""
        options = asdict(self)
        return GenerationConfig(stop_strings=options.pop("stop") or None, **options, **more)


@dataclass(frozen=True, kw_only=True)
class LoadingOptions:
    """How a model is loaded."""

    n_ctx: Annotated[int, typer.Option(help="Most tokens, prompt and new.")] = _MODEL.n_ctx
    n_threads: Annotated[int | None, typer.Option(help="CPU threads (all).")] = None
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or metal.")] = _MODEL.device
    n_gpu_layers: Annotated[int | None, typer.Option(help="Layers on the GPU (all).")] = None
    kv_type: Annotated[str, typer.Option(help="Type of the KV cache.")] = _MODEL.kv_type
    flash_attention: Annotated[str, typer.Option(help="auto, on or off.")] = _MODEL.flash_attention
    check_memory: Annotated[bool, typer.Option(help="Refuse a model that would not fit.")] = (
        _MODEL.check_memory
    )

    def config(self, **more: Any) -> ModelConfig:
        """As a ModelConfig, with ``more`` of its fields. Raises ValueError."""
        return ModelConfig(**asdict(self), **more)


_GROUPS: tuple[Any, ...] = (GenerationOptions, LoadingOptions)
# Of commands that declare their options themselves.
_OTHERS = (
    "allow_requantize", "batch_sizes", "imatrix", "kv_types", "new_tokens", "prompt_lengths",
)  # fmt: skip
# What the commands call otherwise than the functions.
_RENAMED = {
    "n_rounds": "rounds", "n_chunks": "chunks", "n_sequences": "sequences",
    "stop_strings": "stop",
}  # fmt: skip


def complaint(error: Exception) -> str:
    """An error in the words of the command line."""
    if isinstance(error, OSError) and not isinstance(error, LocalgenError):
        named = error.filename is not None and error.strerror
        return f"{error.filename}: {error.strerror}" if named else str(error)
    return as_flags(str(error))


def as_flags(message: str) -> str:
    """A message of the library with the options that it names as they are on the command line."""
    own = [field.name for group in _GROUPS for field in fields(group)]
    names = "|".join([*own, *_OTHERS, *_RENAMED])

    def flag(match: re.Match[str]) -> str:
        name, value = _RENAMED.get(match[1], match[1]).replace("_", "-"), match[2]
        if value is None and "_" not in match[1] and match.start():
            return match[0]  # a word as well: temperature, seed
        if value == "False":
            return f"--no-{name}"
        return f"--{name}" if value in (None, "True") else f"--{name} {value}"

    return re.sub(rf"\b({names})\b(?:=([\w.'-]+))?", flag, message)


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """``command`` as typer can read it: the fields of a group stand where the group stood."""
    parameters: list[inspect.Parameter] = []
    groups: dict[str, Any] = {}
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        if parameter.annotation in _GROUPS:
            groups[parameter.name] = parameter.annotation
            parameters += inspect.signature(parameter.annotation, eval_str=True).parameters.values()
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(command)
    def run(**values: Any) -> None:
        for name, group in groups.items():
            names = [field.name for field in fields(group)]
            values[name] = group(**{each: values.pop(each) for each in names})
        command(**values)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return run


def is_given(name: str, context: typer.Context) -> bool:
    """Whether the option for a field was typed, if only as its default."""
    source = context.get_parameter_source(_RENAMED.get(name, name))
    return source is not None and source.name != "DEFAULT"


def model_or_default(model: str | None) -> str:
    """The model of ``-m``; without it the default one, said on stderr."""
    if model is not None:
        return model
    path = hub.resolve(hub.DEFAULT_MODEL)
    print(f"localgen: no -m, using {hub.DEFAULT_MODEL} ({path.name})", file=sys.stderr)
    return hub.DEFAULT_MODEL


def stats_line(stats: Stats) -> str:
    """The speed of a call, for people."""
    prefill = stats.n_prompt - stats.n_cached
    rate = prefill / stats.prefill_seconds if stats.prefill_seconds else 0.0
    decode = f"{stats.tokens_per_second:.1f}" if stats.tokens_per_second else "-"
    ttft = f"{stats.ttft * 1e3:.0f} ms" if stats.ttft is not None else "-"
    cached = f", {stats.n_cached} of them cached, the others" if stats.n_cached else ""
    return (
        f"localgen: {stats.n_prompt} prompt tokens{cached} at {rate:.1f}/s, {stats.n_new} new at "
        f"{decode}/s, first after {ttft}, {stats.wall_seconds:.2f} s in all"
        + (f", seed {stats.seed}" if stats.seed is not None else "")
    )
