"""Log-probabilities of texts and token ids that are given."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from localgen.completion import TokenLogprob
from localgen.generation.continuation_scores import ContinuationScore
from localgen.generation.inputs import Prompt
from localgen.generation.streaming import partial_on_error
from localgen.model.parts import ModelParts


class ScoreMethods(ModelParts):
    """``score()`` and its variants."""

    def score(self, text: Prompt, *, split_special_tokens: bool = False) -> npt.NDArray[np.float32]:
        """Return the log-probability of each token of ``text`` given the tokens before it.

        text: one text, or its token ids (n,).
        Returns float32 (n_tokens - 1,), natural logarithms. Raises ContextFullError.
        """
        sequence = self._requests.sequence_to_score(text, split_special_tokens)
        with partial_on_error(lambda: None), self._driver.alone() as (engine, interrupted):
            self._backend.check_usable()
            return engine.score(sequence, interrupted)

    def score_continuations(
        self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]
    ) -> list[ContinuationScore]:
        """Return the log-probability of given token ids after given token ids, for any number of
        pairs, and whether greedy decoding would write them.

        pairs: (token ids of a prompt, token ids that follow it), none empty. What prompts have in
        common is computed once, and equal pairs, too.
        Raises ContextFullError for a pair longer than n_ctx, KvBudgetError, DecodeError, TypeError
        or ValueError.
        """
        call = self._requests.continuations(pairs)
        self._run_all(call.requests())
        return call.results()

    async def ascore_tokens(self, token_ids: Sequence[int], *, top: int = 0) -> list[TokenLogprob]:
        """Return the log-probability of each token of a prompt after the first, given those before
        it, in the batch of all other calls.

        top: how many of the likeliest tokens each entry has besides. The sum over a text is that
        of ``score()``, which has the model alone. Raises ContextFullError, KvBudgetError,
        DecodeError, TypeError or ValueError.
        """
        request, found = self._requests.tokens_to_score(token_ids, top)
        with partial_on_error(lambda: None):
            if request is not None:
                await self._async_driver.run(request)
        return found()
