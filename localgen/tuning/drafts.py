"""What drafts from the prompt gain on the user's own prompts, in a model that stays loaded."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from localgen.completion import Completion
from localgen.errors import LocalgenError
from localgen.model import LocalModel
from localgen.tuning.results import Speed

LOOKUP = "prompt_lookup_num_tokens"
LENGTHS = (4, 10, 24)
# More of a user's prompts would leave no time for the rounds.
_MOST_PROMPTS = 8
_LEAST_NEW, _MOST_NEW = 32, 128

# A text, its token ids, or the messages of a chat.
TunePrompt = str | Sequence[int] | Sequence[Mapping[str, Any]]


def checked_prompts(prompts: Iterable[TunePrompt]) -> list[TunePrompt]:
    """Return the prompts that are used at most. Raises ValueError for what is none."""
    if isinstance(prompts, str) or not isinstance(prompts, Iterable):
        raise ValueError(f"prompts must be a list of prompts, got {prompts!r:.80}")
    found = list(prompts)[:_MOST_PROMPTS]
    if not found or not all(isinstance(each, Sequence) and each for each in found):
        raise ValueError("prompts must hold at least one prompt, and none that is empty")
    return found


def check_drafts(model: LocalModel, prompts: Sequence[TunePrompt]) -> str | None:
    """Return why this model has no drafts, None if it may have some; it computes nothing.

    Raises ValueError for a prompt that the model cannot continue.
    """
    ended = threading.Event()
    ended.set()
    for number, prompt in enumerate(prompts, 1):
        options = {LOOKUP: LENGTHS[0], "max_new_tokens": 1, "cancel": ended}
        try:
            done = _complete(model, prompt, options)
        except (LocalgenError, ValueError, TypeError) as error:
            raise ValueError(f"prompt {number} of prompts cannot be used: {error}") from error
    return done.stats.no_speculation_because


class Drafts:
    """A loaded model, and the prompts that it continues with and without drafts.

    n_tokens: about how many new tokens one measurement may take. Fewer prompts are used than given,
    the first ones, where that is too few for all. n_new: the new tokens of each.
    """

    def __init__(self, model: LocalModel, prompts: Sequence[TunePrompt], n_tokens: int) -> None:
        self._model = model
        self._prompts = prompts[: max(1, n_tokens // _LEAST_NEW)]
        self.n_prompts = len(self._prompts)
        self.n_new = max(_LEAST_NEW, min(n_tokens // self.n_prompts, _MOST_NEW))

    def warm_up(self) -> None:
        """Compute the prompts, which stay cached, and learn what passes with drafts cost."""
        self.speed({LOOKUP: max(LENGTHS)})

    def speed(self, settings: Mapping[str, Any]) -> Speed:
        """Return the speed of the new tokens of all prompts, one after the other."""
        drafts = {LOOKUP: settings[LOOKUP]} if LOOKUP in settings else {}
        options = {"max_new_tokens": self.n_new, **drafts}
        stats = [_complete(self._model, prompt, options).stats for prompt in self._prompts]
        rates = [(each.n_new - 1, each.tokens_per_second) for each in stats]
        seconds = sum(n_new / rate for n_new, rate in rates if rate)
        n_new = sum(n_new for n_new, rate in rates if rate)
        return Speed(None, n_new / seconds if seconds else 1.0)


def _complete(model: LocalModel, prompt: TunePrompt, options: Mapping[str, Any]) -> Completion:
    options = {"do_sample": False, **options}
    if not isinstance(prompt, str) and isinstance(prompt[0], Mapping):
        return model.chat(list(prompt), **options)  # type: ignore[arg-type]
    return model.complete([prompt], **options)[0]  # type: ignore[list-item]
