"""Finds the mixture of types for a target: measures, predicts, chooses, and measures the result."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from localgen._util.atomic_write import replace
from localgen._util.format import as_size, either
from localgen._util.warn import warn
from localgen.compare.metrics import Mean, Values, mean
from localgen.errors import QuantizeError
from localgen.mixtures.groups import Group
from localgen.mixtures.knapsack import Frontier
from localgen.mixtures.loss_file import LossFile
from localgen.mixtures.losses import Mixture, planned, predicted
from localgen.mixtures.meter import Meter
from localgen.mixtures.mixer import Mixer
from localgen.mixtures.target import Target
from localgen.quantization.process import Progress
from localgen.quantization.runner import QuantizedFile

# What progress calls the first step.
SOURCE = "the source"
# How often a loss is measured and the prediction corrected by it.
_MOST_ROUNDS = 5
# A loss of at least this part of what is allowed ends the search.
_CLOSE = 0.95


@dataclass(frozen=True, slots=True)
class LevelBelow:
    """The largest of llama.cpp's levels that is no larger than a mixture, on the same text."""

    level: str
    n_bytes: int
    kld: Mean
    difference: Mean


@dataclass(frozen=True, slots=True)
class QuantizedMixture:
    """What was written for a target.

    file: the file; its level is that of the target. groups: {group of tensors: its type}. kld: the
    mean KL divergence from the source and its standard error, on text that the search did not use.
    below: the nearest level of llama.cpp's that is no larger, if there is one; its ``difference``
    is its loss minus the mixture's, token by token.
    """

    file: QuantizedFile
    groups: dict[str, str]
    kld: Mean
    below: LevelBelow | None


def check_size(mixer: Mixer, target: Target) -> None:
    """Raise QuantizeError for a size that cannot be reached, or needs nothing."""
    groups = mixer.groups
    if not groups:
        raise QuantizeError(
            f"{target.option}: the model has no tensors that a smaller type could be found for"
        )
    if target.n_bytes is None:
        return
    smallest = mixer.n_bytes(tuple(group.ladder[-1] for group in groups))
    if target.n_bytes < smallest:
        hint = ", or an importance matrix, which allows smaller types"
        raise QuantizeError(
            f"{target.option} cannot be reached: the smallest mixture has {as_size(smallest)} "
            f"({smallest} bytes). Give at least that{hint * mixer.could_use_imatrix}."
        )
    if target.n_bytes >= mixer.n_bytes((None,) * len(groups)):
        raise QuantizeError(f"{target.option} is no smaller than the source itself")


class Search:
    """One search. known: losses, and where those that are measured go.

    folder: an empty one, for the file that is measured.
    """

    def __init__(
        self,
        mixer: Mixer,
        target: Target,
        known: LossFile,
        folder: Path,
        progress: Progress | None,
    ) -> None:
        self._mixer = mixer
        self._target = target
        self._folder = folder
        self._progress = progress
        self._groups = mixer.groups
        self._plan = [each for each in planned(mixer.groups) if each not in known]
        self._known = known
        # The source, the plan, the corrections, the result and the level below it.
        self._n_steps = 3 + len(self._plan) + (0 if target.n_bytes else _MOST_ROUNDS + 1)
        self._n_done = 0

    def find(self, open_meter: Callable[[Path], Meter], targets: list[Path]) -> QuantizedMixture:
        """Measure, write the mixture to ``targets``, and return what it is."""
        self._tell(SOURCE)
        meter = open_meter(self._folder)
        try:
            for mixture in self._plan:
                self._tell(_described(self._groups, mixture))
                self._measure(meter, mixture)
            return self._written(meter, self._chosen(meter), targets)
        finally:
            meter.close()

    # --- choices ---

    def _chosen(self, meter: Meter) -> Mixture:
        options = [(None, *group.ladder) for group in self._groups]
        sizes = [
            [group.n_bytes(kind) for kind in kinds]
            for group, kinds in zip(self._groups, options, strict=True)
        ]
        losses = predicted(self._groups, self._known.losses)
        frontier = Frontier(sizes, losses)

        def mixture(chosen: list[int]) -> Mixture:
            return tuple(kinds[i] for kinds, i in zip(options, chosen, strict=True))

        if self._target.n_bytes is not None:
            found = frontier.best(self._target.n_bytes - self._mixer.n_fixed)
            # Rounding up may leave out the very smallest one.
            return mixture(found) if found else tuple(group.ladder[-1] for group in self._groups)
        assert self._target.kld is not None
        mildest = min(range(len(losses)), key=lambda number: losses[number][1])
        least = mixture([int(number == mildest) for number in range(len(losses))])

        return self._corrected(meter, lambda loss: mixture(frontier.smallest(loss) or []), least)

    def _corrected(
        self, meter: Meter, smallest: Callable[[float], Mixture], least: Mixture
    ) -> Mixture:
        """Return the smallest mixture that was measured with the loss of the target.

        smallest: the smallest one with a predicted loss; all None if only the source has so little.
        least: the one that is tried if no other reaches the target.
        """
        allowed = self._target.kld or 0.0
        wanted = allowed
        reached: list[Mixture] = []
        for _ in range(_MOST_ROUNDS):
            mixture = smallest(wanted)
            if mixture in reached or not any(mixture):
                break
            self._tell(f"a mixture of {as_size(self._mixer.n_bytes(mixture))}")
            loss = self._measure(meter, mixture)
            if loss <= allowed:
                reached.append(mixture)
                if loss >= _CLOSE * allowed:
                    break
            wanted *= min(max(allowed / loss if loss > 0 else math.inf, 0.25), 4.0)
        losses = self._known.losses
        if min(losses.values()) > allowed:
            self._tell(f"a mixture of {as_size(self._mixer.n_bytes(least))}")
            self._measure(meter, least)
        reached = [mixture for mixture, loss in losses.items() if loss <= allowed]
        if not reached:
            nearest = min(losses, key=losses.__getitem__)
            size = as_size(self._mixer.n_bytes(nearest))
            raise QuantizeError(
                f"{self._target.option} cannot be reached: the nearest mixture that was measured "
                f"has a mean KL divergence of {losses[nearest]:.2g} and {size}"
            )
        return min(reached, key=self._mixer.n_bytes)

    # --- files ---

    def _measure(self, meter: Meter, mixture: Mixture) -> float:
        """Return the loss of a mixture on the part to search on; each is measured once."""
        if mixture not in self._known:
            with self._trial() as path:
                self._mixer.try_mixture(mixture, path)
                self._known.add(mixture, meter.searched(path))
        return self._known.losses[mixture]

    @contextmanager
    def _trial(self) -> Iterator[Path]:
        """Yield a name for a file that is only measured."""
        path = self._folder / "trial.gguf"
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def _written(self, meter: Meter, mixture: Mixture, targets: list[Path]) -> QuantizedMixture:
        """Write a mixture, measure it, and only then give it its name."""
        self._tell(f"the mixture of {as_size(self._mixer.n_bytes(mixture))}")
        made = [self._folder / target.name for target in targets]
        file = self._mixer.write(self._target.label, mixture, made)
        losses = meter.verified(file.path)
        below = self._below(meter, file.n_bytes, losses)
        self._warn(mean(losses), below)
        was_there = any(target.exists() for target in targets)
        for path, target in zip(reversed(made), reversed(targets), strict=True):
            replace(path, target)
        self._n_done = self._n_steps
        self._tell("done")
        return QuantizedMixture(
            file=dataclasses.replace(
                file, path=targets[0], paths=tuple(targets), replaced=was_there
            ),
            groups={
                group.name: kind or either(sorted(set(group.source.values())))
                for group, kind in zip(self._groups, mixture, strict=True)
            },
            kld=mean(losses),
            below=below,
        )

    def _warn(self, kld: Mean, below: LevelBelow | None) -> None:
        allowed = self._target.kld
        if allowed is not None and kld.value > allowed:
            warn(
                f"{self._target.option} is reached on the text of the search; on the text that it "
                f"did not use, the mean KL divergence is {kld.value:.2g} ±{kld.se:.1g}"
            )
        if below is not None and below.difference.value <= 0:
            warn(
                f"{below.level} is no larger ({as_size(below.n_bytes)}) and loses no more than the "
                f"mixture. Use it, or search with a larger n_chunks."
            )

    def _below(self, meter: Meter, n_bytes: int, losses: Values) -> LevelBelow | None:
        found = self._mixer.level_below(n_bytes)
        if found is None:
            return None
        name, plan = found
        self._tell(name)
        with self._trial() as path:
            self._mixer.try_level(name, path)
            theirs = meter.verified(path)
        return LevelBelow(name, plan.n_bytes, mean(theirs), mean(theirs - losses))

    def _tell(self, what: str) -> None:
        if self._progress is not None:
            self._progress(min(self._n_done, self._n_steps), self._n_steps, what)
        self._n_done += 1


def _described(groups: Sequence[Group], mixture: Mixture) -> str:
    changed = [
        (group.name, kind) for group, kind in zip(groups, mixture, strict=True) if kind is not None
    ]
    name, kind = changed[0]
    return f"{name} as {kind}" if len(changed) == 1 else f"{len(changed)} groups as {kind}"
