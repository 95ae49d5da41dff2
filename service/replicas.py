"""The application in replicas of Ray Serve: on several cores, GPUs or machines behind one address.

A replica is the same application as in one process (`create_app`), built where it runs. It is asked once its models are
loaded. Ray's proxy passes requests on, streams replies as they come, and cancels what a client no longer waits for.
What a process counts for itself (quotas in memory, metrics, draining) a replica counts for itself.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fairpos.engines.on_ray import Ray
from fairpos.errors import InvalidOption, ModelUnavailable
from fairpos.extras import missing_extra

from .app import create_app
from .logs import configure, log
from .settings import Settings
from .state import State

_APPLICATION = "fairpos"
_POLL_S = 0.1
_ONGOING = 1000  # requests of a replica at once; the service has limits of its own, which say why
# What a replica needs of this process's environment beside the settings.
_ENVIRONMENT = ("FAIRPOS_CACHE", "FAIRPOS_PROFILES", "OMP_NUM_THREADS", "OTEL_EXPORTER_OTLP_ENDPOINT")

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[Any]]


def builder_of(settings: Settings) -> Callable[[], FastAPI]:
    """What builds the application in a replica."""

    def build() -> FastAPI:
        configure(settings.log_level, settings.log_format)
        app = create_app(settings, alone=True)
        app.router.lifespan_context = with_models_loaded(app.router.lifespan_context, app.state.fairpos)
        app.add_middleware(WithoutRequestId)
        return app

    return build


class WithoutRequestId:
    """Leaves `x-request-id` to Ray's proxy, which sends the same one: clients would read it twice in one header."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""

        async def send_without(message: Message) -> None:
            if message["type"] == "http.response.start":
                del MutableHeaders(scope=message)["x-request-id"]
            await send(message)

        await self.app(scope, receive, send_without)


def with_models_loaded(lifespan: Lifespan, state: State) -> Lifespan:
    """A lifespan that begins when every model is loaded: until then Ray sends the replica nothing.

    Raises (where it is entered):
        ModelUnavailable: one can't be loaded.
    """

    @asynccontextmanager
    async def begun(app: FastAPI) -> AsyncIterator[Any]:
        async with lifespan(app) as given:
            while not state.ready and not state.failed:
                await asyncio.sleep(_POLL_S)
            for name, reason in state.failed.items():
                raise ModelUnavailable(f"{name!r} can't be loaded: {reason}")
            yield given

    return begun


def deploy(settings: Settings, ray: Ray) -> None:
    """Starts the replicas; returns when all of them can be asked.

    Args:
        settings: Of each replica; the address is the proxies'.
        ray: The cluster; `workers` is how many replicas, 1 where it isn't said.

    Raises:
        MissingDependency: Ray Serve isn't installed.
        InvalidOption: several workers a replica, or a free port.
        BackendError: the cluster can't be joined.
        ModelUnavailable: replicas don't start.
    """
    if settings.workers != 1:
        raise InvalidOption("--workers are processes on one machine; with --engine ray take --replicas")
    if settings.port == 0:
        raise InvalidOption("--engine ray needs a port that is said, not 0")
    ray.connect()
    _import_serve().start(http_options={"host": settings.host, "port": settings.port, "request_timeout_s": None})
    start_application(settings, ray)
    told = {"url": f"http://{settings.host}:{settings.port}/", "replicas": ray.workers or 1}
    log.info("serving", extra=told)


def start_application(settings: Settings, ray: Ray, name: str = _APPLICATION, prefix: str = "/") -> None:
    """Starts replicas behind proxies that are there.

    Args:
        settings: Of each replica; its address counts for nothing.
        ray: What a replica takes, and how many there are.
        name: Of the application in Ray.
        prefix: Where its paths begin.

    Raises:
        MissingDependency: Ray Serve isn't installed.
        ModelUnavailable: replicas don't start.
    """
    serve = _import_serve()
    deployment = serve.deployment(
        serve.ingress(builder_of(settings))(),
        name=name,
        num_replicas=ray.workers or 1,
        max_ongoing_requests=_ONGOING,
        graceful_shutdown_timeout_s=settings.drain_s,
        ray_actor_options={
            "num_cpus": ray.cpus,
            "num_gpus": ray.gpus,
            "runtime_env": {"env_vars": {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}},
        },
    )
    try:
        serve.run(deployment.bind(), name=name, route_prefix=prefix, logging_config={"enable_access_log": False})
    except RuntimeError as error:
        raise ModelUnavailable(f"the replicas don't start: {error}") from None


def run_replicas(settings: Settings, ray: Ray) -> None:
    """Serves until SIGTERM or SIGINT; then what is being answered may take `drain_s`.

    Raises:
        FairposError: see `deploy`.
    """
    configure(settings.log_level, settings.log_format)
    deploy(settings, ray)
    ending = threading.Event()
    for sig in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sig, lambda *_: ending.set())
    while not ending.wait(1.0):  # not without a limit: some systems can't interrupt such a wait
        pass
    _import_serve().delete(_APPLICATION)


def _import_serve() -> Any:
    try:
        from ray import serve
    except ImportError as error:
        raise missing_extra("--engine ray needs Ray Serve", "ray", error) from None
    return serve
