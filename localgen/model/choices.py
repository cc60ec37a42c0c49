"""Probabilities of choices after a prompt, and of labels for texts; nothing is sampled."""

from __future__ import annotations

from typing import Any, TypeAlias, overload

from localgen._util.call_signature import method_takes
from localgen.generation.choice_arguments import ChooseArguments, ClassifyArguments
from localgen.generation.choosing import ChoiceScores
from localgen.model.parts import ModelParts

Texts: TypeAlias = list[str] | tuple[str, ...]
OneOrMore: TypeAlias = ClassifyArguments[str | list[str] | tuple[str, ...]]


class ChoiceMethods(ModelParts):
    """``choose()``, ``classify()`` and their async twins."""

    @method_takes(ChooseArguments)
    def choose(self, given: ChooseArguments) -> ChoiceScores:
        """Return the probability of each choice after a prompt; nothing is sampled.

        The log-probability of a choice, log P(choice | prompt), is the sum over all of its tokens.
        Each is tokenized together with the prompt. Include what belongs to it, such as the space
        before a word, or a line feed after it: without an end, " no" is at least as likely as
        " no one", which begins with it.

        normalization: the score whose softmax over the choices is their probability. "sum": log
        P(choice | prompt), so that probabilities are those of the model, given that it writes one
        of the choices (lm-evaluation-harness: ``acc``). "mean": log P(choice | prompt) / tokens of
        the choice, which long choices need not lose (``acc_norm`` divides by characters).
        "unconditional": log P(choice | prompt) - log P(choice | unconditional prompt), which
        discounts what is likely anywhere (``acc_mutual_info``).
        unconditional_prompt: what "unconditional" compares with; None is BOS alone, or EOS in a
        vocabulary without. split_special_tokens: see ``Tokenizer.encode``.

        Raises ValueError for an empty choice and for equal ones, ContextFullError for one that
        does not fit, KvBudgetError and DecodeError.
        """
        return self._chosen(given)[0]

    @method_takes(ChooseArguments)
    async def achoose(self, given: ChooseArguments) -> ChoiceScores:
        """Await ``choose()``."""
        return (await self._achosen(given))[0]

    @overload
    @method_takes(ClassifyArguments)
    def classify(self, given: ClassifyArguments[str]) -> ChoiceScores: ...

    @overload
    @method_takes(ClassifyArguments)
    def classify(self, given: ClassifyArguments[Texts]) -> list[ChoiceScores]: ...

    @method_takes(ClassifyArguments)
    def classify(self, given: OneOrMore) -> ChoiceScores | list[ChoiceScores]:
        """Return the probability of each label for a text, or for each of a list of texts.

        template: has {text} and then {label}, each once. What comes before {label} is the prompt;
        the label and what comes after it is scored. instruction: comes before the template, with an
        empty line between: what to do, or examples. It is computed once for all texts.
        normalization, unconditional_prompt, split_special_tokens: see ``choose()``.
        Returns ChoiceScores for a single text, else a list. Raises as ``choose()``.
        """
        found = self._chosen(given)
        return found[0] if isinstance(given.texts, str) else found

    @overload
    @method_takes(ClassifyArguments)
    async def aclassify(self, given: ClassifyArguments[str]) -> ChoiceScores: ...

    @overload
    @method_takes(ClassifyArguments)
    async def aclassify(self, given: ClassifyArguments[Texts]) -> list[ChoiceScores]: ...

    @method_takes(ClassifyArguments)
    async def aclassify(self, given: OneOrMore) -> ChoiceScores | list[ChoiceScores]:
        """Await ``classify()``."""
        found = await self._achosen(given)
        return found[0] if isinstance(given.texts, str) else found

    def _chosen(self, given: ChooseArguments | ClassifyArguments[Any]) -> list[ChoiceScores]:
        call = self._requests.choosing(given)
        self._run_all(call.requests())
        return call.results()

    async def _achosen(self, given: ChooseArguments | ClassifyArguments[Any]) -> list[ChoiceScores]:
        call = self._requests.choosing(given)
        await self._arun_all(call.requests())
        return call.results()
