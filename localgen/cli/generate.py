"""``localgen generate``: continue a text on the terminal."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Annotated, Any

import typer

from localgen import hub
from localgen.completion import Completion, Stats
from localgen.config import GenerationConfig, ModelConfig, replace_options
from localgen.model import LocalModel

_MODEL = ModelConfig()
_CONFIG = GenerationConfig()


def generate(
    prompt: Annotated[
        str | None, typer.Argument(help="The text to continue; stdin if left out.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "-m", "--model", help="A .gguf file, or 'smollm2' (the default).", metavar="MODEL"
        ),
    ] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="Most new tokens (256).")] = None,
    max_time: Annotated[float | None, typer.Option(help="Most seconds.")] = None,
    min_new_tokens: Annotated[int | None, typer.Option(help="Fewest new tokens.")] = None,
    stop: Annotated[
        list[str] | None, typer.Option("--stop", help="Stop before this text; may be repeated.")
    ] = None,
    do_sample: Annotated[
        bool | None,
        typer.Option(help="Sample or be greedy; by default, sample if a sampling option is set."),
    ] = None,
    temperature: Annotated[float, typer.Option()] = _CONFIG.temperature,
    top_k: Annotated[int, typer.Option()] = _CONFIG.top_k,
    top_p: Annotated[float, typer.Option()] = _CONFIG.top_p,
    min_p: Annotated[float | None, typer.Option()] = None,
    typical_p: Annotated[float, typer.Option()] = _CONFIG.typical_p,
    repetition_penalty: Annotated[float, typer.Option()] = _CONFIG.repetition_penalty,
    frequency_penalty: Annotated[float, typer.Option()] = _CONFIG.frequency_penalty,
    presence_penalty: Annotated[float, typer.Option()] = _CONFIG.presence_penalty,
    no_repeat_ngram_size: Annotated[int, typer.Option()] = _CONFIG.no_repeat_ngram_size,
    seed: Annotated[int | None, typer.Option(help="Makes sampling repeatable.")] = None,
    logprobs: Annotated[
        int | None, typer.Option(help="With --json: log-probabilities of the n likeliest tokens.")
    ] = None,
    split_special_tokens: Annotated[
        bool, typer.Option("--split-special-tokens", help="Take special tokens in PROMPT as text.")
    ] = False,
    n_ctx: Annotated[int, typer.Option(help="Most tokens, prompt and new.")] = _MODEL.n_ctx,
    n_threads: Annotated[int | None, typer.Option(help="CPU threads (all).")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or metal.")] = _MODEL.device,
    n_gpu_layers: Annotated[int | None, typer.Option(help="Layers on the GPU (all).")] = None,
    kv_type: Annotated[str, typer.Option(help="Type of the KV cache.")] = _MODEL.kv_type,
    flash_attention: Annotated[str, typer.Option(help="auto, on or off.")] = _MODEL.flash_attention,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    stats: Annotated[bool, typer.Option("--stats", help="Print a line about speed.")] = False,
) -> None:
    """Continue PROMPT and stream the text to stdout."""
    if logprobs is not None and not as_json:
        raise ValueError("--logprobs prints only with --json")
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        max_time=max_time,
        min_new_tokens=min_new_tokens,
        stop_strings=stop or None,
        do_sample=do_sample,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        typical_p=typical_p,
        repetition_penalty=repetition_penalty,
        frequency_penalty=frequency_penalty,
        presence_penalty=presence_penalty,
        no_repeat_ngram_size=no_repeat_ngram_size,
        seed=seed,
        logprobs=logprobs,
    )
    loading: dict[str, Any] = {
        "n_ctx": n_ctx,
        "n_threads": n_threads,
        "device": device,
        "n_gpu_layers": n_gpu_layers,
        "kv_type": kv_type,
        "flash_attention": flash_attention,
    }
    replace_options(_MODEL, loading)  # a wrong option is said before anything is read or loaded
    source = model or _default_model()
    text = _read_stdin() if prompt is None else prompt
    with LocalModel.from_pretrained(source, **loading) as loaded:
        completion = _stream(loaded, text, config, split_special_tokens, quiet=as_json)
    if as_json:
        print(json.dumps(_as_dict(text, completion), ensure_ascii=False))
    if stats:
        print(_stats_line(completion.stats), file=sys.stderr)
    if completion.finish_reason == "cancelled":
        raise KeyboardInterrupt


def _default_model() -> str:
    """The model used without -m, said on stderr."""
    path = hub.resolve(hub.DEFAULT_MODEL)
    print(f"localgen: no -m, using {hub.DEFAULT_MODEL} ({path.name})", file=sys.stderr)
    return hub.DEFAULT_MODEL


def _read_stdin() -> str:
    if sys.stdin.isatty():
        print("localgen: reading the prompt from stdin; end it with Ctrl-D", file=sys.stderr)
    return sys.stdin.read()


def _stream(
    model: LocalModel, text: str, config: GenerationConfig, split: bool, *, quiet: bool
) -> Completion:
    """Generate, printing pieces as they come unless ``quiet``; Ctrl-C ends it early."""
    stream = model.stream(text, generation_config=config, split_special_tokens=split)
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


def _as_dict(prompt: str, completion: Completion) -> dict[str, Any]:
    return {"prompt": prompt, **asdict(completion)}


def _stats_line(stats: Stats) -> str:
    prefill = stats.n_prompt - stats.n_cached
    rate = prefill / stats.prefill_seconds if stats.prefill_seconds else 0.0
    decode = f"{stats.tokens_per_second:.1f}" if stats.tokens_per_second else "-"
    ttft = f"{stats.ttft * 1e3:.0f} ms" if stats.ttft is not None else "-"
    return (
        f"localgen: {stats.n_prompt} prompt tokens at {rate:.1f}/s, {stats.n_new} new at "
        f"{decode}/s, first after {ttft}, {stats.wall_seconds:.2f} s in all"
        + (f", seed {stats.seed}" if stats.seed is not None else "")
    )
