"""Records the results and the progress of a comparison, in memory and in a file."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from localgen.compare.level_result import LevelResult
from localgen.compare.levels import Variant
from localgen.compare.options import Progress
from localgen.compare.results import Comparison
from localgen.compare.settings import MAY_CHANGE, Settings
from localgen.compare.unfinished import UNFINISHED
from localgen.errors import CompareError, LocalgenError


class Record:
    """The results so far, one per variant.

    path: a file that is rewritten after each result. progress: see ``compare()``. folders: folders
    to leave out of messages. is_finished: whether all was measured; the file says if not.
    """

    def __init__(self, settings: Settings, path: Path | None, progress: Progress | None) -> None:
        self._source = settings.source
        self._settings = settings.as_dict()
        self._path = path
        self._progress = progress
        self._rows: dict[str, LevelResult] = {}
        self._old_reference: LevelResult | None = None
        self._notes: list[str] = []
        self._n_done = self._n_steps = 0
        self._was_saved = False
        self.noise: LevelResult | None = None
        self.is_finished = False
        self.folders = {settings.source.parent}

    @property
    def comparison(self) -> Comparison:
        order = sorted(self._rows.values(), key=lambda row: -(row.bits_per_weight or 0.0))
        state = {} if self.is_finished else {UNFINISHED: True}
        return Comparison(
            source=self._source.name,
            settings=self._settings | state,
            levels=tuple(order),
            noise=self.noise,
            notes=tuple(self._notes),
        )

    def resume(self) -> None:
        """Load the results in the file. Raises CompareError if it has other settings."""
        if self._path is None:
            raise ValueError("resume=True needs results=, the file to resume from")
        if not self._path.exists():
            return
        old = Comparison.load(self._path)
        changed = [
            key
            for key, value in self._settings.items()
            if key not in MAY_CHANGE and old.settings.get(key) != value
        ]
        if changed:
            raise CompareError(
                f"{self._path} was made with a different {', '.join(changed)}. Use the same "
                f"settings to resume, or write to another file."
            )
        self._rows = {row.label: row for row in old.levels if row.error is None}
        self._old_reference = next((row for row in self._rows.values() if row.is_reference), None)
        self._notes = list(old.notes)
        self.noise = old.noise

    # --- results ---

    def __getitem__(self, variant: Variant) -> LevelResult:
        return self._rows[variant.label]

    def describe(self, variant: Variant, **known: Any) -> None:
        """Add a variant, with the loaded result if its file is still the same.

        known: what is known of one that has no file here.
        """
        row = dataclasses.replace(variant.described(), **known)
        old = self._rows.get(row.label)
        if old is None or old.sha256 != row.sha256:
            self._rows[row.label] = row

    def set(self, variant: Variant, **found: Any) -> None:
        """Set fields of a variant's result and save."""
        self._rows[variant.label] = dataclasses.replace(self[variant], **found)
        self.save()

    def set_reference(self, variant: Variant) -> None:
        """Set the variant that the others are compared with.

        Raises CompareError if the loaded results have another reference.
        """
        old, new = self._old_reference, self[variant]
        if old is not None and (old.label, old.sha256) != (new.label, new.sha256):
            raise CompareError(
                f"the reference in {self._path} is {old.label} ({old.file}, sha256 {old.sha256}), "
                f"but now it would be {new.label} ({new.file}, sha256 {new.sha256}). Use the same "
                f"reference to resume, or write to another file."
            )
        self.set(variant, is_reference=True)

    def fail(self, variant: Variant, error: LocalgenError) -> None:
        """Record why a variant cannot be measured."""
        self.set(variant, error=self.message(error))

    def without_failed(self, variants: Sequence[Variant]) -> list[Variant]:
        return [variant for variant in variants if self[variant].error is None]

    def note(self, text: str) -> None:
        """Add a note about the comparison, unless it has it already."""
        if text not in self._notes:
            self._notes.append(text)

    def save(self, *, is_last: bool = False) -> None:
        """Save the results so far.

        Raises OSError if that fails the first time, before much was measured, or the last time;
        in between, the next save may succeed.
        """
        if self._path is None:
            return
        try:
            self.comparison.save(self._path)
        except OSError:
            if is_last or not self._was_saved:
                raise
        self._was_saved = True

    def message(self, error: LocalgenError) -> str:
        """Return an error's message without folders, which mean nothing on other machines."""
        message = str(error)
        for folder in sorted({str(folder) for folder in self.folders} - {"."}, key=len)[::-1]:
            message = message.replace(f"{folder}{os.sep}", "")
        return message

    # --- steps ---

    def plan(self, n_steps: int) -> None:
        """Set how many steps are left, as far as known."""
        self._n_steps = self._n_done + n_steps

    def begin(self, what: str) -> None:
        """Report work that is not a step."""
        if self._progress is not None:
            self._progress(self._n_done, self._n_steps, what)

    def step(self, what: str) -> None:
        """Report that a step is done."""
        self._n_done += 1
        if self._progress is not None:
            self._progress(self._n_done, max(self._n_steps, self._n_done), what)
