"""Every other path of the upstream that the settings let pass, as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fastapi import APIRouter, Request, Response

from ..bodies import read_content
from ..errors import ServiceError
from ..prefix import below_prefix
from ..replies import ERRORS
from ..state import State, state_of


def router_of(paths: Sequence[str]) -> APIRouter:
    """Routes for these paths; `*` at the end of one stands for anything."""
    router = APIRouter(include_in_schema=False, responses=ERRORS)
    for path in paths:
        template = f"{path[:-1]}{{rest:path}}" if path.endswith("*") else path
        router.add_api_route(template, pass_on, methods=["GET", "POST", "DELETE"], response_class=Response)
    return router


async def pass_on(request: Request) -> Response:
    """Passes the request on.

    Raises:
        ServiceError: 404 there is no upstream, or the path is none that may pass.
    """
    state = state_of(request)
    path = below_prefix(request.url.path, request.scope)
    if state.upstream is None or not steps_down(path) or not may_pass(state, path):
        raise ServiceError(404, "not_found", f"there is no {request.method} {path} here")
    content = await read_content(request, state.settings)
    # The upstream's address ends with /v1; paths beside it begin at the server's root.
    at_root = not path.startswith("/v1/")
    query = f"?{request.url.query}" if request.url.query else ""
    return await state.upstream.relay(request, path.removeprefix("/v1") + query, content, root=at_root)


def may_pass(state: State, path: str) -> bool:
    """Whether the settings let a path pass to the upstream."""
    return any(
        path.startswith(named[:-1]) if named.endswith("*") else path == named for named in state.settings.proxied
    )


def model_of(body: Mapping[str, object]) -> str | None:
    """The model that a body names.

    Raises:
        ServiceError: 422 its name is no text.
    """
    model = body.get("model")
    if model is not None and not isinstance(model, str):
        raise ServiceError(422, "invalid_request", "model must be text", param="model")
    return model


def steps_down(path: str) -> bool:
    """Whether each part of a path leads further down, in whatever spelling: not to what the settings don't name."""
    parts = path.split("/")[1:]
    return not any(part in ("..", ".", "") for part in parts) and "\\" not in path and "%" not in path
