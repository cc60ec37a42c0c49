"""LocalgenLM: a model of lm-evaluation-harness that runs GGUF files in this process."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tqdm import tqdm

from localgen._util.checks import check_int
from localgen._util.console import is_terminal
from localgen._util.warn import warn
from localgen.config import GenerationConfig
from localgen.errors import TemplateError
from localgen.evaluate.requests import (
    ScoringRequest,
    device_name,
    generation_config,
    n_sequences,
    scoring_request,
)
from localgen.model import LocalModel
from localgen.text.tokenizer import Tokenizer

Item = TypeVar("Item")
Encoded = tuple[tuple[str, str] | None, list[int], list[int]]
# Requests of one call of the model. After each, the progress is shown and lm-eval may cache.
_AT_ONCE = 512
# In a log, each bar is a line; on a terminal, it is drawn over the last one.
_SECONDS_BETWEEN_BARS = {False: 30.0, True: 0.1}
# Of the KV cache: with F16, log-likelihoods are farther from those of lm-eval's HF model.
_KV_TYPE = "f32"


@register_model("localgen")
class LocalgenLM(TemplateLM):
    """A GGUF file as a model of lm-eval ≥ 0.4.9.

    Requests run in the order of their token ids, so that what contexts have in common, such as
    few-shot examples, is computed once. Close it, or use it in a ``with`` block.
    """

    tokenizer: Tokenizer

    def __init__(
        self,
        pretrained: str | os.PathLike[str] | LocalModel,
        *,
        max_length: int | None = None,
        max_gen_toks: int = 256,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        device: str | None = None,
        add_bos_token: bool | None = None,
        prefix_token_id: int | None = None,
        chat_template: str | None = None,
        chat_template_args: Mapping[str, Any] | None = None,
        enable_thinking: bool | None = None,
        show_progress: bool = True,
        **options: Any,
    ) -> None:
        """Load a model.

        pretrained: as ``source`` of ``LocalModel.from_pretrained``, or a LocalModel, which stays
        the caller's to close.
        max_length: the most tokens that go through the model for one request; longer contexts lose
        their beginning, with a warning. The default is what n_ctx and the model's training allow.
        max_gen_toks: the most new tokens where a task names none.
        batch_size: the most sequences that run together; "auto" is the default of
        ``max_sequences``, or ``max_batch_size``. device: also PyTorch's names, such as "mps".
        add_bos_token: begin texts with BOS or not; None does what the model's file says.
        prefix_token_id: what an empty context is; the default is BOS, else EOS.
        chat_template: a jinja template, or the name of one of the model's.
        chat_template_args, enable_thinking: variables of the chat template.
        show_progress: whether to show bars of the requests.
        options: of ``LocalModel.from_pretrained``. Here ``kv_type`` is "f32" unless it is given:
        log-likelihoods are then closest to those of lm-eval's HF model.
        """
        super().__init__()
        check_int("max_gen_toks", max_gen_toks, 1)
        loading = _loading_options(options, batch_size, max_batch_size, device)
        self._owns_model = not isinstance(pretrained, LocalModel)
        if isinstance(pretrained, LocalModel):
            _check_nothing_to_load(loading)
            self._model = pretrained
        else:
            loading.update(_context_option(max_length, options))
            loading.setdefault("kv_type", _KV_TYPE)
            self._model = LocalModel.from_pretrained(pretrained, **loading)
        self.tokenizer = self._model.tokenizer
        self._max_length = _max_length(self._model, max_length)
        self._max_gen_toks = max_gen_toks
        self._add_bos_token = add_bos_token
        self._prefix_token_id = prefix_token_id
        self._chat_template = chat_template
        self._show_progress = show_progress
        self._template_variables = dict(chat_template_args or {})
        if enable_thinking is not None:
            self._template_variables["enable_thinking"] = enable_thinking

    def __enter__(self) -> LocalgenLM:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the model, unless it was passed as a LocalModel."""
        if self._owns_model:
            self._model.close()

    # --- what lm-eval asks about the model ---

    @property
    def model(self) -> LocalModel:
        """The LocalModel that computes."""
        return self._model

    @property
    def max_length(self) -> int:
        return self._max_length

    @property
    def max_gen_toks(self) -> int:
        return self._max_gen_toks

    @property
    def batch_size(self) -> int:
        return self._model.config.max_sequences

    @property
    def eot_token_id(self) -> int:
        token_id = self.tokenizer.eos_token_id
        if token_id is None:
            raise ValueError(f"the vocabulary of {self._model.name_or_path} has no EOS token")
        return token_id

    @property
    def prefix_token_id(self) -> int:
        if self._prefix_token_id is not None:
            return self._prefix_token_id
        token_id = self.tokenizer.bos_token_id
        return self.eot_token_id if token_id is None else token_id

    @property
    def tokenizer_name(self) -> str:
        """A name that changes with the vocabulary and the chat template: lm-eval keeps rendered
        requests by it."""
        template = self.chat_template(True) or ""
        about = hashlib.sha256(template.encode())
        about.update(repr(sorted(self.tokenizer.get_vocab().items())).encode())
        return f"localgen-{about.hexdigest()[:16]}"

    def get_model_info(self) -> dict[str, Any]:
        """Return what lm-eval writes about the model into its results."""
        return {
            "model_file": self._model.name_or_path,
            "model_num_parameters": self._model.num_parameters(),
            "max_length": self.max_length,
        }

    # --- text ---

    def tok_encode(
        self,
        string: str,
        add_special_tokens: bool | None = None,
        left_truncate_len: int | None = None,
        **_: Any,
    ) -> list[int]:
        """Return token ids. Special tokens are added as the model expects, or as told; by default
        not to a text that begins with BOS."""
        if add_special_tokens is None:
            add_special_tokens = self._add_bos_token is not False and not self._has_bos(string)
        ids = self.tokenizer.encode(string, add_special_tokens=add_special_tokens)
        bos = self.tokenizer.bos_token_id
        if add_special_tokens and self._add_bos_token and bos is not None and ids[:1] != [bos]:
            ids = [bos, *ids]
        return ids[-left_truncate_len:] if left_truncate_len else ids

    def _has_bos(self, text: str) -> bool:
        bos = self.tokenizer.bos_token_id
        return bos is not None and text.startswith(self.tokenizer.token_text(bos))

    def tok_decode(self, tokens: Any, skip_special_tokens: bool = True) -> str:
        """Return the text of token ids."""
        text: str = self.tokenizer.decode(tokens, skip_special_tokens=skip_special_tokens)
        return text

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Return a conversation as text. A template that refuses system messages gets it without
        them, with a warning, as in lm-eval's own model."""
        try:
            return self._rendered(chat_history, add_generation_prompt)
        except TemplateError as error:
            others = [message for message in chat_history if message["role"] != "system"]
            if len(others) == len(chat_history):
                raise
            warn(f"the chat template fails with a system message, which is left out: {error}")
            return self._rendered(others, add_generation_prompt)

    def _rendered(self, messages: list[dict[str, str]], add_generation_prompt: bool) -> str:
        text: str = self.tokenizer.apply_chat_template(
            messages,
            tokenize=False,
            chat_template=self._chat_template,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
            **self._template_variables,
        )
        return text

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """Return the source of the template for True, None for False.

        Raises ValueError for a name: lm-eval does not tell a model by which template to render.
        """
        if isinstance(chat_template, str):
            raise ValueError(
                f"apply_chat_template must be True or False, got {chat_template!r}; choose a "
                f"template with LocalgenLM(…, chat_template={chat_template!r})"
            )
        if not chat_template:
            return None
        try:
            return self.tokenizer.get_chat_template(self._chat_template)
        except (TemplateError, ValueError):
            return None

    # --- requests ---

    def _loglikelihood_tokens(
        self, requests: Sequence[Encoded], disable_tqdm: bool = False, **_: Any
    ) -> list[tuple[float, bool]]:
        """Return (log-likelihood, whether it is greedy) for each (key, context, continuation)."""
        asked = [
            scoring_request(context, continuation, self.max_length, key)
            for key, context, continuation in requests
        ]
        _warn_of_cuts([each.n_cut for each in asked], self.max_length)
        found: dict[int, tuple[float, bool]] = {}
        order = sorted(range(len(asked)), key=lambda index: _tokens(asked[index]))
        for some in self._parts(order, "Running loglikelihood requests", disable_tqdm):
            pairs = [(asked[index].context, asked[index].continuation) for index in some]
            for index, score in zip(some, self._model.score_continuations(pairs), strict=True):
                found[index] = answer = (score.logprob, score.is_greedy)
                if (key := requests[index][0]) is not None:
                    self.cache_hook.add_partial("loglikelihood", key, answer)
        return [found[index] for index in range(len(asked))]

    def loglikelihood_rolling(
        self, requests: Sequence[Any], disable_tqdm: bool = False
    ) -> list[float]:
        """Return the log-likelihood of each whole text, in windows of ``max_length`` tokens."""
        windows: list[Encoded] = []
        owners: list[int] = []
        for index, request in enumerate(requests):
            for context, continuation in self._windows(*request.args):
                windows.append((None, context, continuation))
                owners.append(index)
        sums = [0.0] * len(requests)
        found = self._loglikelihood_tokens(windows, disable_tqdm)
        for index, (logprob, _) in zip(owners, found, strict=True):
            sums[index] += logprob
        for request, total in zip(requests, sums, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return sums

    def _windows(self, text: str) -> Iterable[tuple[list[int], list[int]]]:
        windows = get_rolling_token_windows(
            token_list=self.tok_encode(text),
            prefix_token=self.prefix_token_id,
            max_seq_len=self.max_length,
            context_len=1,
        )
        return map(make_disjoint_window, windows)

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Return the text that follows each context, up to what its ``until`` says."""
        configs = [self._config(request.args[1]) for request in requests]
        prompts = self._prompts([request.args[0] for request in requests], configs)
        texts: dict[int, str] = {}
        order = sorted(range(len(prompts)), key=prompts.__getitem__)
        for some in self._parts(order, "Running generate_until requests", disable_tqdm):
            done = self._model.complete(
                [prompts[index] for index in some],
                generation_config=[configs[index] for index in some],
            )
            for index, completion in zip(some, done, strict=True):
                texts[index] = completion.text
                self.cache_hook.add_partial("generate_until", requests[index].args, completion.text)
        return [texts[index] for index in range(len(prompts))]

    def _prompts(
        self, contexts: Sequence[str], configs: Sequence[GenerationConfig]
    ) -> list[list[int]]:
        """Return the token ids of contexts, cut to leave room for what may be generated."""
        encoded = [self.tok_encode(each) or [self.prefix_token_id] for each in contexts]
        rooms = [self._room(config) for config in configs]
        cuts = [max(0, len(ids) - room) for ids, room in zip(encoded, rooms, strict=True)]
        _warn_of_cuts(cuts, self.max_length)
        return [ids[cut:] for ids, cut in zip(encoded, cuts, strict=True)]

    def _config(self, options: Mapping[str, Any]) -> GenerationConfig:
        return generation_config(
            options,
            max_gen_toks=self.max_gen_toks,
            end_text=self.tokenizer.token_text(self.eot_token_id),
            # NumPy's generator, which lm-eval seeds by its own option.
            seed=int(np.random.randint(2**31)),
        )

    def _room(self, config: GenerationConfig) -> int:
        """Return how many tokens of a context fit beside what may be generated."""
        n_new = config.max_new_tokens or 0
        if n_new >= self.max_length:
            raise ValueError(
                f"max_gen_toks={n_new} leaves no room for a context within "
                f"max_length={self.max_length}; use less, or a larger max_length"
            )
        return self.max_length - n_new

    def _parts(self, items: list[Item], title: str, disable_tqdm: bool) -> Iterator[list[Item]]:
        """Yield ``_AT_ONCE`` items after the other, and show how many are done."""
        is_hidden = disable_tqdm or not self._show_progress or not items
        pause = _SECONDS_BETWEEN_BARS[is_terminal(sys.stderr)]
        with tqdm(total=len(items), desc=title, disable=is_hidden, mininterval=pause) as bar:
            for start in range(0, len(items), _AT_ONCE):
                some = items[start : start + _AT_ONCE]
                yield some
                bar.update(len(some))


def _loading_options(
    options: Mapping[str, Any],
    batch_size: int | str | None,
    max_batch_size: int | None,
    device: str | None,
) -> dict[str, Any]:
    """Return the options of ``LocalModel.from_pretrained`` for those that lm-eval has."""
    found = dict(options)
    n_together = n_sequences(batch_size, max_batch_size)
    if n_together is not None:
        found["max_sequences"] = n_together
    if device is not None:
        found["device"] = device_name(device)
    return found


def _context_option(max_length: int | None, options: Mapping[str, Any]) -> dict[str, int]:
    """Return n_ctx for a ``max_length``: the engine keeps room for one token more."""
    if max_length is None:
        return {}
    if "n_ctx" in options:
        raise ValueError(
            f"max_length={max_length} loads the model with n_ctx={max_length + 1}, but "
            f"n_ctx={options['n_ctx']} is given, too; leave one of them out"
        )
    return {"n_ctx": check_int("max_length", max_length, 1) + 1}


def _check_nothing_to_load(loading: Mapping[str, Any]) -> None:
    if loading:
        raise ValueError(
            f"a LocalModel is loaded already, so it takes no {', '.join(loading)}; pass them to "
            f"LocalModel.from_pretrained()"
        )


def _max_length(model: LocalModel, wanted: int | None) -> int:
    """Return the most tokens of a request: ``wanted``, or as n_ctx and the training allow."""
    room = model.config.n_ctx - 1
    if wanted is not None:
        return check_int("max_length", wanted, 1, room)
    trained = model.tokenizer.model_max_length
    return room if trained is None else min(room, trained)


def _tokens(request: ScoringRequest) -> tuple[int, ...]:
    return request.context + request.continuation


def _warn_of_cuts(cuts: Sequence[int], max_length: int) -> None:
    n_cut = sum(cut > 0 for cut in cuts)
    if n_cut:
        warn(
            f"{n_cut} of {len(cuts)} contexts are longer than max_length={max_length} allows and "
            f"lose up to {max(cuts)} tokens at their beginning"
        )
