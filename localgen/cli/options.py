"""The options that several commands share, each declared once; it loads no model."""

from __future__ import annotations

import inspect
import sys
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

import typer

from localgen import hub
from localgen._util.option_fields import help_of
from localgen.cli.constraint_flags import check_flags
from localgen.cli.declared_flags import DeclaredOptions
from localgen.cli.files import read_file
from localgen.cli.flag_names import RENAMED, flag_of
from localgen.cli.option_groups import OptionGroup
from localgen.cli.sampling_flags import SAMPLING_FLAGS
from localgen.config import (
    DEFAULT_MAX_NEW_TOKENS,
    GenerationConfig,
    ModelConfig,
)
from localgen.profiles.settings import LOADING as SET_BY_PROFILES
from localgen.text.replies.reasoning import Reasoning, checked_reasoning

MODEL_FORMS = "a .gguf file, org/name[:LEVEL] on the Hub, or an alias"
LOGPROBS_HELP = "Include the log-probabilities of the N most likely tokens"

ModelName = Annotated[
    str | None,
    typer.Option(
        "-m",
        "--model",
        help=f"Use this model: {MODEL_FORMS}.",
        metavar="MODEL",
        show_default=hub.DEFAULT_MODEL,
    ),
]
SplitSpecialTokens = Annotated[
    bool,
    typer.Option(
        "--split-special-tokens", help="Treat special tokens in the prompt as plain text."
    ),
]
ReasoningText = Annotated[
    str | None,
    typer.Option(
        help="Turn a model's reasoning off or on, set its effort (low, medium, high), or end it "
        "after this many tokens.",
        metavar="off|on|EFFORT|N",
        show_default="as its chat template has it",
    ),
]
MaxSequences = Annotated[int, typer.Option(help=help_of(ModelConfig, "max_sequences"))]
UseProfile = Annotated[
    bool,
    typer.Option(
        "--profile/--no-profile", help="Use the settings that localgen tune found for this model."
    ),
]


@dataclass(frozen=True, kw_only=True)
class GenerationOptions(OptionGroup):
    """Options for sampling and for when generation stops."""

    max_new_tokens: Annotated[
        int | None,
        typer.Option(
            help="Generate at most this many tokens.", show_default=str(DEFAULT_MAX_NEW_TOKENS)
        ),
    ] = None
    max_time: Annotated[float | None, typer.Option(help="Stop after this many seconds.")] = None
    stop: Annotated[
        list[str] | None,
        typer.Option("--stop", metavar="TEXT", help="Stop before this text; can be repeated."),
    ] = None
    seed: Annotated[int | None, typer.Option(help="Make sampling reproducible.")] = None

    negative_prompt: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Move away from this text; needs --guidance-scale."),
    ] = None

    json_schema: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write JSON that this JSON Schema describes."),
    ] = None
    json_object: Annotated[bool, typer.Option("--json-object", help="Write a JSON object.")] = False
    regex: Annotated[
        str | None, typer.Option(metavar="PATTERN", help="Write text that this pattern matches.")
    ] = None
    choice: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="Write one of the texts given so; can be repeated."),
    ] = None
    grammar: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write text of this grammar, Lark's or GBNF."),
    ] = None

    draft: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="Let this smaller model with the same vocabulary draft tokens."
        ),
    ] = None

    # The flags of ``SamplingOptions``, by name.
    sampling: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def flags(cls) -> list[inspect.Parameter]:
        return [*(flag for flag in super().flags() if flag.name != "sampling"), *SAMPLING_FLAGS]

    @classmethod
    def taken_from(cls, values: dict[str, Any]) -> GenerationOptions:
        sampling = {flag.name: values.pop(flag.name) for flag in SAMPLING_FLAGS}
        own = [each.name for each in fields(cls) if each.name != "sampling"]
        return cls(sampling=sampling, **{name: values.pop(name) for name in own})

    def config(self, **more: Any) -> GenerationConfig:
        """Return a GenerationConfig with these options and ``more``, before any model loads.

        Raises ValueError, also for a constraint that cannot be enforced and for its file;
        ModelNotFoundError for a draft model that is not there.
        """
        options = asdict(self)
        for name in ("json_schema", "grammar"):
            if options[name] is not None:
                options[name] = read_file(flag_of(name), options[name])
        config = GenerationConfig(
            stop_strings=options.pop("stop") or None,
            choices=options.pop("choice") or None,
            assistant_model=options.pop("draft"),
            **options.pop("sampling"),
            **options,
            **more,
        )
        check_flags(config)
        if config.assistant_model is not None:
            hub.resolve(config.assistant_model)
        return config


_LOADING = (
    *("n_ctx", "n_threads", "device", "n_gpu_layers"),
    *("kv_type", "flash_attention", "check_memory"),
)


class LoadingOptions(DeclaredOptions, of=ModelConfig, only=_LOADING, unset=SET_BY_PROFILES):
    """Options for loading a model."""

    def config(self, **more: Any) -> ModelConfig:
        """Return a ModelConfig with these options and ``more``. Raises ValueError."""
        return ModelConfig(**self.given(), **more)


class ExactLoadingOptions(
    LoadingOptions,
    of=ModelConfig,
    only=_LOADING,
    unset=SET_BY_PROFILES,
    shown={"kv_type": "f32"},
):
    """Those of ``eval``, whose KV cache holds every value unrounded unless asked otherwise."""


def as_reasoning(text: str | None) -> Reasoning | None:
    """Return what was typed for ``reasoning``. Raises ValueError."""
    if text is not None and text.removeprefix("-").isdecimal():
        return checked_reasoning(int(text))
    return checked_reasoning(text)


def is_given(name: str, context: typer.Context) -> bool:
    """Return whether the option for a field was typed, even if as its default."""
    source = context.get_parameter_source(RENAMED.get(name, name))
    return source is not None and source.name != "DEFAULT"


def model_or_default(model: str | None) -> str:
    """Return ``model``, or the default model, which is then named on stderr."""
    if model is not None:
        return model
    path = hub.resolve(hub.DEFAULT_MODEL)
    print(f"localgen: no --model, using {hub.DEFAULT_MODEL} ({path.name})", file=sys.stderr)
    return hub.DEFAULT_MODEL
