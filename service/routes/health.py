"""Is the process there, can it serve, and what did it do: /health/live, /health/ready, /metrics."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST

from ..state import state_of

router = APIRouter(tags=["operations"])


@router.get("/health/live")
async def live() -> dict[str, str]:
    """The process answers."""
    return {"status": "live"}


@router.get("/health/ready", responses={503: {"description": "Not (yet) ready."}})
async def ready(request: Request) -> JSONResponse:
    """Every local model is loaded and its worker runs. An upstream isn't asked: its failures are its own."""
    state = state_of(request)
    models = {
        name: "ready" if name in state.engines else "failed" if name in state.failed else "loading"
        for name in state.loads
    }
    body = {"status": "ready" if state.ready else "draining" if state.draining else "not ready", "models": models}
    return JSONResponse(body, 200 if state.ready else 503)


@router.get("/metrics", responses={200: {"content": {"text/plain": {}}}}, response_class=Response)
async def metrics(request: Request) -> Response:
    """Prometheus."""
    return Response(state_of(request).metrics.text(), media_type=CONTENT_TYPE_LATEST)
