"""Runs the application under uvicorn until it is told to stop, in one process or in several that share a port.

SIGTERM: readiness says "draining" at once; `drain_notice_s` later the port is closed; requests that are there may take
until `drain_s` after the signal, then they are told that the service ends; the process has ended 2 seconds later,
whatever a thread of it is doing. SIGINT does the same without the notice.
"""

from __future__ import annotations

import asyncio
import math
import multiprocessing
import os
import signal
import socket
import threading
import time
from contextlib import suppress
from multiprocessing.process import BaseProcess
from types import FrameType

import uvicorn
from fastapi import FastAPI

from fairpos.errors import InvalidOption

from .app import create_app
from .logs import configure, log
from .patience import PatientProtocol
from .settings import Settings
from .state import State

_KEEP_ALIVE_S = 30  # longer than most clients' pools keep a connection, so that they don't meet a closed one
_BACKLOG = 2048
_AFTER_DRAIN_S = 0.5  # for error events to be sent
_FORCED_S = 1.0  # after the drain, for threads that don't end


class Server(uvicorn.Server):
    """Stops taking requests at SIGTERM or SIGINT; those that are there may finish.

    Args:
        config: Of uvicorn.
        settings: How long things may take.
        forced: Whether the process is ended where its threads don't; only for a process that does nothing else.
    """

    def __init__(self, config: uvicorn.Config, settings: Settings, *, forced: bool = False) -> None:
        super().__init__(config)
        self._settings = settings
        self._forced = forced
        self._serving: asyncio.AbstractEventLoop | None = None
        self._ending = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Remembers the loop, for signals."""
        self._serving = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Said to the readiness probe too, and before the port is closed."""
        if self._ending or self._serving is None:
            super().handle_exit(sig, frame)
            return
        self._captured_signals.append(sig)
        notice = min(self._settings.drain_notice_s, self._settings.drain_s) if sig == signal.SIGTERM else 0.0
        self._serving.call_soon_threadsafe(self._begin_drain, notice)
        if self._forced:
            timer = threading.Timer(self._settings.drain_s + _FORCED_S, _end_process, [sig])
            timer.daemon = True
            timer.start()
        self._ending = True
        self._app_state.draining = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Closes the port, waits for what is being answered, and tells it to end when its time is over."""
        if not self._ending:
            self._ending = True
            self._begin_drain(0.0)
        await super().shutdown(sockets)

    def _begin_drain(self, notice_s: float) -> None:
        self._app_state.draining = True
        loop = asyncio.get_running_loop()
        loop.call_later(notice_s, self._close_port)
        loop.call_later(self._settings.drain_s, self._app_state.end_requests)

    def _close_port(self) -> None:
        self.should_exit = True

    @property
    def _app_state(self) -> State:
        app = self.config.app
        assert isinstance(app, FastAPI)
        state: State = app.state.fairpos
        return state


def server(app: FastAPI, settings: Settings, *, forced: bool = False) -> Server:
    """A server that isn't running yet."""
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=PatientProtocol.waiting(settings.header_timeout_s),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=math.ceil(settings.drain_s + _AFTER_DRAIN_S),
        backlog=_BACKLOG,
    )
    return Server(config, settings, forced=forced)


def run(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT.

    Raises:
        InvalidOption: the address is taken, or not ours.
    """
    configure(settings.log_level, settings.log_format)
    listening = _open_port(settings)
    host, port = listening.getsockname()[:2]
    log.info("serving", extra={"url": f"http://{f'[{host}]' if ':' in host else host}:{port}/"})
    if settings.host in ("0.0.0.0", "::") and not (settings.api_keys or settings.admin_keys):
        log.warning("listening on all interfaces without keys: set FAIRPOS_API_KEYS", extra={"host": settings.host})
    if settings.workers == 1:
        _run_worker(settings, listening)
    else:
        Workers(settings, listening).run()


def _open_port(settings: Settings) -> socket.socket:
    listening = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.port))
        listening.listen(_BACKLOG)  # whoever connects from now on waits until the service is up
    except OSError as error:
        listening.close()
        raise InvalidOption(f"can't listen on {settings.host}, port {settings.port}: {error.strerror}") from None
    return listening


def _run_worker(settings: Settings, listening: socket.socket) -> None:
    server(create_app(settings, alone=True), settings, forced=True).run(sockets=[listening])


def _start_worker(settings: Settings, listening: socket.socket) -> None:
    """The first thing that a process of several does."""
    configure(settings.log_level, settings.log_format)
    _run_worker(settings, listening)


def _end_process(sig: int) -> None:
    """Ends the process as the signal would have: a thread of it (a forward pass, a file) doesn't."""
    log.warning("forced to end: a thread still runs")
    os._exit(128 + sig)


class Workers:
    """Several processes that share one port; one that dies is replaced.

    Args:
        settings: Of each of them.
        listening: The port, open.
    """

    def __init__(self, settings: Settings, listening: socket.socket) -> None:
        self._settings = settings
        self._listening = listening
        self._context = multiprocessing.get_context("spawn")  # nothing of this process's threads goes over
        self._processes: list[BaseProcess] = []
        self._stopping = threading.Event()

    def run(self) -> None:
        """Keeps them running until SIGTERM or SIGINT, which they are sent too; then waits for them."""
        for sig in (signal.SIGTERM, signal.SIGINT):
            signal.signal(sig, self._stop_workers)
        self._processes = [self._start_process() for _ in range(self._settings.workers)]
        while not self._stopping.wait(0.5):
            for place, process in enumerate(self._processes):
                if not process.is_alive():
                    log.error("a worker died and is replaced", extra={"status": process.exitcode})
                    self._processes[place] = self._start_process()
        end = time.monotonic() + self._settings.drain_s + _FORCED_S
        for process in self._processes:
            process.join(max(0.1, end - time.monotonic()))
            if process.is_alive():
                process.kill()

    def _start_process(self) -> BaseProcess:
        process = self._context.Process(target=_start_worker, args=(self._settings, self._listening))
        process.start()
        return process

    def _stop_workers(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self._stopping.set()
        for process in self._processes:
            with suppress(ProcessLookupError, AttributeError):
                os.kill(process.pid or 0, signal.SIGTERM)
