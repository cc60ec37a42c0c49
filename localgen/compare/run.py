"""compare(): makes the levels, measures each beside the reference, and keeps what is done."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from localgen import hub
from localgen.compare import metrics
from localgen.compare import speed as speed_child
from localgen.compare.command import command_line
from localgen.compare.divergence import N_NEW, PROMPTS, divergences, median_tokens
from localgen.compare.metrics import TokenMetrics
from localgen.compare.reference import LiveReference, Reference, StoredReference
from localgen.compare.results import Comparison, LevelResult
from localgen.compare.walk import chunks, compare_chunk, rows_at_a_time
from localgen.completion import Completion
from localgen.config import KV_TYPES, ModelConfig, check_choice, check_int
from localgen.engine.backend import TokenIds
from localgen.errors import CompareError, LocalgenError
from localgen.llama import devices, fitting, gate
from localgen.llama.backend import LlamaBackend
from localgen.llama.gate import ModelFile
from localgen.llama.quantize import quantization_types
from localgen.measuring import Spread, surroundings
from localgen.model import LocalModel
from localgen.quantization import QuantizedFile, quantize, spelled_level
from localgen.tokenizer import Tokenizer
from localgen.units import as_size

Progress = Callable[[int, int, str], object]
_N_COLD = 1
_HASHED_BYTES = 2**20
# What is noted of a run, and may be another where it is gone on with.
_MAY_CHANGE = ("command", "python", "numpy", "platform")


def compare(
    source: str | os.PathLike[str],
    levels: Sequence[str | os.PathLike[str]],
    *,
    text: str | None = None,
    n_ctx: int = 512,
    n_chunks: int = 16,
    kv_types: Sequence[str] = ("f16",),
    speed: bool = True,
    quality: bool = True,
    n_rounds: int = 3,
    n_threads: int | None = None,
    imatrix: str | os.PathLike[str] | None = None,
    keep: str | os.PathLike[str] | None = None,
    results: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Comparison:
    """Measure quantization levels of a model side by side.

    source: as in ``LocalModel.from_pretrained``. levels: a type's name ("Q4_K_M") is made from
    ``source``; anything else is a file, or a name on the Hub. The one with the most bits a weight
    is the reference. text: what quality is measured on, by default the English prose that every
    CPython has (``pydoc_data.topics``): ``n_chunks`` chunks of ``n_ctx`` tokens. kv_types: types of
    the KV cache to try each level with; the reference has the first. speed, quality: what to
    measure. n_rounds: of speed, levels in turn. imatrix: for the levels that are made. keep: a
    folder for the files that are made, else they are removed. results: a file that gets each result
    as it ends; with ``resume`` what it has is not measured again. progress: called with (steps
    done, steps, what is next).

    A level that fails has an ``error``, and the others go on. Raises ValueError for a wrong level
    or setting, CompareError for a text that is too short or a ``results`` of other settings.
    """
    check_int("n_ctx", n_ctx, 8, 2**20)
    check_int("n_chunks", n_chunks, 1)
    check_int("n_rounds", n_rounds, 1)
    for kv_type in kv_types:
        check_choice("kv_types", kv_type, KV_TYPES)
    if not levels or not kv_types:
        raise ValueError("compare() needs at least one level and one KV type")
    command = command_line(
        source,
        levels,
        own_text=text is not None,
        n_ctx=n_ctx,
        n_chunks=n_chunks,
        kv_types=kv_types,
        speed=speed,
        quality=quality,
        n_rounds=n_rounds,
        n_threads=n_threads or devices.usable_cpus(),
        imatrix=imatrix,
    )
    run = _Run(
        source=hub.resolve(source),
        command=command,
        text=_default_text() if text is None else text,
        n_ctx=n_ctx,
        n_chunks=n_chunks,
        kv_types=tuple(kv_types),
        n_threads=n_threads,
        n_rounds=n_rounds,
        results=Path(results) if results is not None else None,
        progress=progress,
    )
    wanted = [_Level.of(level) for level in levels]
    with ExitStack() as stack:
        folder = Path(keep) if keep is not None else _temporary(stack)
        run.start(wanted, resume=resume)
        run.make(folder, imatrix)
        run.choose_reference()
        if quality:
            run.measure_quality()
        if speed:
            run.measure_speed()
    return run.comparison


def _temporary(stack: ExitStack) -> Path:
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="localgen-compare-")))


def _default_text() -> str:
    topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    return "\n".join(topics.values())


@dataclasses.dataclass(slots=True)
class _Level:
    """A level that was asked for: to be made, or a file."""

    name: str
    path: Path | None
    made: QuantizedFile | None = None
    file: ModelFile | None = None
    error: str | None = None

    @classmethod
    def of(cls, level: str | os.PathLike[str]) -> _Level:
        if isinstance(level, str):
            name = spelled_level(level)
            if name in quantization_types():
                return cls(name, None)
            if "/" not in level and not level.endswith(".gguf") and not Path(level).exists():
                import difflib  # noqa: PLC0415  # only for this message

                near = difflib.get_close_matches(name, quantization_types(), n=3)
                hint = f"; did you mean {' or '.join(near)}?" if near else ""
                raise ValueError(
                    f"{level!r} is no quantization level, no file and no name on the Hub{hint}"
                )
        return cls(Path(level).stem, hub.resolve(level))


class _Run:
    """The state of one comparison."""

    def __init__(
        self,
        *,
        source: Path,
        command: str,
        text: str,
        n_ctx: int,
        n_chunks: int,
        kv_types: tuple[str, ...],
        n_threads: int | None,
        n_rounds: int,
        results: Path | None,
        progress: Progress | None,
    ) -> None:
        self._source = source
        self._command = command
        self._text = text
        self._n_ctx, self._n_chunks = n_ctx, n_chunks
        self._kv_types = kv_types
        self._n_threads = n_threads or devices.usable_cpus()
        self._n_rounds = n_rounds
        self._results = results
        self._progress = progress
        self._levels: list[_Level] = []
        self._folders = {source.parent}
        self._rows: dict[str, LevelResult] = {}
        self._noise: LevelResult | None = None
        self._notes: list[str] = []
        self._reference: _Level | None = None
        self._settings: dict[str, Any] = {}
        self._n_done = self._n_steps = 0

    # --- what is done ---

    @property
    def comparison(self) -> Comparison:
        order = sorted(self._rows.values(), key=lambda row: -(row.bits_per_weight or 0.0))
        return Comparison(
            source=self._source.name,
            settings=self._settings,
            levels=tuple(order),
            noise=self._noise,
            notes=tuple(self._notes),
        )

    def _set(self, row: LevelResult, **found: Any) -> None:
        """Take in what was found of a level, and keep it if it is to be kept."""
        self._rows[row.label] = dataclasses.replace(self._rows[row.label], **found)
        self._save()

    def _save(self) -> None:
        if self._results is not None:
            self.comparison.save(self._results)

    def _said(self, error: LocalgenError) -> str:
        """Its message with files as names alone: where they lie is this machine's business."""
        message = str(error)
        for folder in sorted({str(folder) for folder in self._folders} - {"."}, key=len)[::-1]:
            message = message.replace(f"{folder}{os.sep}", "")
        return message

    def _step(self, what: str) -> None:
        self._n_done += 1
        if self._progress is not None:
            self._progress(self._n_done, max(self._n_steps, self._n_done), what)

    # --- before measuring ---

    def start(self, levels: list[_Level], *, resume: bool) -> None:
        """Note the settings, and take up what ``results`` has of them."""
        self._levels = levels
        self._folders |= {level.path.parent for level in levels if level.path is not None}
        self._settings = {
            "command": self._command,
            **surroundings(),
            "n_threads": self._n_threads,
            "n_ctx": self._n_ctx,
            "n_chunks": self._n_chunks,
            "kv_types": list(self._kv_types),
            "text_sha256": hashlib.sha256(self._text.encode()).hexdigest(),
            "source_sha256": _sha256(self._source),
        }
        if not resume:
            return
        if self._results is None:
            raise ValueError("resume=True needs results=, the file to go on with")
        if self._results.exists():
            self._take_up(Comparison.load(self._results))

    def _take_up(self, old: Comparison) -> None:
        changed = [
            key
            for key, value in self._settings.items()
            if key not in _MAY_CHANGE and old.settings.get(key) != value
        ]
        if changed:
            raise CompareError(
                f"{self._results} was made with another {', '.join(changed)}: go on with the same, "
                f"or write to another file"
            )
        self._rows = {row.label: row for row in old.levels if row.error is None}
        self._noise = old.noise

    def make(self, folder: Path, imatrix: str | os.PathLike[str] | None) -> None:
        """Have each level as a checked file; one that cannot be had gets its error."""
        self._folders.add(folder)
        for level in self._levels:
            try:
                if level.path is None:
                    self._make_one(level, folder, imatrix)
                if level.path is not None:
                    level.file = gate.check_model(level.path)
            except LocalgenError as error:
                level.error = self._said(error)
            for kv_type in self._kv_types:
                self._add_row(level, kv_type)
        self._save()

    def _make_one(
        self, level: _Level, folder: Path, imatrix: str | os.PathLike[str] | None
    ) -> None:
        if self._progress is not None:
            self._progress(self._n_done, self._n_steps, f"making {level.name}")
        level.made = quantize(
            self._source,
            level.name,
            output=folder,
            imatrix=imatrix,
            allow_requantize=True,
            n_threads=self._n_threads,
        )
        level.path = level.made.path
        note = f"the levels are made from {self._source.name}: loss is measured from that file on"
        if note not in self._notes:
            self._notes.append(note)

    def _add_row(self, level: _Level, kv_type: str) -> None:
        row = LevelResult(name=level.name, kv_type=kv_type, error=level.error)
        if level.file is not None and level.path is not None:
            tensors = [tensor for shard in level.file.shards for tensor in shard.tensors]
            n_bits = 8 * sum(tensor.n_bytes for tensor in tensors)
            row = dataclasses.replace(
                row,
                file=level.path.name,
                sha256=_sha256(level.path),
                file_bytes=sum(shard.size for shard in level.file.shards),
                bits_per_weight=n_bits / sum(tensor.n_values for tensor in tensors),
                n_fallback=level.made.n_fallback if level.made else None,
            )
        old = self._rows.get(row.label)
        if old is None or old.sha256 != row.sha256:
            self._rows[row.label] = row

    def choose_reference(self) -> None:
        """The level with the most bits a weight; levels of other vocabularies get their error."""
        source = gate.check_model(self._source).shards[0].tokens
        for level in self._levels:
            if level.file is not None and level.file.shards[0].tokens != source:
                level.error = (
                    f"its vocabulary is not that of {self._source.name}: token by token they "
                    f"cannot be compared"
                )
                for kv_type in self._kv_types:
                    self._set(self._row(level, kv_type), error=level.error)
        usable = [level for level in self._levels if level.error is None]
        if not usable:
            raise CompareError(
                "no level can be measured: "
                + "; ".join(f"{level.name}: {level.error}" for level in self._levels)
            )
        bits = {level.name: self._row(level, self._kv_types[0]).bits_per_weight for level in usable}
        self._reference = max(usable, key=lambda level: bits[level.name] or 0.0)
        self._set(self._row(self._reference, self._kv_types[0]), is_reference=True)

    def _row(self, level: _Level, kv_type: str) -> LevelResult:
        return self._rows[LevelResult(name=level.name, kv_type=kv_type).label]

    def _candidates(self) -> Iterator[tuple[_Level, LevelResult]]:
        """Every level and KV type but the reference's own."""
        for level in self._levels:
            for kv_type in self._kv_types:
                row = self._row(level, kv_type)
                if row.error is None and not row.is_reference and level.path is not None:
                    yield level, row

    # --- quality ---

    def measure_quality(self) -> None:
        """Perplexity, divergence from the reference, and texts, of each level."""
        todo = [pair for pair in self._candidates() if pair[1].kld_mean is None]
        with ExitStack() as stack:
            reference, parts = self._open_reference(stack, todo)
            self._n_steps = self._n_done + len(parts) * (len(todo) + (self._noise is None))
            for level, row in todo:
                try:
                    self._measure_one(reference, level, row, parts)
                except LocalgenError as error:
                    self._set(row, error=self._said(error))
            if self._noise is None:
                self._measure_noise(reference, parts)
        self._measure_texts()

    def _open_reference(
        self, stack: ExitStack, todo: list[tuple[_Level, LevelResult]]
    ) -> tuple[Reference, list[TokenIds]]:
        """The reference, loaded until ``stack`` closes, or in a file where memory is short."""
        level, kv_type = self._needed_reference, self._kv_types[0]
        others = [(each, row.kv_type) for each, row in todo] + [(level, kv_type)]
        if self._fit_together((level, kv_type), others):
            backend = stack.enter_context(self._backend(level, kv_type))
            parts = self._parts(backend)
            return LiveReference(backend, parts), parts
        with self._backend(level, kv_type) as backend:
            parts = self._parts(backend)
            folder = Path(tempfile.gettempdir())
            stored = StoredReference(folder, parts, backend.n_vocab, backend.n_batch)
            stack.callback(stored.close)
            live = LiveReference(backend, parts)
            self._n_steps = self._n_done + len(parts)
            for number in range(len(parts)):
                stored.take(live.blocks(number))
                self._step(f"{level.name} to the disk")
        self._notes.append(
            f"{level.name} and a level do not fit the memory together: its log-probabilities were "
            f"kept on the disk, {as_size(stored.n_bytes)}, each off by at most "
            f"{stored.step / 2:.1g}"
        )
        return stored, parts

    @property
    def _needed_reference(self) -> _Level:
        if self._reference is None:
            raise CompareError("there is no reference")
        return self._reference

    def _fit_together(
        self, reference: tuple[_Level, str], others: list[tuple[_Level, str]]
    ) -> bool:
        """Whether the memory holds the reference and any one of ``others``."""
        models = [
            (level.file, self._config(level.file, kv_type))
            for level, kv_type in (reference, *others)
            if level.file is not None
        ]
        return all(fitting.fit_together([models[0], other]) for other in models[1:])

    def _parts(self, reference: Any) -> list[TokenIds]:
        vocab = reference.vocab
        token_ids = np.array(Tokenizer(vocab).encode(self._text), np.int32)
        bos = vocab.bos_token_id if vocab.adds_bos else None
        parts = chunks(token_ids, self._n_ctx, self._n_chunks, bos)
        if not parts:
            raise CompareError(
                f"the text has {len(token_ids)} tokens, and one chunk takes n_ctx={self._n_ctx}: "
                f"give a longer text, or a smaller n_ctx"
            )
        if len(parts) < self._n_chunks:
            self._notes.append(f"the text has {len(parts)} chunks, not {self._n_chunks}")
        return parts

    @contextmanager
    def _backend(
        self,
        level: _Level,
        kv_type: str,
        *,
        n_threads: int | None = None,
        n_batch: int | None = None,
    ) -> Iterator[Any]:
        """A level loaded, with a context for one chunk whose passes are of a block of rows."""
        if level.path is None or level.file is None:
            raise CompareError(f"{level.name} has no file")
        config = self._config(level.file, kv_type)
        config = dataclasses.replace(
            config,
            n_threads=n_threads or config.n_threads,
            n_batch=n_batch or config.n_batch,
        )
        backend = LlamaBackend(level.path, config)
        try:
            backend.reserve(1, self._n_ctx)
            yield backend
        finally:
            backend.close()

    def _config(self, file: ModelFile, kv_type: str) -> ModelConfig:
        return ModelConfig(
            n_ctx=self._n_ctx,
            n_batch=rows_at_a_time(len(file.shards[0].tokens)),
            max_sequences=1,
            n_threads=self._n_threads,
            kv_type=kv_type,
        )

    def _measure_one(
        self, reference: Reference, level: _Level, row: LevelResult, parts: list[TokenIds]
    ) -> None:
        with self._backend(level, row.kv_type) as candidate:
            found = self._walk(reference, candidate, parts, row.label)
        self._set(row, **_as_fields(found))
        ours = self._reference
        if ours is not None:
            base = self._row(ours, self._kv_types[0])
            if base.perplexity is None:
                itself = dataclasses.replace(
                    found,
                    nll=found.nll_reference,
                    kld=np.zeros_like(found.kld),
                    delta_p=np.zeros_like(found.kld),
                    same_top=np.ones_like(found.kld),
                )
                self._set(base, **_as_fields(itself))

    def _walk(
        self,
        reference: Reference,
        candidate: Any,
        parts: list[TokenIds],
        what: str,
    ) -> TokenMetrics:
        found = []
        for number, part in enumerate(parts):
            theirs = reference.blocks(number)
            found.append(compare_chunk(theirs, candidate, part, reference.n_rows))
            self._step(f"quality of {what}")
        return TokenMetrics.joined(found)

    def _measure_noise(self, reference: Reference, parts: list[TokenIds]) -> None:
        """The reference against itself, with half of the threads and of the rows of a pass."""
        level = self._reference
        if level is None:
            return
        kv_type = self._kv_types[0]
        n_batch = max(1, reference.n_rows // 2)
        other = self._backend(
            level, kv_type, n_threads=max(1, self._n_threads // 2), n_batch=n_batch
        )
        with other as again:
            found = self._walk(reference, again, parts, f"{level.name} against itself")
        name = f"{level.name} against itself"
        self._noise = LevelResult(name=name, kv_type=kv_type, **_as_fields(found))
        base = self._row(level, kv_type)
        if base.perplexity is None:  # it is the only level
            self._set(base, **_as_fields(found))
        self._save()

    def _measure_texts(self) -> None:
        """Greedy texts of each level beside the reference's."""
        todo = [pair for pair in self._candidates() if pair[1].divergence_tokens is None]
        if not todo or self._reference is None:
            return
        theirs = self._texts(self._reference, self._kv_types[0])
        for level, row in todo:
            try:
                found = divergences(PROMPTS, theirs, self._texts(level, row.kv_type))
            except LocalgenError as error:
                self._set(row, error=self._said(error))
                continue
            self._set(row, divergences=found, divergence_tokens=median_tokens(found))

    def _texts(self, level: _Level, kv_type: str) -> list[Completion]:
        if level.path is None:
            raise CompareError(f"{level.name} has no file")
        with LocalModel.from_pretrained(
            level.path, n_ctx=512, kv_type=kv_type, n_threads=self._n_threads
        ) as model:
            return model.complete(list(PROMPTS), max_new_tokens=N_NEW, do_sample=False)

    # --- speed ---

    def measure_speed(self) -> None:
        """Rounds over all levels, so that a machine's drift hits all alike."""
        todo = [
            (level, self._row(level, kv_type))
            for level in self._levels
            for kv_type in self._kv_types
            if self._row(level, kv_type).error is None and level.path is not None
        ]
        todo = [(level, row) for level, row in todo if row.decode_tps is None]
        found: dict[str, list[speed_child.Measured]] = {row.label: [] for _, row in todo}
        cold: dict[str, list[float]] = {row.label: [] for _, row in todo}
        token_ids = self._speed_prompt()
        self._n_steps = self._n_done + len(todo) * (self._n_rounds + _N_COLD)
        for number in range(self._n_rounds + _N_COLD):
            for level, row in todo:
                if self._rows[row.label].error is not None:
                    continue
                task = speed_child.Task(
                    str(level.path), row.kv_type, self._n_threads, token_ids, number < _N_COLD
                )
                try:
                    measured = speed_child.measure(task)
                except LocalgenError as error:
                    self._set(row, error=self._said(error))
                    continue
                if number < _N_COLD:
                    cold[row.label].append(measured.load_seconds)
                else:
                    found[row.label].append(measured)
                    self._set(row, **_speeds(found[row.label], cold[row.label]))
                self._step(f"speed of {row.label}")

    def _speed_prompt(self) -> list[int]:
        if self._reference is None or self._reference.path is None:
            raise CompareError("there is no reference")
        with LocalModel.from_pretrained(self._reference.path, n_ctx=512) as model:
            token_ids = model.tokenizer.encode(_default_text()[: 40 * speed_child.N_PREFILL])
        return token_ids[: speed_child.N_PREFILL]


def _speeds(found: list[speed_child.Measured], cold: list[float]) -> dict[str, Any]:
    names = ("load_seconds", "prefill_tps", "decode_tps", "ttft_seconds")
    return {
        **{name: Spread.of([getattr(each, name) for each in found]) for name in names},
        "cold_load_seconds": Spread.of(cold),
        "peak_rss_bytes": max(each.peak_rss_bytes for each in found),
    }


def _as_fields(found: TokenMetrics) -> dict[str, Any]:
    return dataclasses.asdict(metrics.quality(found))


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    for each in gate.shard_paths(path):
        with each.open("rb", buffering=0) as file:
            while block := file.read(_HASHED_BYTES):
                digest.update(block)
    return digest.hexdigest()
