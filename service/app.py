"""The application: settings in, ASGI out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

import fairpos
from fairpos import FairModel
from fairpos.fitting.base import FITS
from fairpos.methods.base import METHODS
from fairpos.plugins import load_plugins
from fairpos.rankers.base import RANKERS
from fairpos.relevance.base import RELEVANCE

from .connection import CancelOnDisconnect
from .errors import ServiceError, as_service_error
from .gate import Gate
from .keys import Keys
from .logs import log
from .metrics import Metrics
from .quota import Quota
from .replies import unfit
from .routes import (
    arrange,
    calibrations,
    chat,
    completions,
    health,
    judge,
    methods,
    models,
    other_chats,
    page,
    proxied,
    rerank,
    score,
)
from .schemas.calibrations import CalibrationRequest
from .schemas.chat import ChatRequest
from .schemas.cohere_chat import CohereChatRequest
from .schemas.completions import CompletionRequest
from .schemas.judge import ArrangeRequest, JudgeRequest
from .schemas.messages import MessagesRequest, TokenCountRequest
from .schemas.rerank import RerankRequest, ScoreRequest
from .schemas.responses import ResponsesRequest
from .settings import Settings, refuse_unknown_names
from .state import Load, State
from .traces import collector_is_named
from .upstream import Upstream

_ROUTES = (health, chat, completions, other_chats, rerank, score, judge, arrange, calibrations, methods, models, page)
# What routes read by themselves, so that limits come first and a body needs no content type.
_BODIES: tuple[type[BaseModel], ...] = (
    ChatRequest,
    CompletionRequest,
    ResponsesRequest,
    MessagesRequest,
    TokenCountRequest,
    CohereChatRequest,
    RerankRequest,
    ScoreRequest,
    JudgeRequest,
    ArrangeRequest,
    CalibrationRequest,
)
_SHOWN_HEADERS = ("methods", "order", "calls", "profile")
_REFS = "#/components/schemas/{model}"
_CODES = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}


def create_app(
    settings: Settings | None = None, models_loaded: Mapping[str, FairModel] | None = None, *, alone: bool = False
) -> FastAPI:
    """Builds the service.

    Args:
        settings: None: from the environment.
        models_loaded: Models that are there already, by name, beside those that the settings name.
        alone: Whether the process does nothing else: then what is loaded is kept out of garbage collections, which
            would hold up requests.
    """
    if settings is None:
        refuse_unknown_names()
        settings = Settings()
    load_plugins(settings.plugins)
    metrics = Metrics()
    loads = _loads_of(settings, models_loaded or {})
    keys = Keys(*([key.get_secret_value() for key in keys] for keys in (settings.api_keys, settings.admin_keys)))
    quota = Quota(settings.rate_limit, settings.token_budget, settings.quota_storage)
    state = State(settings, metrics, loads, keys, quota, alone)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await _import_ahead()
        if settings.upstream is not None:
            state.upstream = Upstream(settings, metrics)
        loading = asyncio.create_task(state.load())  # the health probes answer meanwhile
        watching = asyncio.create_task(metrics.watch_loop())
        try:
            yield
        finally:
            loading.cancel()
            watching.cancel()
            await asyncio.gather(loading, watching, return_exceptions=True)
            await state.close()

    app = FastAPI(
        title="fairpos",
        version=fairpos.__version__,
        summary="Answers, rankings and verdicts that do not depend on the order of what a model is shown.",
        lifespan=lifespan,
        docs_url=None,  # its page would load scripts from elsewhere
        redoc_url=None,
        # Exports only where the operator named a collector; no texts, whatever it asks for.
        telemetry={
            "auto_configure": collector_is_named(),
            "logs": False,
            "operation_spans": False,
        },
    )
    app.state.fairpos = state
    for module in _ROUTES:
        app.include_router(module.router)
    if settings.upstream is not None:
        app.include_router(proxied.router_of(settings.proxied))
    _add_error_replies(app)
    _add_middleware(app, state)
    app.openapi = partial(_openapi_schema, app)  # type: ignore[method-assign]
    return app


def _add_error_replies(app: FastAPI) -> None:
    app.add_exception_handler(ServiceError, _reply_to_error)
    app.add_exception_handler(fairpos.FairposError, _reply_to_error)
    app.add_exception_handler(ExceptionGroup, _reply_to_error)
    app.add_exception_handler(RequestValidationError, _reply_to_unfit)
    app.add_exception_handler(HTTPException, _reply_to_http)


def _add_middleware(app: FastAPI, state: State) -> None:
    """What is around every request, the innermost first."""
    settings = state.settings
    app.add_middleware(
        CancelOnDisconnect,
        open_requests=state.open_requests,
        max_body=settings.max_body_bytes,
        body_timeout_s=settings.body_timeout_s,
        send_timeout_s=settings.send_timeout_s,
    )
    app.add_middleware(Gate, keys=state.keys, quota=state.quota, metrics=state.metrics)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["x-request-id", "retry-after", *(f"x-fairpos-{name}" for name in _SHOWN_HEADERS)],
        )


def _load_local(where: str, settings: Settings) -> FairModel:
    """A local model; a folder is meant as one only where it is there."""
    where = str(Path(where).expanduser()) if Path(where).expanduser().is_dir() else where
    fair = fairpos.load(
        where,
        dtype=settings.dtype,
        device=settings.device,
        batch_invariance=settings.batch_invariance,
        adapter=settings.adapter,
    )
    if hasattr(fair.backend, "batch_tokens"):
        fair.backend.batch_tokens = settings.batch_tokens
    return fair


def _loads_of(settings: Settings, models_loaded: Mapping[str, FairModel]) -> dict[str, Load]:
    """How each local model is loaded, by name: those that are there, then those that the settings name."""
    loads: dict[str, Load] = {name: partial(_loaded_already, fair) for name, fair in models_loaded.items()}
    for entry in settings.models:
        name, _, where = entry.partition("=")
        if not where and Path(name).is_dir():
            name, where = Path(name).resolve().name, name
        loads[name] = partial(_load_local, where or name, settings)
    return loads


async def _import_ahead() -> None:
    """Imports what the first request would import in the event loop: what is registered, and what connects."""

    def import_registered() -> None:
        for registry in (METHODS, RANKERS, RELEVANCE, FITS):
            dict(registry)

    await asyncio.to_thread(import_registered)
    getattr(anyio, "connect_tcp")  # noqa: B009 - it is imported when it is named
    await anyio.sleep(0)  # and its backend when it is first used


def _loaded_already(fair: FairModel) -> FairModel:
    return fair


async def _reply_to_error(_: Request, error: Exception) -> JSONResponse:
    told = as_service_error(error)
    if told.status >= 500:
        log.warning("refused", extra={"status": told.status, "code": told.code, "error": type(error).__name__})
    return JSONResponse(told.body, told.status, told.headers)


async def _reply_to_unfit(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    told = unfit(error.errors())
    return JSONResponse(told.body, told.status)


async def _reply_to_http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    told = ServiceError(error.status_code, _CODES.get(error.status_code, "http_error"), str(error.detail))
    return JSONResponse(told.body, told.status, error.headers)


def _openapi_schema(app: FastAPI) -> dict[str, Any]:
    """OpenAPI; bodies, which routes read themselves, are described by hand."""
    if app.openapi_schema is None:
        schema = FastAPI.openapi(app)
        parts = schema.setdefault("components", {}).setdefault("schemas", {})
        for model in _BODIES:
            body = model.model_json_schema(ref_template=_REFS)
            for name, part in body.pop("$defs", {}).items():
                parts.setdefault(name, part)
            parts[model.__name__] = body
        app.openapi_schema = schema
    return app.openapi_schema
