"""ModelPool: loads models at need, and unloads those that nobody uses. It knows no HTTP."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from localgen._util.format import as_size, counted
from localgen.errors import NotEnoughMemoryError
from localgen.serve.refusals import SERVER, Refusal, stopping
from localgen.serve.room import Room
from localgen.serve.served_model import Names, ServedModel

if TYPE_CHECKING:
    from localgen.model import LocalModel

logger = logging.getLogger(__name__)

# Loads a model, in a thread. It calls the function that it is given with the loaded fraction; an
# exception of that ends the load.
Loader = Callable[[ServedModel, Callable[[float], object]], Any]


@dataclass(slots=True, eq=False)
class _Slot:
    """A model, in memory or not. model: None unless it is loaded."""

    about: ServedModel
    model: Any = None
    loading: asyncio.Task[None] | None = None
    progress: float = 0.0
    n_users: int = 0
    n_restarts: int = 0  # of the workers that were unloaded
    last_used: float = 0.0
    timer: asyncio.TimerHandle | None = field(default=None, repr=False)

    @property
    def is_idle(self) -> bool:
        return self.model is not None and not self.n_users


class ModelPool:
    """The models of a server by name. It belongs to one event loop.

    load: called in a thread, for one model at a time; where it raises NotEnoughMemoryError, others
    are unloaded. room: what is asked before that; None loads as long as ``load`` can. idle_unload:
    seconds after which a model that nobody uses is unloaded; None is never. max_loaded: models in
    memory at a time; None is as many as fit. any_name: unknown names mean the first model.
    is_ready: whether requests find what the server was started with.
    """

    def __init__(
        self,
        models: Iterable[ServedModel],
        load: Loader,
        *,
        room: Room | None = None,
        idle_unload: float | None = None,
        max_loaded: int | None = None,
        any_name: bool = False,
    ) -> None:
        self.names = Names(models, any_name=any_name)
        self._load = load
        self._room = room
        self._idle_unload = idle_unload
        self._max_loaded = max_loaded
        self._slots = {model: _Slot(model) for model in self.names.models}
        self._lock = asyncio.Lock()  # loads and unloads, one at a time: each counts free memory
        self._unloading: set[asyncio.Task[None]] = set()
        self._is_closed = False
        self.is_ready = True

    async def preload(self) -> None:
        """Load the first model; until then the pool is not ready. Raises what loading it raises."""
        self.is_ready = False
        try:
            async with self.use(self.names.models[0].name):
                self.is_ready = True
        except Refusal as refusal:
            # To whoever starts the server, more is said than to its clients.
            if isinstance(refusal.__context__, NotEnoughMemoryError):
                raise refusal.__context__ from None
            raise

    def find(self, name: str | None) -> ServedModel:
        """Return the model of a name; None means the only one. Raises Refusal, 404 or 400."""
        return self.names.find(name)

    def state(self, model: ServedModel) -> str:
        """Return "loaded", "loading" or "unloaded"."""
        slot = self._slots[model]
        if slot.model is not None:
            return "loaded"
        return "unloaded" if slot.loading is None else "loading"

    def progress(self, model: ServedModel) -> float:
        """Return the fraction of a model that is loaded, 0 to 1."""
        return self._slots[model].progress

    def loaded(self, model: ServedModel) -> LocalModel | None:
        """Return a model if it is in memory, for a look at its settings; never use it to generate:
        it may be unloaded at any time."""
        found: LocalModel | None = self._slots[model].model
        return found

    def n_restarts(self, model: ServedModel) -> int:
        """Return how often the worker of a model has crashed and was started again."""
        slot = self._slots[model]
        return slot.n_restarts + int(getattr(slot.model, "n_restarts", 0))

    @asynccontextmanager
    async def use(self, name: str | None) -> AsyncIterator[LocalModel]:
        """Load a model if it is not, and keep it in memory while the block runs.

        It is a LocalModel, or an IsolatedModel, which has the same methods. Raises Refusal (404 for
        an unknown name, 503 if nothing can make room for it) and what loading it raises.
        """
        slot = self._slots[self.names.find(name)]
        slot.n_users += 1
        if slot.timer is not None:
            slot.timer.cancel()
        try:
            await self._loaded(slot)
            yield slot.model
        finally:
            slot.n_users -= 1
            slot.last_used = time.monotonic()
            self._unload_later(slot)

    async def close(self) -> None:
        """Close every model; calls that still run end with ClosedError."""
        self._is_closed = True
        for slot in self._slots.values():
            if slot.timer is not None:
                slot.timer.cancel()
        async with self._lock:
            for slot in self._slots.values():
                await self._unload(slot)

    async def _loaded(self, slot: _Slot) -> None:
        """Return when a model is loaded. A load that fails fails for all who wait for it."""
        if self._is_closed:
            raise stopping()
        if slot.model is not None:
            return
        if slot.loading is None:
            slot.loading = asyncio.create_task(self._load_slot(slot))
        # Whoever goes away does not end the load for the others.
        await asyncio.shield(slot.loading)

    async def _load_slot(self, slot: _Slot) -> None:
        try:
            async with self._lock:
                await self._make_place(slot)
                slot.model = await self._load_or_make_room(slot)
        finally:
            slot.loading = None
            slot.last_used = time.monotonic()
            self._unload_later(slot)

    async def _load_or_make_room(self, slot: _Slot) -> Any:
        """Return the loaded model; unload others, the least recently used first, until it fits."""
        started = time.monotonic()
        while True:
            slot.progress = 0.0
            try:
                if self._room is not None:
                    self._room.check(slot.about, _n_bytes(self._loaded_slots))
                model = await asyncio.to_thread(self._load, slot.about, self._note(slot))
            except NotEnoughMemoryError as error:
                self._refuse_what_never_fits(slot, error)
                await self._unload_idle(slot, _no_room(error))
                continue
            logger.info("loaded %s in %.1f s", slot.about.name, time.monotonic() - started)
            return model

    def _refuse_what_never_fits(self, wanted: _Slot, error: NotEnoughMemoryError) -> None:
        """Raise a Refusal if a model would not fit without the idle ones either."""
        in_use = [slot for slot in self._loaded_slots if not slot.is_idle]
        most = None if self._room is None else self._room.most_for(error, _n_bytes(in_use))
        if most is not None and error.needed > most:
            raise self._no_place(wanted, _no_room(error, most))

    def _note(self, slot: _Slot) -> Callable[[float], object]:
        def note(fraction: float) -> None:
            if self._is_closed:
                raise stopping()
            slot.progress = fraction

        return note

    async def _make_place(self, slot: _Slot) -> None:
        """Unload until fewer than ``max_loaded`` models are in memory."""
        while self._max_loaded is not None:
            n_loaded = len(self._loaded_slots)
            if n_loaded < self._max_loaded:
                return
            why = f"this server keeps no more than {counted(n_loaded, 'model')} in memory"
            await self._unload_idle(slot, why)

    async def _unload_idle(self, wanted: _Slot, why: str) -> None:
        """Unload the model that was not used for longest; a Refusal with ``why`` if none can go."""
        idle = [slot for slot in self._loaded_slots if slot.is_idle]
        if not idle:
            raise self._no_place(wanted, why)
        await self._unload(min(idle, key=lambda slot: slot.last_used))

    def _no_place(self, wanted: _Slot, why: str) -> Refusal:
        in_use = [slot.about.name for slot in self._loaded_slots if not slot.is_idle]
        others = f", and {', '.join(in_use)} cannot be unloaded while in use" if in_use else ""
        now = " now" if in_use else ""
        return Refusal(
            503,
            f"the model {wanted.about.name} cannot be loaded{now}: {why}{others}",
            type=SERVER,
            param="model",
            code="no_room_for_model",
            retry_after=10 if in_use else None,
        )

    @property
    def _loaded_slots(self) -> list[_Slot]:
        return [slot for slot in self._slots.values() if slot.model is not None]

    async def _unload(self, slot: _Slot) -> None:
        """Close a model; whoever wants it from now on loads it again."""
        model, slot.model = slot.model, None
        if model is not None:
            slot.n_restarts += int(getattr(model, "n_restarts", 0))
            await asyncio.to_thread(model.close)
            logger.info("unloaded %s", slot.about.name)

    def _unload_later(self, slot: _Slot) -> None:
        if slot.is_idle and self._idle_unload is not None and not self._is_closed:
            loop = asyncio.get_running_loop()
            slot.timer = loop.call_later(self._idle_unload, self._start_unload, slot)

    def _start_unload(self, slot: _Slot) -> None:
        task = asyncio.create_task(self._unload_if_idle(slot))
        self._unloading.add(task)
        task.add_done_callback(self._unloading.discard)

    async def _unload_if_idle(self, slot: _Slot) -> None:
        async with self._lock:
            if slot.is_idle:
                await self._unload(slot)


def _n_bytes(slots: Iterable[_Slot]) -> int:
    """Return the bytes of the files of some models."""
    return sum(slot.about.n_bytes for slot in slots)


def _no_room(error: NotEnoughMemoryError, most: int | None = None) -> str:
    """Return why a model does not fit. most: what would be available without idle models."""
    needs = f"it needs {as_size(error.needed)} of memory and"
    if most is None:
        return f"{needs} {as_size(error.available)} are available"
    return f"{needs} {as_size(most)} would be available without those that are idle"
