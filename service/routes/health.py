"""Is the process there, can it serve, and what did it do: probes, /metrics, /version; and taking it out of service."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST

import fairpos

from ..errors import ServiceError
from ..state import check_admin, state_of

router = APIRouter(tags=["operations"])


@router.get("/health")
@router.get("/health/live")
@router.get("/ping")
async def live() -> dict[str, str]:
    """The process answers. `/health` and `/ping` are what probes of other servers ask for."""
    return {"status": "live"}


@router.get("/version")
async def version() -> dict[str, str]:
    """Of fairpos."""
    return {"version": fairpos.__version__}


@router.post("/v1/drain")
async def drain(request: Request) -> dict[str, str]:
    """Makes readiness say "draining" from now on, so that no more requests are sent here; those that come are served.

    For administrators, and only where there are keys: a page in a browser may post to an open service too.
    """
    state = state_of(request)
    if not state.keys.any:
        raise ServiceError(403, "admin_only", "this wants one of the keys of FAIRPOS_ADMIN_KEYS, and there are none")
    check_admin(request)
    state.draining = True
    return {"status": "draining"}


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
