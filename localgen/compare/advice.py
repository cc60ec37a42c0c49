"""Says what to keep, machine by machine, for the page and the terminal."""

from __future__ import annotations

from dataclasses import dataclass

from localgen.compare.machines import by_machine, machine_settings
from localgen.compare.memory_sizes import Advice, advice_by_size
from localgen.compare.recommend import Recommendation
from localgen.compare.result_names import result_names
from localgen.compare.results import Comparison
from localgen.errors import CompareError


@dataclass(frozen=True, slots=True)
class MachineAdvice:
    """What to keep on a machine. name: see ``result_names``; "" if it is the only one.

    kept: None if no level can be recommended; the sentence then says why. by_size: what to keep on
    machines like it, by their memory.
    """

    name: str
    result: Comparison
    kept: Recommendation | None
    sentence: str
    by_size: tuple[Advice, ...]

    @property
    def full_sentence(self) -> str:
        """The sentence, after the machine's name if it has one."""
        return f"{self.name}: {self.sentence}" if self.name else self.sentence


def advice_by_machine(
    result: Comparison, memory: int | str | None, max_kld: float | None
) -> dict[str, MachineAdvice]:
    """Return the advice for each machine of a comparison by its number, "" if there is only one.

    memory, max_kld: as in ``Comparison.recommend``.
    """
    found = {}
    names = result_names(machine_settings(result.settings))
    for number, part in by_machine(result).items():
        kept, sentence = recommended(part, memory, max_kld)
        by_size = advice_by_size(part.levels, max_kld=max_kld)
        found[number] = MachineAdvice(names[number], part, kept, sentence, by_size)
    return found


def recommended(
    result: Comparison, memory: int | str | None, max_kld: float | None
) -> tuple[Recommendation | None, str]:
    """Return the recommendation and why, or None and why not."""
    try:
        found = result.recommend(memory=memory, max_kld=max_kld)
    except CompareError as error:
        message = str(error)
        return None, f"{message[:1].upper()}{message[1:]}."
    return found, found.sentence
