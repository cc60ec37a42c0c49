"""The options that several commands share, each declared once; it loads no model."""

from __future__ import annotations

import inspect
import re
import sys
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

import typer

from localgen import hub
from localgen._util.format import counted, either
from localgen.cli.constraint_flags import check_flags
from localgen.cli.files import read_file
from localgen.cli.flag_names import RENAMED, flag_of
from localgen.cli.option_groups import OptionGroup
from localgen.cli.sampling_flags import SAMPLING_FLAGS
from localgen.completion import Stats
from localgen.config import (
    DEFAULT_MAX_NEW_TOKENS,
    DEVICES,
    FLASH_ATTENTION,
    KV_TYPES,
    GenerationConfig,
    ModelConfig,
)
from localgen.errors import LocalgenError
from localgen.text.replies.reasoning import Reasoning, checked_reasoning

_MODEL = ModelConfig()


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
Threads = Annotated[int | None, typer.Option(help="Use this many CPU threads.", show_default="all")]
GpuLayers = Annotated[
    int | None, typer.Option(help="Put this many layers on the GPU.", show_default="all")
]
MaxSequences = Annotated[int, typer.Option(help="Decode at most this many sequences together.")]
Device = Annotated[str, typer.Option(help=f"Choose the device: {either(DEVICES)}.")]
_KV_TYPE = f"Store the KV cache as {either(KV_TYPES)}."
_FLASH_ATTENTION = f"Use flash attention: {either(FLASH_ATTENTION)}."
KvType = Annotated[str, typer.Option(help=_KV_TYPE)]
FlashAttention = Annotated[str, typer.Option(help=_FLASH_ATTENTION)]
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


@dataclass(frozen=True, kw_only=True)
class LoadingOptions(OptionGroup):
    """Options for loading a model."""

    n_ctx: Annotated[int, typer.Option(help="Set the context size in tokens.")] = _MODEL.n_ctx
    n_threads: Threads = None
    device: Device = _MODEL.device
    n_gpu_layers: GpuLayers = None
    # None is "not typed": only then may a profile set them.
    kv_type: Annotated[
        str | None, typer.Option(help=_KV_TYPE, show_default=f"{_MODEL.kv_type}; f32 for eval")
    ] = None
    flash_attention: Annotated[
        str | None, typer.Option(help=_FLASH_ATTENTION, show_default=_MODEL.flash_attention)
    ] = None
    check_memory: Annotated[
        bool, typer.Option(help="Refuse to load a model that does not fit in memory.")
    ] = _MODEL.check_memory

    def given(self) -> dict[str, Any]:
        """Return the options that have a value; the library chooses the others."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def config(self, **more: Any) -> ModelConfig:
        """Return a ModelConfig with these options and ``more``. Raises ValueError."""
        return ModelConfig(**self.given(), **more)


# Options that single commands declare.
_OTHERS = (
    "allow_kv_types", "allow_requantize", "batch_sizes", "depths", "deterministic", "imatrix",
    "include_path", "keep_split", "kv_types", "log_samples", "logprobs", "losses",
    "max_kld", "max_sequences", "new_tokens", "normalization", "num_fewshot", "output_tensor_type",
    "overflow", "overwrite", "process_output", "prompt_lengths", "pure", "reasoning",
    "save_reference_pack", "reference_pack", "resume", "split_special_tokens", "system_instruction",
    "target_kld", "target_size", "task_limit", "template", "tensor_type", "token_embedding_type",
)  # fmt: skip

# The flags of the command that runs, by their parameters' names.
_of_the_command: dict[str, str] = {}
# Those that switch something off, by the same names.
_off: dict[str, str] = {}
# Parameters whose names begin messages that are not about them.
_ORDINARY_WORDS = ("model", "load", "stats", "history", "session", "system")
_NEEDS = re.compile(r"\bneeds (\w+)=True\b")

# What stands around an option's name in messages that refuse several together.
_BEFORE_A_NAME = ("cannot be used with ", "leave out ", "each of ")
_AFTER_A_NAME = re.compile(r"(?: and \w+)* cannot be used| out or\b")


def error_message(error: Exception) -> str:
    """Return an error's message, with options named as on the command line."""
    if isinstance(error, OSError) and not isinstance(error, LocalgenError):
        named = error.filename is not None and error.strerror
        return f"{error.filename}: {error.strerror}" if named else str(error)
    return as_flags(str(error))


def as_flags(message: str) -> str:
    """Return a message of the library with its options named as on the command line."""
    own = [flag.name for group in (GenerationOptions, LoadingOptions) for flag in group.flags()]
    names = "|".join([*own, *_OTHERS, *RENAMED, *_of_the_command])
    message = _NEEDS.sub(_excludes, message)

    def flag(match: re.Match[str]) -> str:
        own_flag, value = _flag_of(match[1]), match[2]
        is_named = match[3] or "_" in match[1] or not match.start() or _is_named(message, match)
        if value is None and not is_named:
            return match[0]  # also an ordinary word: temperature, seed
        if value == "False":
            return f"--no-{own_flag[2:]}"
        return own_flag if value in (None, "True") else f"{own_flag} {value}"

    # What is in quotes is a value, such as the name of a sampler.
    value = r"=([\w'-]+(?:\.[\w'-]+)*)|(=)(?!\w)"
    return re.sub(rf"(?<!['\w-])({names})\b(?:{value})?", flag, message)


def note_command(command: Any) -> None:
    """Let messages name the flags of this command; ``command`` is typer's."""
    _of_the_command.clear()
    _off.clear()
    for parameter in command.params:
        flag = next((each for each in parameter.opts if each.startswith("--")), None)
        if flag is not None and parameter.name not in _ORDINARY_WORDS:
            _of_the_command[parameter.name] = flag
            if parameter.secondary_opts:
                _off[parameter.name] = parameter.secondary_opts[0]


def _flag_of(name: str) -> str:
    return _of_the_command.get(name) or flag_of(name)


def _excludes(needs: re.Match[str]) -> str:
    """Say that a switch which turns off what is needed must not be given."""
    off = _off.get(needs[1])
    return needs[0] if off is None else f"cannot be used with {off}"


def _is_named(message: str, word: re.Match[str]) -> bool:
    """Return whether a word of a message stands where an option is named."""
    before, after = message[: word.start()], message[word.end() :]
    return before.endswith(_BEFORE_A_NAME) or bool(_AFTER_A_NAME.match(after))


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
    print(f"localgen: no -m, using {hub.DEFAULT_MODEL} ({path.name})", file=sys.stderr)
    return hub.DEFAULT_MODEL


def _drafts(stats: Stats) -> str:
    if stats.no_speculation_because is not None:
        return f", no drafts ({stats.no_speculation_because})"
    n_drafted = stats.n_drafted
    accepted = f", {stats.n_accepted} of {counted(n_drafted, 'drafted token')} accepted"
    return accepted if n_drafted else ""


def stats_line(stats: Stats) -> str:
    """Return a line about the speed of a call."""
    prefill = stats.n_prompt - stats.n_cached
    rate = prefill / stats.prefill_seconds if stats.prefill_seconds else 0.0
    decode = f"{stats.tokens_per_second:.1f}" if stats.tokens_per_second else "-"
    ttft = f"{stats.ttft * 1e3:.0f} ms" if stats.ttft is not None else "-"
    cached = f" ({stats.n_cached} cached), the rest" if stats.n_cached else ""
    return (
        f"localgen: {counted(stats.n_prompt, 'prompt token')}{cached} at {rate:.1f}/s, "
        f"{stats.n_new} new at {decode}/s, first token after {ttft}, "
        f"{stats.wall_seconds:.2f} s in total"
        + _drafts(stats)
        + (f", seed {stats.seed}" if stats.seed is not None else "")
    )
