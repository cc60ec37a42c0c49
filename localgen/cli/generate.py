"""``localgen generate``: continue a text on the terminal."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any

import typer

from localgen._util.console import dump_json, read_stdin
from localgen._util.format import counted
from localgen.cli.constraint_flags import cut_message
from localgen.cli.option_groups import with_options
from localgen.cli.options import (
    LOGPROBS_HELP,
    GenerationOptions,
    LoadingOptions,
    ModelName,
    SplitSpecialTokens,
    UseProfile,
    is_given,
    model_or_default,
)
from localgen.cli.sessions import kept_session
from localgen.cli.stats_line import stats_line
from localgen.completion import Completion
from localgen.config import GenerationConfig
from localgen.errors import GenerationInterrupted
from localgen.model import LocalModel


@with_options
def generate(
    *,
    prompt: Annotated[
        str | None,
        typer.Argument(metavar="PROMPT", help="Continue this text; left out, or -, is stdin."),
    ] = None,
    model: ModelName = None,
    context: typer.Context,
    sampling: GenerationOptions,
    logprobs: Annotated[int | None, typer.Option(help=f"{LOGPROBS_HELP} (needs --json).")] = None,
    split_special_tokens: SplitSpecialTokens = False,
    loading: LoadingOptions,
    profile: UseProfile = True,
    session: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Resume the KV cache saved in FILE, if any; save it at the end."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    stats: Annotated[bool, typer.Option("--stats", help="Print the speed to stderr.")] = False,
) -> None:
    """Continue PROMPT and stream the text to stdout; with beams, print it at the end.

    Sampling options that are left out default to the model file's own, if it has any. The exit code
    is 1 if the text was cut before it satisfied its constraint.
    """
    if logprobs is not None and not as_json:
        raise ValueError("--logprobs needs --json")
    # Before anything is read or loaded: options may be wrong.
    config = sampling.config(logprobs=logprobs)
    options = _typed(context, config)
    loading.config()
    source = model_or_default(model)
    text = _read_stdin() if prompt is None or prompt == "-" else _as_typed(prompt)
    with (
        LocalModel.from_pretrained(source, use_profile=profile, **loading.given()) as loaded,
        kept_session(loaded, session),
    ):
        run = _search if options.get("num_beams", 1) > 1 else _stream
        completion = run(loaded, text, options, split_special_tokens, quiet=as_json)
        if as_json:
            print(dump_json(_as_dict(text, completion), sys.stdout))
        if stats:
            print(stats_line(completion.stats), file=sys.stderr)
        if completion.finish_reason == "cancelled":
            raise KeyboardInterrupt
    cut = cut_message(completion, config)
    if cut is not None:
        _say(cut)
        raise typer.Exit(1)
    if completion.finish_reason == "length" and sys.stdout.isatty() and not as_json:
        tokens = counted(completion.stats.n_new, "token")
        _say(f"stopped at the limit after {tokens} (--max-new-tokens or --n-ctx)")


def _say(message: str) -> None:
    print(f"localgen: {message}", file=sys.stderr)


def _typed(context: typer.Context, config: GenerationConfig) -> dict[str, Any]:
    """Return the fields of ``config`` that were typed, even if as their defaults.

    A whole ``generation_config`` would override the sampling options of the model's file.
    """
    names = [field.name for field in fields(config) if is_given(field.name, context)]
    return {name: getattr(config, name) for name in names}


def _read_stdin() -> str:
    if sys.stdin.isatty():
        end = "Ctrl-Z and Enter" if sys.platform == "win32" else "Ctrl-D"
        _say(f"reading the prompt from stdin; {end} ends it")
    return read_stdin()


def _as_typed(prompt: str) -> str:
    if os.path.isfile(prompt):
        _say(
            f"the prompt is the text {prompt!r:.80}, not the file of that name; to continue the "
            f"file's text, leave out PROMPT and use < {prompt:.80}"
        )
    return prompt


def _stream(
    model: LocalModel, text: str, options: dict[str, Any], split: bool, *, quiet: bool
) -> Completion:
    """Generate, and print the text as it comes unless ``quiet``; Ctrl-C ends it early."""
    stream = model.stream(text, split_special_tokens=split, **options)
    try:
        for piece in stream:
            if not quiet:
                sys.stdout.write(piece)
                sys.stdout.flush()
    except KeyboardInterrupt:
        stream.close()
    if not quiet:
        print()
    return stream.completion


def _search(
    model: LocalModel, text: str, options: dict[str, Any], split: bool, *, quiet: bool
) -> Completion:
    """Generate with beams, whose text is known only at the end, and print it unless ``quiet``."""
    try:
        (completion,) = model.complete([text], split_special_tokens=split, **options)
    except GenerationInterrupted as interrupted:
        (completion,) = interrupted.partial
    if not quiet:
        print(completion.text)
    return completion


def _as_dict(prompt: str, completion: Completion) -> dict[str, Any]:
    done = {"prompt": prompt, **asdict(completion)}
    if completion.score is None:
        del done["score"]  # only beams have one
    if completion.is_valid is None:
        del done["parsed"], done["is_valid"]  # without a constraint
    return done
