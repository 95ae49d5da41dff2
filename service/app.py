"""The application: settings in, ASGI out."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

import fairpos
from fairpos import FairModel

from .connection import CancelOnDisconnect
from .errors import ServiceError, as_service_error
from .gate import Gate
from .logs import log
from .metrics import Metrics
from .replies import unfit
from .routes import arrange, calibrations, chat, health, judge, methods, models, page, rerank
from .schemas import ChatRequest
from .settings import Settings
from .state import State
from .upstream import Upstream

_REFS = "#/components/schemas/{model}"
_CODES = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}


def create_app(settings: Settings | None = None, models_loaded: Mapping[str, FairModel] | None = None) -> FastAPI:
    """Builds the service.

    Args:
        settings: None: from the environment.
        models_loaded: Models that are there already, by name, beside those that the settings name.
    """
    settings = settings or Settings()
    metrics = Metrics()
    loads = {name: partial(_given, fair) for name, fair in (models_loaded or {}).items()}
    for entry in settings.models:
        name, _, where = entry.partition("=")
        if not where and Path(name).is_dir():
            name, where = Path(name).resolve().name, name
        loads[name] = partial(_load, where or name, settings)
    state = State(settings, metrics, loads)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if settings.upstream is not None:
            state.upstream = Upstream(settings, metrics)
        loading = asyncio.create_task(state.load())  # the health probes answer meanwhile
        try:
            yield
        finally:
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
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
            "auto_configure": bool(os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")),
            "logs": False,
            "operation_spans": False,
        },
    )
    app.state.fairpos = state
    for module in (health, chat, rerank, judge, arrange, calibrations, methods, models, page):
        app.include_router(module.router)
    app.add_exception_handler(Exception, _failed)
    app.add_exception_handler(ServiceError, _told)
    app.add_exception_handler(fairpos.FairposError, _told)
    app.add_exception_handler(RequestValidationError, _unfit)
    app.add_exception_handler(HTTPException, _http)
    app.add_middleware(CancelOnDisconnect, max_body=settings.max_body_bytes)
    app.add_middleware(Gate, keys=[key.get_secret_value() for key in settings.api_keys], metrics=metrics)
    app.openapi = partial(_openapi, app)  # type: ignore[method-assign]
    return app


def _given(fair: FairModel) -> FairModel:
    return fair


def _load(where: str, settings: Settings) -> FairModel:
    """A local model; a folder is meant as one only where it is there."""
    where = str(Path(where).expanduser()) if Path(where).expanduser().is_dir() else where
    fair = fairpos.load(where, dtype=settings.dtype, device=settings.device)
    if hasattr(fair.backend, "batch_tokens"):
        fair.backend.batch_tokens = settings.batch_tokens
    return fair


async def _told(_: Request, error: Exception) -> JSONResponse:
    told = as_service_error(error)
    return JSONResponse(told.body, told.status, told.headers)


async def _unfit(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    if any(e["type"] == "json_invalid" for e in error.errors()):
        told = ServiceError(400, "invalid_json", "the body is not JSON")
    else:
        told = unfit(error.errors())
    return JSONResponse(told.body, told.status)


async def _http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    told = ServiceError(error.status_code, _CODES.get(error.status_code, "http_error"), str(error.detail))
    return JSONResponse(told.body, told.status, error.headers)


async def _failed(_: Request, error: Exception) -> JSONResponse:
    log.error("request failed", exc_info=error)
    told = as_service_error(error)
    return JSONResponse(told.body, told.status)


def _openapi(app: FastAPI) -> dict[str, Any]:
    """OpenAPI; the chat body, which is passed on as it is, is described by hand."""
    if app.openapi_schema is None:
        schema = FastAPI.openapi(app)
        chat = ChatRequest.model_json_schema(ref_template=_REFS)
        parts = schema.setdefault("components", {}).setdefault("schemas", {})
        for name, part in chat.pop("$defs", {}).items():
            parts.setdefault(name, part)
        parts["ChatRequest"] = chat
        app.openapi_schema = schema
    return app.openapi_schema
