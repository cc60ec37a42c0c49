"""Draft models of one model: found, checked against it, kept, and closed with it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from localgen.config import GenerationConfig, ModelConfig
from localgen.engine.draft_model import Drafting, DraftModel, ModelDrafter
from localgen.engine.sampling.chain import Sampler
from localgen.engine.sampling.dry import Breakers
from localgen.engine.sequence import Sequence as EngineSequence
from localgen.engine.sequence import Speculation
from localgen.engine.speculation import SpeculativeStrategy
from localgen.generation.model_backend import ModelBackend
from localgen.text.vocab import Vocab

_PADDING = "[PAD"


class Assistant:
    """A draft model of one model; it does not own what the caller loaded.

    owner: the draft model's backend. max_sequences: of the target.
    """

    def __init__(self, owner: ModelBackend, n_vocab: int, n_ctx: int, max_sequences: int) -> None:
        self._owner = owner
        self._backend = owner.with_own_context(max_sequences)
        self._model = DraftModel(self._backend, n_vocab, n_ctx=n_ctx, max_sequences=max_sequences)

    def check_usable(self) -> None:
        """Raise ClosedError or BackendError unless the draft model can be used now."""
        self._owner.check_usable()

    def strategy(self, drafting_of: dict[EngineSequence, Drafting]) -> SpeculativeStrategy:
        """Return the strategy of a call; its sequences get their counts."""
        for sequence, how in drafting_of.items():
            sequence.speculation = Speculation(is_drawn=how.is_drawn)
        drafter = ModelDrafter(self._model, drafting_of, self._owner.run)
        return SpeculativeStrategy(drafter, self._model.gain.costs)

    def close(self) -> None:
        """Free the draft model's KV cache."""
        self._backend.close()


class Assistants:
    """The draft models that calls of one model have named.

    load: returns a LocalModel by its name.
    """

    def __init__(self, backend: ModelBackend, config: ModelConfig, load: Callable[[str], Any]):
        self._backend = backend
        self._config = config
        self._load = load
        self._lock = threading.Lock()
        self._loaded: dict[str, Any] = {}
        self._found: dict[int, tuple[Any, Assistant]] = {}

    def of(self, given: Any) -> Assistant:
        """Return the draft model of a LocalModel or of its name, which is loaded once.

        Raises ValueError if it does not fit this model, and what loading raises.
        """
        with self._lock:
            model = self._by_name(given) if isinstance(given, str) else given
            known = self._found.get(id(model))
            if known is not None:
                known[1].check_usable()
                return known[1]
            owner: ModelBackend = model._backend
            owner.check_usable()
            self._check(owner)
            assistant = Assistant(
                owner,
                self._backend.vocab.n_vocab,
                model.config.n_ctx,
                self._config.max_sequences,
            )
            self._found[id(model)] = model, assistant
            return assistant

    def _by_name(self, name: str) -> Any:
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        return self._loaded[name]

    def _check(self, owner: ModelBackend) -> None:
        if owner is self._backend or owner.path.resolve() == self._backend.path.resolve():
            raise ValueError(
                "assistant_model is this model itself, which cannot draft faster than it decodes; "
                "use a smaller model with the same vocabulary"
            )
        if not owner.can_truncate:
            raise ValueError(
                f"assistant_model {owner.path.name} has a recurrent state, which cannot go back to "
                f"before a rejected token; use a model without one"
            )
        difference = vocabulary_difference(self._backend.vocab, owner.vocab)
        if difference is not None:
            raise ValueError(
                f"assistant_model {owner.path.name} has another vocabulary: {difference}; use a "
                f"model with the same vocabulary"
            )

    def close(self) -> None:
        """Free all draft models, and those that were loaded by name."""
        for _, assistant in self._found.values():
            assistant.close()
        for model in self._loaded.values():
            model.close()
        self._found, self._loaded = {}, {}


def vocabulary_difference(own: Vocab, other: Vocab) -> str | None:
    """Return the first difference of two vocabularies; None if token ids mean the same.

    One may be longer by unused tokens, which pad it.
    """
    n_common = min(own.n_vocab, other.n_vocab)
    for token_id in range(n_common):
        mine = own.token_text(token_id), own.token_type(token_id)
        theirs = other.token_text(token_id), other.token_type(token_id)
        if mine != theirs:
            return (
                f"token {token_id} is {theirs[0]!r} ({theirs[1]}) there, and {mine[0]!r} "
                f"({mine[1]}) here"
            )
    longer, where = (own, "here") if own.n_vocab > n_common else (other, "there")
    for token_id in range(n_common, longer.n_vocab):
        text = longer.token_text(token_id)
        if longer.token_type(token_id) != "unused" and not text.startswith(_PADDING):
            return f"token {token_id}, {text!r}, is only {where}"
    return None


def check_assistant(configs: Sequence[GenerationConfig], *, together: bool) -> Any:
    """Return the assistant model that a call asks for, as given; None without one.

    together: whether functions of the caller's see all sequences as one batch. Raises ValueError
    for what cannot be combined with it.
    """
    given = configs[0].assistant_model
    if any(each.assistant_model != given for each in configs):
        raise ValueError("assistant_model must be the same for all prompts of a call")
    if given is None:
        return None
    for config in configs:
        excluded = {
            "num_beams": config.num_beams > 1,
            "guidance_scale": config.guidance_scale not in (None, 1),
            "prompt_lookup_num_tokens": config.prompt_lookup_num_tokens is not None,
        }
        for name, is_set in excluded.items():
            if is_set:
                raise ValueError(
                    f"assistant_model cannot be used with {name}={getattr(config, name)}: leave "
                    f"one of them out"
                )
    if together:
        raise ValueError(
            "assistant_model cannot be used with logits_processor or stopping_criteria in "
            "generate(), which see a token of each sequence at a time; use complete(), or leave "
            "one of them out"
        )
    return given


def drafting(config: GenerationConfig, n_vocab: int, seed: int, breakers: Breakers) -> Drafting:
    """Return how drafts are made with the options of one prompt.

    seed: of its sequences. Where the caller gave it, or the sampler keeps a state or draws numbers
    of its own, drafts are not drawn from the draft model's distribution: the text is then the one
    of that seed.
    """
    has_state = bool(config.mirostat or config.xtc_probability)
    return Drafting(
        sampler=Sampler(config, n_vocab, breakers=breakers),
        seed=seed,
        most=config.num_assistant_tokens,
        schedule=config.num_assistant_tokens_schedule,
        threshold=config.assistant_confidence_threshold,
        is_drawn=bool(config.do_sample) and config.seed is None and not has_state,
    )
