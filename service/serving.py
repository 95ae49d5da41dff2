"""Runs the application under uvicorn until it is told to stop."""

from __future__ import annotations

import socket
from types import FrameType

import uvicorn
from fastapi import FastAPI

from fairpos.errors import InvalidOption

from .app import create_app
from .logs import configure, log
from .settings import Settings

_KEEP_ALIVE_S = 30  # longer than most clients' pools keep a connection, so that they don't meet a closed one
_BACKLOG = 2048


class Server(uvicorn.Server):
    """Stops taking requests at SIGTERM or SIGINT; those that are there may finish."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Said to the readiness probe too."""
        app = self.config.app
        if isinstance(app, FastAPI):
            app.state.fairpos.draining = True
        super().handle_exit(sig, frame)


def server(app: FastAPI, settings: Settings) -> Server:
    """A server that isn't running yet."""
    return Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=max(1, round(settings.drain_s)),
            backlog=_BACKLOG,
        )
    )


def run(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT.

    Raises:
        InvalidOption: the address is taken, or not ours.
    """
    configure(settings.log_level, settings.log_format)
    config = server(create_app(settings), settings)
    listening = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.port))
        listening.listen(_BACKLOG)  # whoever connects from now on waits until the service is up
    except OSError as error:
        listening.close()
        raise InvalidOption(f"can't listen on {settings.host}, port {settings.port}: {error.strerror}") from None
    host, port = listening.getsockname()[:2]
    log.info("serving", extra={"url": f"http://{f'[{host}]' if ':' in host else host}:{port}/"})
    config.run(sockets=[listening])
