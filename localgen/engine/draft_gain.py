"""Whether drafts of a second model pay; it knows seconds and rates of acceptance, no tokens.

Two rules. A forecast from measured times says whether any draft length can be faster than none.
And a balance of the seconds that drafts saved and lost stops drafting where the forecast is wrong:
the loss stays below a small share of the time of all passes. As these go on, that share grows, and
drafting is tried again.
"""

from __future__ import annotations

from localgen.engine.pass_costs import PassCosts

# What drafts may lose: a share of all passes' time, and a few passes for a start.
_LOSS_SHARE = 0.015
_FIRST_LOSS = 4.0
# What one more round counts for in the usual rate of acceptance and the usual time of a pass.
_RATE = 0.1
# Until it is measured: high, for drafts that are never tried cannot show what they are worth.
_UNMEASURED_ACCEPTANCE = 0.9
_LONGEST_FORECAST = 16
# Until it is measured: one of many tokens in a pass, as a share of a pass with one.
_CATCH_UP = 0.25


class DraftGain:
    """What a draft model costs and gains, over all calls of a model.

    costs: what passes of the target model take. acceptance: the usual share of draft tokens that
    are accepted, of those that were verified. pass_seconds: of the draft model, None at first.
    plain: the numbers of sequences for which there was a pass without drafts.
    """

    def __init__(self) -> None:
        self.costs = PassCosts()
        self.acceptance = _UNMEASURED_ACCEPTANCE
        self.pass_seconds: float | None = None
        self.plain: set[int] = set()
        self._catch_up: float | None = None
        self._balance = 0.0
        self._total = 0.0

    def drafted(self, seconds: float) -> None:
        """Take note of a pass of the draft model that gave each of its sequences a token."""
        if self.pass_seconds is None:
            self.pass_seconds = seconds
        self.pass_seconds += _RATE * (seconds - self.pass_seconds)

    def verified(self, n_drafted: int, n_accepted: int) -> None:
        """Take note of a draft. Tokens after the first rejected one were not looked at."""
        n_seen = min(n_accepted + 1, n_drafted)
        for number in range(n_seen):
            self.acceptance += _RATE * ((number < n_accepted) - self.acceptance)

    def caught_up(self, n_tokens: int, seconds: float) -> None:
        """Take note of a pass of the draft model over many tokens that it had not computed."""
        one = seconds / n_tokens
        before = self.seconds_to_catch_up(1)
        self._catch_up = before + 0.5 * (one - before)

    def seconds_to_catch_up(self, n_tokens: int) -> float:
        """Return what the draft model takes for so many tokens that it has not computed."""
        if self._catch_up is None:
            return n_tokens * _CATCH_UP * (self.pass_seconds or 0.0)
        return n_tokens * self._catch_up

    def is_worth_starting(self, n_missing: int, n_left: int, n_sequences: int) -> bool:
        """Return whether the draft model should compute ``n_missing`` tokens of a sequence that may
        get ``n_left`` more. Half as many are expected: most texts end before their limit."""
        alone = self.costs.seconds(n_sequences) / n_sequences
        saved = n_left / 2 * alone * (1 - 1 / self.forecast(n_sequences))
        return saved > self.seconds_to_catch_up(n_missing)

    def spent(self, seconds: float) -> None:
        """Take note of time that the draft model took."""
        self._balance -= seconds

    def passed(self, n_sequences: int, n_drafted: int, n_accepted: int) -> None:
        """Take note of a pass of the target model: of so many sequences, with so many draft tokens,
        of which so many were accepted."""
        alone = self.costs.seconds(n_sequences)
        seconds = self.costs.seconds(n_sequences + n_drafted)
        self._total += seconds
        self._balance += alone * (1 + n_accepted / n_sequences) - seconds
        # Earlier gains are no reason to go on at a loss.
        self._balance = min(self._balance, self._allowance(alone))

    def pays(self, n_sequences: int) -> bool:
        """Return whether to draft for so many sequences now."""
        alone = self.costs.seconds(n_sequences)
        if self._balance < -self._allowance(alone):
            return False
        return self.forecast(n_sequences) > 1.0

    def why_not(self, n_sequences: int) -> str:
        """Return why ``pays`` is false, or was before a retry, as a clause."""
        draft, alone = self.pass_seconds or 0.0, self.costs.seconds(n_sequences)
        lead = "drafts took more time than they saved"
        if self.forecast(n_sequences) <= 1.0:
            lead = "drafts would take more time than they save"
        return (
            f"{lead}: a pass of the draft model takes {1e3 * draft:.1f} ms, one of this model "
            f"{1e3 * alone:.1f} ms, and {self.acceptance:.0%} of the drafted tokens are expected "
            f"to be accepted"
        )

    def may_retry(self, n_sequences: int) -> bool:
        """Return whether the time without drafts is enough to try them against the forecast."""
        return self._balance + self._total * _LOSS_SHARE > _FIRST_LOSS * self.costs.seconds(
            n_sequences
        )

    def forecast(self, n_sequences: int) -> float:
        """Return the speed of the best draft length, as a ratio to none."""
        draft = self.pass_seconds or 0.0
        alone = self.costs.seconds(n_sequences)
        expected, chance, best = 1.0, 1.0, 0.0
        for length in range(1, _LONGEST_FORECAST + 1):
            chance *= self.acceptance
            expected += chance
            seconds = length * draft + self.costs.seconds(n_sequences * (1 + length))
            best = max(best, expected * alone / seconds)
        return best

    def is_worth(self, chance: float, n_drafting: int, n_sequences: int, n_drafted: int) -> bool:
        """Return whether to draft one more token for each of ``n_drafting`` sequences.

        chance: that it and all before it are accepted, on average. n_drafted: the draft tokens that
        the next pass has already.
        """
        alone, before = self.costs.seconds(n_sequences), n_sequences + n_drafted
        more = self.costs.seconds(before + n_drafting) - self.costs.seconds(before)
        saved = alone * chance * n_drafting / n_sequences
        return saved > (self.pass_seconds or 0.0) + max(more, 0.0)

    def _allowance(self, pass_seconds: float) -> float:
        return self._total * _LOSS_SHARE + _FIRST_LOSS * pass_seconds
