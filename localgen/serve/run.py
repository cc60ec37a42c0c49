"""Runs the server: from its socket to the end of the last request."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from types import FrameType

import uvicorn
from uvicorn.server import HANDLED_SIGNALS

from localgen._util.format import counted
from localgen.serve.admission import Admission
from localgen.serve.app import create_app
from localgen.serve.config import ServeConfig
from localgen.serve.listening import BACKLOG, url_of
from localgen.serve.pool import ModelPool
from localgen.serve.protocol import HttpProtocol

logger = logging.getLogger(__name__)

# Requests that were cut send their last words; what is left then is cancelled.
_SECONDS_FOR_LAST_WORDS = 3
_TICK = 0.05
# asyncio accepts so many connections before it looks at one, and where the process has no more open
# files it fails, and writes a traceback, as often.
_ACCEPTED_TOGETHER = 32


def serve_on(
    listener: socket.socket,
    pool: ModelPool,
    config: ServeConfig,
    started: Callable[[str], object],
) -> None:
    """Serve a pool's models until SIGTERM or Ctrl-C, then end gracefully.

    listener: a listening socket. started: called with the URL once connections are accepted. Raises
    what loading the first model raises, if it is loaded at the start.
    """
    app = create_app(pool, config)
    asyncio_config = uvicorn.Config(
        app,
        http=HttpProtocol,
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        backlog=_ACCEPTED_TOGETHER,
        access_log=False,
        proxy_headers=False,  # an address that a client states itself is not its address
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=_SECONDS_FOR_LAST_WORDS,
    )
    admissions = (app.state.admission, app.state.text_admission)
    server = _Server(asyncio_config, pool, admissions, config, started)
    asyncio.run(server.run_on(listener))
    if server.error is not None:
        raise server.error


class _Server(uvicorn.Server):
    """uvicorn's server, which at its end answers new requests with 503 while others finish."""

    def __init__(
        self,
        uvicorn_config: uvicorn.Config,
        pool: ModelPool,
        admissions: tuple[Admission, ...],
        config: ServeConfig,
        started: Callable[[str], object],
    ) -> None:
        super().__init__(uvicorn_config)
        self._pool = pool
        self._admissions = admissions
        self._serve_config = config
        self._started = started
        self._is_urgent = False
        self.error: BaseException | None = None

    async def run_on(self, listener: socket.socket) -> None:
        """Serve on a socket until a signal comes."""
        try:
            await self.serve(sockets=[listener])
        finally:
            await self._pool.close()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections, and load the first model."""
        if self._serve_config.preload:  # first, so that nobody finds a server that seems ready
            self._preloading = asyncio.create_task(self._preload())
        await super().startup(sockets)
        for listener in sockets or []:
            listener.listen(BACKLOG)  # asyncio has told the system its own number
        self._started(url_of((sockets or [])[0]))

    async def _preload(self) -> None:
        try:
            await self._pool.preload()
        except BaseException as error:
            if not self.should_exit:
                self.error = error
                self.should_exit = True

    async def main_loop(self) -> None:
        """Serve until a signal, then let those end that run."""
        await super().main_loop()
        if self.error is None:
            await self._finish()
        for each in self._admissions:
            each.cut()

    async def _finish(self) -> None:
        """Wait for the requests that run, as long as they may take."""
        for each in self._admissions:
            each.stop()
        seconds = self._serve_config.shutdown_seconds
        if n_requests := self._n_requests:
            logger.info(
                "stopping: %s may take %g s to end; Ctrl-C again cuts them",
                counted(n_requests, "request"),
                seconds,
            )
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while self._n_requests and loop.time() < end and not self._is_urgent:
            await asyncio.sleep(_TICK)

    @property
    def _n_requests(self) -> int:
        """Requests that run."""
        return sum(each.n_requests for each in self._admissions)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note a signal; a second one cuts the requests that run."""
        self._is_urgent = self.should_exit
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals; a server that was stopped by one has ended as it should."""
        previous = {each: signal.signal(each, self.handle_exit) for each in HANDLED_SIGNALS}
        try:
            yield
        finally:
            for each, handler in previous.items():
                signal.signal(each, handler)


def log_to_stderr() -> None:
    """Let the server's log go to stderr, with the time of each line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    for name, level in (("localgen.serve", logging.INFO), ("localgen.worker", logging.WARNING)):
        own = logging.getLogger(name)
        own.addHandler(handler)
        own.setLevel(level)
        own.propagate = False
